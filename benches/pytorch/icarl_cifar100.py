"""`engram icarl --preset icarl-cifar100 --velocity gradients` in plain PyTorch, for comparison with shortened runs; one JSON file per run.

    python icarl_cifar100.py --data cifar-100-binary --epochs 4 --lr-steps 3 --limit-per-task 2500 --tasks 2 --seed 1 --out 1.json

With `--running inverse-deviation` batch norms average 1/deviation over batches, as in the authors' library (Lasagne), not the variance.
"""

import argparse
import copy
import json
import math
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import cifar, crop_and_flip, he_normal, resnet32

N_CLASSES, CLASSES_PER_TASK, MEMORY, BATCH = 100, 10, 2000, 128
# The first order of the authors' runs.
ORDER = [
    87, 0, 52, 58, 44, 91, 68, 97, 51, 15, 94, 92, 10, 72, 49, 78, 61, 14, 8, 86, 84, 96, 18, 24, 32, 45, 88, 11, 4, 67, 69, 66,
    77, 47, 79, 93, 29, 50, 57, 83, 17, 81, 41, 12, 37, 59, 25, 20, 80, 73, 1, 28, 6, 46, 62, 82, 53, 9, 31, 75, 38, 63, 33, 74,
    27, 22, 36, 3, 16, 21, 60, 19, 70, 90, 89, 43, 5, 42, 65, 76, 40, 30, 23, 85, 2, 95, 56, 48, 71, 64, 98, 13, 99, 7, 34, 55,
    54, 26, 35, 39,
]  # fmt: skip

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--epochs", type=int, default=70)
parser.add_argument("--lr", type=float, default=2.0)
parser.add_argument("--lr-steps", default="49,63")
parser.add_argument("--tasks", type=int, default=10)
parser.add_argument("--limit-per-task", type=int, default=0)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--running", choices=["variance", "inverse-deviation"], default="variance")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--out", required=True)
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
lr_steps = [int(step) for step in args.lr_steps.split(",") if step]

x_train, y_train = cifar(args.data, ["train.bin"], 2)
x_test, y_test = cifar(args.data, ["test.bin"], 2)
place = torch.empty(N_CLASSES, dtype=torch.long)
place[torch.tensor(ORDER)] = torch.arange(N_CLASSES)
y_train, y_test = place[y_train], place[y_test]
mean_image = x_train.float().div(255).mean(0)


def prepared(images):
    return images.float() / 255 - mean_image


class InverseDeviation(nn.BatchNorm2d):
    """A batch norm whose running_var is the running mean of 1/√(variance + ε)."""

    def forward(self, x):
        if not self.training:
            by_channel = [v[:, None, None] for v in (self.running_mean, self.running_var, self.weight, self.bias)]
            mean, inverse, weight, bias = by_channel
            return (x - mean) * inverse * weight + bias
        with torch.no_grad():
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_((variance + self.eps).rsqrt(), self.momentum)
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


net = he_normal(resnet32(N_CLASSES, last_relu=False, eps=1e-4))
if args.running == "inverse-deviation":
    for layer in net.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = InverseDeviation
nn.init.normal_(net.fc.weight, 0, math.sqrt(1 / 64))
nn.init.zeros_(net.fc.bias)
decayed = [p for name, p in net.named_parameters() if name.endswith("weight")]
others = [p for name, p in net.named_parameters() if name.endswith("bias")]
groups = [{"params": decayed, "weight_decay": 2e-5}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.SGD(groups, args.lr, momentum=0.9)


@torch.no_grad()
def features(images, mirrored=False):
    net.eval()
    return torch.cat([net.features(prepared(part.flip(3) if mirrored else part)) for part in images.split(250)])


def herding(rows, m):
    """The authors' variant: w ← w + μ − φ(x) for the x of largest w·φ(x); one that comes again does not count."""
    rows = rows.double()
    mean = rows.mean(0)
    w, chosen = mean.clone(), []
    for _ in range(1000):
        if len(chosen) == m:
            break
        best = int((rows @ w).argmax())
        if best not in chosen:
            chosen.append(best)
        w = w + mean - rows[best]
    return chosen


def of_class(c):
    of_c = (y_train == c).nonzero().flatten()
    return of_c[: args.limit_per_task // CLASSES_PER_TASK] if args.limit_per_task else of_c


def class_mean(samples):
    both = [F.normalize(features(x_train[samples], mirrored)).mean(0) for mirrored in (False, True)]
    return F.normalize(both[0] + both[1], dim=0)


exemplars, seen = {}, {"nme": [], "network": [], "ncm": []}
for task in range(args.tasks):
    n_old, n_seen = CLASSES_PER_TASK * task, CLASSES_PER_TASK * (task + 1)
    samples = torch.cat([of_class(c) for c in range(n_old, n_seen)] + [exemplars[c] for c in range(n_old)])
    teacher = copy.deepcopy(net).eval() if task else None
    lr = args.lr
    for epoch in range(args.epochs):
        lr *= 0.2 if epoch in lr_steps else 1
        for group in optimizer.param_groups:
            group["lr"] = lr
        net.train()
        for batch in samples[torch.randperm(len(samples))].split(BATCH):
            if len(batch) < BATCH:
                continue
            x = crop_and_flip(prepared(x_train[batch]))
            target = F.one_hot(y_train[batch], N_CLASSES).float()
            if teacher is not None:
                with torch.no_grad():
                    target[:, :n_old] = torch.sigmoid(teacher(x))[:, :n_old]
            loss = F.binary_cross_entropy_with_logits(net(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    m = math.ceil(MEMORY / n_seen)
    exemplars = {c: kept[:m] for c, kept in exemplars.items()}
    for c in range(n_old, n_seen):
        exemplars[c] = of_class(c)[torch.tensor(herding(F.normalize(features(x_train[of_class(c)])), m))]
    unseen = torch.zeros(N_CLASSES - n_seen, 64)
    of_exemplars = torch.cat([torch.stack([class_mean(exemplars[c]) for c in range(n_seen)]), unseen])
    of_all = torch.cat([torch.stack([class_mean(of_class(c)) for c in range(n_seen)]), unseen])
    tested = y_test < n_seen
    rows = features(x_test[tested])
    with torch.no_grad():
        says = {
            "nme": torch.cdist(F.normalize(rows), of_exemplars).argmin(1),
            "network": net.fc(rows).argmax(1),
            "ncm": torch.cdist(F.normalize(rows), of_all).argmin(1),
        }
    for classifier, labels in says.items():
        seen[classifier].append((labels == y_test[tested]).float().mean().item())
    print(f"task {task + 1}", {name: f"{100 * values[-1]:.1f} %" for name, values in seen.items()}, flush=True)
Path(args.out).write_text(json.dumps({"settings": vars(args), "seen": seen}))
