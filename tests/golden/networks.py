"""The networks of src/models in PyTorch, with any number of channels, under torchvision's names."""

from collections import OrderedDict

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
