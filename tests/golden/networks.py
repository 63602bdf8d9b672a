"""The networks of src/models in PyTorch, with any number of channels, under torchvision's names."""

from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride, option, last_relu, eps):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out, eps)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out, eps)
        self.front = (c_out - c_in) // 2
        self.back = c_out - c_in - self.front
        self.last_relu = last_relu
        self.downsample = None
        if option == "b" and (stride != 1 or c_in != c_out):
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out, eps))
        self.stride = stride

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.front, self.back))
        y = y + x
        return F.relu(y) if self.last_relu else y


class ResNet(nn.Module):
    def __init__(self, widths, blocks, option, last_relu, outputs, eps=1e-5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0], eps)
        c_in = widths[0]
        for i, (width, n) in enumerate(zip(widths, blocks)):
            stage = []
            for j in range(n):
                last = i + 1 == len(widths) and j + 1 == n
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(Block(c_in, width, stride, option, last_relu or not last, eps))
                c_in = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.stages = len(widths)
        self.fc = nn.Linear(c_in, outputs)

    def features(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return x.mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


class PreActBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False))

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(activated)
        return x + self.conv2(F.relu(self.bn2(self.conv1(activated))))


class PreActResNet(nn.Module):
    def __init__(self, widths, blocks, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        c_in = widths[0]
        for i, (width, n) in enumerate(zip(widths, blocks)):
            stage = []
            for j in range(n):
                stage.append(PreActBlock(c_in, width, 2 if i > 0 and j == 0 else 1))
                c_in = width
            setattr(self, f"stage{i + 1}", nn.Sequential(*stage))
        self.stages = len(widths)
        self.bn_last = nn.BatchNorm2d(c_in)
        self.last = nn.Linear(c_in, outputs)

    def features(self, x):
        x = self.conv1(x)
        for i in range(self.stages):
            x = getattr(self, f"stage{i + 1}")(x)
        return F.relu(self.bn_last(x)).mean((2, 3))

    def forward(self, x):
        return self.last(self.features(x))


class WideBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if c_in != c_out else None

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return y + (x if self.convShortcut is None else self.convShortcut(activated))


class WideResNet(nn.Module):
    def __init__(self, first, widths, n_blocks, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        c_in = first
        for i, width in enumerate(widths):
            layer = []
            for j in range(n_blocks):
                layer.append(WideBlock(c_in, width, 2 if i > 0 and j == 0 else 1))
                c_in = width
            setattr(self, f"block{i + 1}", nn.Sequential(OrderedDict(layer=nn.Sequential(*layer))))
        self.bn1 = nn.BatchNorm2d(c_in)
        self.fc = nn.Linear(c_in, outputs)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


def vgg11(widths, outputs):
    layers, c_in = [], 3
    for width in widths:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(c_in, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
            c_in = width
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*layers), flatten=nn.Flatten(), classifier=nn.Linear(c_in, outputs)
        )
    )


def vgg11_slim(widths, hidden, pixels, outputs):
    layers, c_in = [], 3
    for width in widths:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(c_in, width, 3, 1, 1), nn.ReLU()]
            c_in = width
    head = [nn.Linear(c_in * pixels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*layers), flatten=nn.Flatten(), classifier=nn.Sequential(*head, nn.Linear(hidden, outputs))
        )
    )


class DilatedBlock(nn.Module):
    def __init__(self, c_in, c_out, stride, dilation):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Pooling(nn.Sequential):
    def __init__(self, c_in, c_out):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, x):
        return F.interpolate(super().forward(x), x.shape[2:], mode="bilinear", align_corners=False)


class Pyramid(nn.Module):
    """torchvision's ASPP without its dropout."""

    def __init__(self, c_in, rates, c_out):
        super().__init__()

        def part(kernel, rate):
            conv = nn.Conv2d(c_in, c_out, kernel, padding=0 if kernel == 1 else rate, dilation=rate, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())

        self.convs = nn.ModuleList([part(1, 1), *(part(3, rate) for rate in rates), Pooling(c_in, c_out)])
        joined = nn.Conv2d(c_out * len(self.convs), c_out, 1, bias=False)
        self.project = nn.Sequential(joined, nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, x):
        return self.project(torch.cat([conv(x) for conv in self.convs], 1))


class DeepLabLite(nn.Module):
    def __init__(self, widths, pyramid, outputs):
        super().__init__()
        first, second, third = widths
        stem = [("conv1", nn.Conv2d(3, first, 3, 2, 1, bias=False)), ("bn1", nn.BatchNorm2d(first)), ("relu", nn.ReLU())]
        blocks = [(first, first, 1, 1), (first, second, 2, 1), (second, third, 1, 2)]
        stages = [(f"layer{i + 1}", nn.Sequential(DilatedBlock(*block))) for i, block in enumerate(blocks)]
        self.backbone = nn.Sequential(OrderedDict(stem + stages))
        self.classifier = nn.Sequential(Pyramid(third, [2, 4], pyramid), nn.Conv2d(pyramid, outputs, 1))

    def forward(self, x):
        y = self.classifier(self.backbone(x))
        return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


class DeepLab(nn.Module):
    """torchvision's `deeplabv3` without its dropout, on a residual network of plain blocks whose last stage has dilation 2."""

    def __init__(self, widths, blocks, pyramid, outputs):
        super().__init__()
        first = widths[0]
        stem = [("conv1", nn.Conv2d(3, first, 7, 2, 3, bias=False)), ("bn1", nn.BatchNorm2d(first)), ("relu", nn.ReLU())]
        stages = [("maxpool", nn.MaxPool2d(3, 2, 1))]
        c_in = first
        for i, (width, n) in enumerate(zip(widths, blocks)):
            stage = []
            for j in range(n):
                stage.append(DilatedBlock(c_in, width, 2 if i in (1, 2) and j == 0 else 1, 2 if i == 3 else 1))
                c_in = width
            stages.append((f"layer{i + 1}", nn.Sequential(*stage)))
        self.backbone = nn.Sequential(OrderedDict(stem + stages))
        more = [nn.Conv2d(pyramid, pyramid, 3, padding=1, bias=False), nn.BatchNorm2d(pyramid), nn.ReLU()]
        self.classifier = nn.Sequential(Pyramid(c_in, [6, 12, 18], pyramid), *more, nn.Conv2d(pyramid, outputs, 1))

    def forward(self, x):
        y = self.classifier(self.backbone(x))
        return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
