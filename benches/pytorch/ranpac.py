"""RanPAC on the features in two learners, in PyTorch: the accuracy that `engram evaluate` must have, too.

    engram learn few.engram --from DRAW --method ranpac
    engram learn all.engram --from TEST --method ncm
    engram evaluate few.engram --from TEST
    engram export few.engram --to torch --out few
    python benches/pytorch/ranpac.py few.engram all.engram few/head.safetensors

Needs torch and safetensors. The last argument has engram's random projection; without it, PyTorch draws one, by which accuracies on 2,000
pictures differ by half a point. The penalty is chosen among 1e-8 .. 1e8 by the squared error of leave-one-out, as engram does with up to
1,000 pictures, or on a fifth of each class.
"""

import json
import sys

import torch
from safetensors import safe_open


def read(path):
    with safe_open(path, "pt") as file:
        names = [c["name"] for c in json.loads(file.metadata()["engram.session"])["classes"]]
        return file.get_tensor("features").double(), file.get_tensor("labels").long(), names


def solve(h, y, penalty):
    m = h.shape[1]
    return torch.linalg.solve(h.T @ h + penalty * torch.eye(m, dtype=h.dtype), h.T @ y)


def choose(h, y, labels):
    n = len(h)
    best = (float("inf"), 1.0)
    if n <= 1000:
        values, vectors = torch.linalg.eigh(h @ h.T)
    else:
        seen, held = {}, torch.zeros(n, dtype=torch.bool)
        for i, label in enumerate(labels.tolist()):
            held[i] = seen.get(label, 0) % 5 == 1
            seen[label] = seen.get(label, 0) + 1
    for exponent in range(-8, 9):
        penalty = 10.0**exponent
        if n <= 1000:
            if penalty <= values[-1] * n * torch.finfo(h.dtype).eps:
                continue
            inverse = vectors / (values.clamp(min=0) + penalty) @ vectors.T
            error = ((inverse @ y / inverse.diagonal()[:, None]) ** 2).sum(1).mean().item()
        else:
            weights = solve(h[~held], y[~held], penalty)
            error = ((h[held] @ weights - y[held]) ** 2).sum(1).mean().item()
        best = min(best, (error, penalty))
    return best[1]


torch.manual_seed(0)
(few, labels, names), (test, truth, test_names) = read(sys.argv[1]), read(sys.argv[2])
truth = torch.tensor([names.index(test_names[label]) for label in truth])
if len(sys.argv) > 3:
    with safe_open(sys.argv[3], "pt") as file:
        w = file.get_tensor("projection").double().T
else:
    w = torch.randn(few.shape[1], 2000, dtype=few.dtype)
h, test = torch.relu(few @ w), torch.relu(test @ w)
y = torch.nn.functional.one_hot(labels, len(names)).double()
penalty = choose(h, y, labels)
right = (test @ solve(h, y, penalty)).argmax(1) == truth
print(f"{100 * right.double().mean():.2f} % of {len(truth)}, penalty {penalty:g}")
