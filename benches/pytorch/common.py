"""Shared by the scripts in this folder: the networks (those of the golden tests), CIFAR's files, crops and mirrors."""

import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))
import networks  # noqa: E402


def resnet32(outputs, last_relu=True, eps=1e-5):
    return networks.ResNet([16, 32, 64], [5, 5, 5], "a", last_relu, outputs, eps)


def resnet18(outputs, width=1.0):
    return networks.ResNet([round(c * width) for c in (64, 128, 256, 512)], [2, 2, 2, 2], "b", True, outputs)


def resnet34(outputs):
    return networks.ResNet([64, 128, 256, 512], [3, 4, 6, 3], "b", True, outputs)


def vgg11(outputs):
    return networks.vgg11([64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"], outputs)


def he_normal(net):
    """Convolutions as engram begins them: normal, of variance 2 / fan_in."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / layer.weight[0].numel()))
    return net


def cifar(folder, names, n_labels):
    """Images (N, 3, 32, 32) in bytes and labels, the last of the `n_labels` of a record."""
    raw = np.concatenate([np.fromfile(Path(folder, name), np.uint8) for name in names]).reshape(-1, n_labels + 3072)
    return torch.from_numpy(raw[:, n_labels:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(raw[:, n_labels - 1].astype(np.int64))


def crop_and_flip(x, draws=None):
    """Each prepared image cut out of itself with four zeros around it, and mirrored: at random, or as draws (N, 3) say (rows
    down, columns right in the mirrored image, mirrored)."""
    n, channels = x.shape[:2]
    if draws is None:
        top, left, mirror = torch.randint(0, 9, (n,)), torch.randint(0, 9, (n,)), torch.randint(0, 2, (n,))
    else:
        down, right, mirror = draws.unbind(1)
        top, left = down + 4, torch.where(mirror > 0, -right, right) + 4
    across = torch.arange(32).expand(n, 32)
    rows, columns = top[:, None] + across, left[:, None] + torch.where(mirror[:, None] > 0, 31 - across, across)
    images, planes = torch.arange(n).view(n, 1, 1, 1), torch.arange(channels).view(channels, 1, 1)
    return F.pad(x, (4, 4, 4, 4))[images, planes, rows[:, None, :, None], columns[:, None, None, :]]
