"""What the scripts beside this one share: the networks (those of the golden tests), CIFAR's files, crops and mirrors."""

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


def crop_and_flip(x):
    """Each prepared image cut out of itself with four zeros around it, and mirrored, at random."""
    padded = F.pad(x, (4, 4, 4, 4))
    out = torch.empty_like(x)
    top, left, mirror = torch.randint(0, 9, (len(x),)), torch.randint(0, 9, (len(x),)), torch.randint(0, 2, (len(x),))
    for i, image in enumerate(padded):
        cut = image[:, top[i] : top[i] + 32, left[i] : left[i] + 32]
        out[i] = cut.flip(2) if mirror[i] else cut
    return out
