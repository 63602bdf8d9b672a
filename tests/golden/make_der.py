"""DER++ (Buzzega et al., NeurIPS 2020) as a plain transcription of its equation in PyTorch, on a batch that both sides compute by the
same formula. Writes der_pp.json: the three terms of the loss and the gradient of every parameter.

    python tests/golden/make_der.py
"""

import json
import pathlib

import torch
import torch.nn.functional as F

ALPHA, BETA = 0.3, 0.7
SHAPES = [("fc1", 8, 16), ("fc2", 8, 8), ("fc3", 4, 8)]


def numbers(n, salt):
    """Multiples of 1/1009 in about ±1/2, by a formula that Rust repeats."""
    return torch.tensor([((i * 37 + salt * 101 + i * i * 13) % 1009) / 1009 - 0.5 for i in range(n)], dtype=torch.float64)


def weights(salt):
    all = {}
    for k, (name, outputs, inputs) in enumerate(SHAPES):
        all[f"{name}.weight"] = numbers(outputs * inputs, salt + 2 * k).reshape(outputs, inputs).float().double()
        all[f"{name}.bias"] = numbers(outputs, salt + 2 * k + 1).float().double()
    return all


def images(first, n):
    pixels = torch.tensor([(i * 29 + i * i * 7) % 256 for i in range(16 * (first + n))], dtype=torch.float64)
    return (pixels.reshape(-1, 16)[first:] / 255 - 0.5) / 0.25


def network(w, x):
    x = F.relu(F.linear(x, w["fc1.weight"], w["fc1.bias"]))
    x = F.relu(F.linear(x, w["fc2.weight"], w["fc2.bias"]))
    return F.linear(x, w["fc3.weight"], w["fc3.bias"])


def labels(first, n):
    return torch.arange(first, first + n) % 4


# The memory: six images with the outputs that an earlier network had for them. The batch: six others.
memory, batch = (0, 6), (6, 6)
with torch.no_grad():
    stored = network(weights(3), images(*memory))
w = {name: value.requires_grad_() for name, value in weights(50).items()}
ce = F.cross_entropy(network(w, images(*batch)), labels(*batch))
mse = F.mse_loss(network(w, images(*memory)), stored)
replay = F.cross_entropy(network(w, images(*memory)), labels(*memory))
(ce + ALPHA * mse + BETA * replay).backward()
golden = {
    "cross_entropy": ce.item(),
    "logit_mse": mse.item(),
    "replay": replay.item(),
    "gradients": {name: value.grad.flatten().tolist() for name, value in w.items()},
}
path = pathlib.Path(__file__).with_name("der_pp.json")
path.write_text(json.dumps(golden, indent=1) + "\n")
print(f"{path.name}: {golden['cross_entropy']:.6f} {golden['logit_mse']:.6f} {golden['replay']:.6f}")
