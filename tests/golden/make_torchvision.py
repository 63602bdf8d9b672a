"""Features of torchvision's own ResNet-18 and ResNet-34, with weights that both sides compute from their names and places.

    python make_torchvision.py

Writes `torchvision.json`: for each network the first `n` features of two pictures of 224×224 pixels. The weights would be 45 and 87 MB;
`mixed` below and its twin in tests/session_torchvision.rs make them anew.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torchvision

N_CLASSES = 5
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def mixed(stream, n):
    """n numbers in 0..1: a hash of their places."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(stream) * np.uint32(0x85EBCA77)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x2C1B3C6D)
        x ^= x >> np.uint32(12)
        x *= np.uint32(0x297A2D39)
        x ^= x >> np.uint32(15)
    return x.astype(np.float64) / 2.0**32


def values(stream, name, shape):
    u = mixed(stream, int(np.prod(shape)))
    if name.endswith("bn2.weight"):  # smaller, so that the sums over 16 blocks stay of one size
        v = 0.2 + 0.2 * u
    elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        v = 0.5 + u
    elif len(shape) == 4:
        v = (u - 0.5) * np.sqrt(12.0 / np.prod(shape[1:]))
    else:
        v = (u - 0.5) * 0.2
    return torch.from_numpy(v.astype(np.float32)).reshape(shape)


def main():
    result = {"torch": torch.__version__.split("+")[0], "torchvision": torchvision.__version__.split("+")[0]}
    pixels = np.floor(mixed(1000, 2 * 3 * 224 * 224) * 256).astype(np.uint8).reshape(2, 3, 224, 224)
    # Noise alone would leave every feature at its mean: the second picture is a slope.
    pixels[1] = np.add.outer(np.arange(224), np.arange(224))[None] // 2
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
    x = (torch.from_numpy(pixels).double() / 255 - mean) / std
    for name in ("resnet18", "resnet34"):
        net = getattr(torchvision.models, name)(num_classes=N_CLASSES)
        state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
        made = {k: values(i, k, tuple(state[k].shape)) for i, k in enumerate(sorted(state))}
        net.load_state_dict(made, strict=False)
        net.eval().double()
        net.fc = torch.nn.Identity()
        with torch.no_grad():
            features = net(x)
        print(name, features.abs().mean().item(), features.abs().max().item(), features.std().item())
        result[name] = [[float(np.float32(v)) for v in row[:64]] for row in features.numpy()]
    (Path(__file__).resolve().parent / "torchvision.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
