"""`engram vdfd --preset vdfd-cifar100-10-short`, `dfd` and `finetune` in plain PyTorch, for comparison; a JSON per run.

    python vdfd.py vdfd --data cifar-100-binary --reg-weight 1 --seed 1 --out 1.json
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import cifar, crop_and_flip, he_normal, networks

parser = argparse.ArgumentParser()
parser.add_argument("method", choices=["finetune", "dfd", "vdfd"])
parser.add_argument("--data", required=True)
parser.add_argument("--width", type=float, default=0.3125)
parser.add_argument("--tasks", type=int, default=5)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--lr-steps", default="4,8")
parser.add_argument("--reg-weight", type=float, default=1.0)
parser.add_argument("--jacobian-samples", type=int, default=512)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--device", default="cpu")
parser.add_argument("--out", required=True)
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
lr_steps = [int(step) for step in args.lr_steps.split(",") if step]
CLASSES, BATCH, EPSILON = 10, 64, 1e-3
LR, HEAD_LR, DECAY, RELATION_LR = 1e-3, 5e-3, 5e-4, 7e-4

device = torch.device(args.device)
x_train, y_train = cifar(args.data, ["train.bin"], 2)
x_test, y_test = cifar(args.data, ["test.bin"], 2)
mean = torch.tensor([0.5071, 0.4865, 0.4409]).view(3, 1, 1)
deviation = torch.tensor([0.2673, 0.2564, 0.2762]).view(3, 1, 1)


def prepared(images):
    return (images.float() / 255 - mean) / deviation


def of_task(labels, task):
    return (labels // CLASSES == task).nonzero().flatten()


widths = [round(channels * args.width) for channels in (64, 128, 256, 512)]
net = he_normal(networks.PreActResNet(widths, [2, 2, 2, 2], CLASSES)).to(device)
heads = [nn.Linear(widths[-1], CLASSES).to(device) for _ in range(args.tasks)]
backbone = [value for name, value in net.named_parameters() if not name.startswith("last")]


def filter_sums(value):
    return value.flatten(1).sum(1) if value.dim() > 1 else value


def filter_means(value):
    return value.flatten(1).mean(1) if value.dim() > 1 else value


def g_times(kept):
    """Gᵀw: a number per class."""
    return sum(sigma * v * (u @ filter_sums(value)) for (u, sigma, v), value in zip(kept, backbone))


def keep(task):
    """(u, σ, v) of each tensor, and Gᵀw*, from some of the task's images as they are."""
    net.eval()
    images = of_task(y_train, task)
    images = images[torch.randperm(len(images))[: args.jacobian_samples]]
    sums = [[torch.zeros(len(value), device=device) for _ in range(CLASSES)] for value in backbone]
    for part in images.split(128):
        means = heads[task](net.features(prepared(x_train[part]).to(device))).sum(0) / len(images)
        for c in range(CLASSES):
            for found, gradient in zip(sums, torch.autograd.grad(means[c], backbone, retain_graph=True)):
                found[c] += filter_means(gradient)
    kept = []
    for found in sums:
        u, s, vh = torch.linalg.svd(torch.stack(found, 1), full_matrices=False)
        kept.append((u[:, 0], s[0], vh[0]))
    return kept, g_times(kept).detach()


class Relation(nn.Module):
    """Π of every earlier task, by two graph convolutions over the rows of its head."""

    def __init__(self, n_tasks):
        super().__init__()
        self.nodes = [F.normalize(head.weight.detach(), dim=1) for head in heads[:n_tasks]]
        self.smooth = []
        for x in self.nodes:
            a = x @ x.T + torch.eye(CLASSES, device=device)
            root = a.sum(1).pow(-0.5).nan_to_num(0.0)
            self.smooth.append(root[:, None] * a * root[None, :])
        self.first, self.second = nn.Linear(widths[-1], 32).to(device), nn.Linear(32, 64).to(device)
        for layer in (self.first, self.second):
            for value in layer.parameters():
                nn.init.uniform_(value, -(layer.out_features**-0.5), layer.out_features**-0.5)

    def forward(self):
        for x, smooth in zip(self.nodes, self.smooth):
            hidden = F.relu(F.linear(smooth @ x, self.first.weight, self.first.bias))
            p = F.normalize(F.linear(smooth @ hidden, self.second.weight, self.second.bias), dim=1)
            yield p @ p.T


def regulariser(held, relation):
    drifts = [g_times(kept) - anchor for kept, anchor in held]
    if relation is None:
        return sum(d @ d for d in drifts)
    ridge = EPSILON * torch.eye(CLASSES, device=device)
    return sum(d @ pi @ d - torch.logdet(pi + ridge) for d, pi in zip(drifts, relation()))


def accuracy(task):
    net.eval()
    images = of_task(y_test, task)
    with torch.no_grad():
        parts = [heads[task](net.features(prepared(x_test[part]).to(device))).argmax(1).cpu() for part in images.split(250)]
    return (torch.cat(parts) == y_test[images] % CLASSES).float().mean().item()


def learn(task, held):
    relation = Relation(task) if args.method == "vdfd" and task > 0 else None
    groups = [{"params": backbone, "lr": LR, "weight_decay": DECAY}, {"params": heads[task].parameters(), "lr": HEAD_LR}]
    optimizers = [torch.optim.Adam(groups)]
    if relation:
        optimizers.append(torch.optim.Adam(relation.parameters(), RELATION_LR, weight_decay=DECAY))
    schedules = [torch.optim.lr_scheduler.MultiStepLR(optimizer, lr_steps, 0.5) for optimizer in optimizers]
    images = of_task(y_train, task)
    for _ in range(args.epochs):
        net.train()
        for part in images[torch.randperm(len(images))].split(BATCH):
            x = crop_and_flip(prepared(x_train[part])).to(device)
            loss = F.cross_entropy(heads[task](net.features(x)), y_train[part].to(device) % CLASSES)
            if args.method != "finetune" and held:
                loss = loss + args.reg_weight * regulariser(held, relation)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        for schedule in schedules:
            schedule.step()


held, matrix = [], []
for task in range(args.tasks):
    learn(task, held)
    if args.method != "finetune":
        held.append(keep(task))
    matrix.append([accuracy(earlier) for earlier in range(task + 1)])
    print(task, [f"{100 * a:.1f}" for a in matrix[-1]], flush=True)
last = matrix[-1]
learnt = [matrix[t][t] for t in range(args.tasks)]
result = {
    "acc": sum(last) / args.tasks,
    "bwt": sum(last[t] - learnt[t] for t in range(args.tasks - 1)) / (args.tasks - 1),
    "la": sum(learnt) / args.tasks,
    "matrix": matrix,
}
Path(args.out).write_text(json.dumps(result) + "\n")
print({name: round(100 * result[name], 1) for name in ("acc", "bwt", "la")})
