"""Golden networks, computed by PyTorch: one safetensors file per network in `networks/`, beside this script.

    python make_networks.py

Each file holds the state dict of a narrow network under PyTorch's names, a batch `golden.input` with `golden.labels`, the
logits in eval mode (`golden.eval`) and in training mode (`golden.train`), the mean cross-entropy's gradient of every
parameter in training mode (`golden.grad.<name>`), and the running statistics after that forward pass
(`golden.after.<name>`). Everything is computed in float64 from float32 inputs and rounded once, at the end.
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride, option, last_relu):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.front = (c_out - c_in) // 2
        self.back = c_out - c_in - self.front
        self.last_relu = last_relu
        self.downsample = None
        if option == "b" and (stride != 1 or c_in != c_out):
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
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
    def __init__(self, widths, blocks, option, last_relu, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        c_in = widths[0]
        for i, (width, n) in enumerate(zip(widths, blocks)):
            stage = []
            for j in range(n):
                last = i + 1 == len(widths) and j + 1 == n
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(Block(c_in, width, stride, option, last_relu or not last))
                c_in = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.stages = len(widths)
        self.fc = nn.Linear(c_in, outputs)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


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


def export(name, model, batch, size, outputs):
    torch.manual_seed(len(name))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var") or (value.dim() == 1 and key.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif key.endswith(("bias", "running_mean")):
                value.normal_(0, 0.1)
            elif value.is_floating_point():
                value.normal_(0, (2.0 / value[0].numel()) ** 0.5)
    x = torch.randn(batch, 3, size, size)
    labels = torch.arange(batch) * 3 % outputs
    file = {key: value.clone() for key, value in model.state_dict().items() if value.is_floating_point()}
    file["golden.input"] = x
    file["golden.labels"] = labels.float()
    model = model.double()
    file["golden.eval"] = model.eval()(x.double()).detach()
    logits = model.train()(x.double())
    file["golden.train"] = logits.detach()
    F.cross_entropy(logits, labels).backward()
    for key, parameter in model.named_parameters():
        file[f"golden.grad.{key}"] = parameter.grad
    for key, value in model.named_buffers():
        if value.is_floating_point():
            file[f"golden.after.{key}"] = value
    folder = Path(__file__).resolve().parent / "networks"
    folder.mkdir(exist_ok=True)
    save_file({key: value.float().contiguous() for key, value in file.items()}, str(folder / f"{name}.safetensors"))


export("resnet20-a", ResNet([2, 4, 8], [3, 3, 3], "a", False, 7), 5, 9, 7)
export("resnet20-b", ResNet([2, 4, 8], [3, 3, 3], "b", True, 7), 5, 9, 7)
export("resnet18", ResNet([2, 4, 8, 16], [2, 2, 2, 2], "b", True, 7), 5, 17, 7)
export("vgg11", vgg11([2, "M", 4, "M", 8, 8, "M", 16, 16, "M", 16, 16, "M"], 7), 5, 32, 7)
export("vgg11-slim", vgg11_slim([2, "M", 4, "M", 8, 8, "M", 16, 16], 16, 4, 7), 5, 16, 7)
