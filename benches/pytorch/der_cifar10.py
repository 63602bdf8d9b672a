"""`engram compare er der der++ --preset der-cifar10-short` in plain PyTorch; a JSON per run.

    python der_cifar10.py der++ --data cifar-10-batches-bin --seed 1 --out 1.json
"""

import argparse
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F

from common import cifar, crop_and_flip, he_normal, resnet18

parser = argparse.ArgumentParser()
parser.add_argument("method", choices=["er", "der", "der++"])
parser.add_argument("--data", required=True)
parser.add_argument("--width", type=float, default=0.25)
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--lr", type=float, default=0.03)
parser.add_argument("--memory", type=int, default=500)
parser.add_argument("--mse-weight", type=float, default=0.2)
parser.add_argument("--replay-weight", type=float, default=0.5)
parser.add_argument("--unseen", choices=["masked", "compete"], default="compete")
parser.add_argument("--limit-per-task", type=int, default=0)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--out", required=True)
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
random.seed(args.seed)
BATCH = 32

x_train, y_train = cifar(args.data, [f"data_batch_{i}.bin" for i in range(1, 6)], 1)
x_test, y_test = cifar(args.data, ["test_batch.bin"], 1)
scaled = x_train.double() / 255
mean, deviation = (f((0, 2, 3)).float().view(3, 1, 1) for f in (scaled.mean, scaled.std))
del scaled


def prepared(images):
    return (images.float() / 255 - mean) / deviation


net = he_normal(resnet18(10, args.width))
optimizer = torch.optim.SGD(net.parameters(), args.lr)

# A reservoir of images' numbers and of what the network said of them.
kept, said = torch.empty(args.memory, dtype=torch.long), torch.zeros(args.memory, 10)
n_offered = 0


def replayed():
    """Places, images and labels of a random batch of the memory."""
    n = min(n_offered, args.memory)
    places = torch.tensor(random.sample(range(n), min(BATCH, n)))
    return places, crop_and_flip(prepared(x_train[kept[places]])), y_train[kept[places]]


def loss_of(x, y, n_seen):
    """The loss, and the logits of the new images."""
    if args.unseen == "compete":
        n_seen = 10
    if args.method == "er" and n_offered:
        _, x_memory, y_memory = replayed()
        logits = net(torch.cat([x, x_memory]))
        return F.cross_entropy(logits[:, :n_seen], torch.cat([y, y_memory])), logits[: len(x)]
    logits = net(x)
    loss = F.cross_entropy(logits[:, :n_seen], y)
    if n_offered and args.method != "er":
        places, x_memory, _ = replayed()
        loss = loss + args.mse_weight * F.mse_loss(net(x_memory), said[places])
        if args.method == "der++":
            _, x_memory, y_memory = replayed()
            loss = loss + args.replay_weight * F.cross_entropy(net(x_memory)[:, :n_seen], y_memory)
    return loss, logits


seen = []
for task in range(5):
    n_seen = 2 * task + 2
    of_classes = [(y_train == c).nonzero().flatten()[: args.limit_per_task // 2 or None] for c in (n_seen - 2, n_seen - 1)]
    samples = torch.cat(of_classes)
    for epoch in range(args.epochs):
        net.train()
        for batch in samples[torch.randperm(len(samples))].split(BATCH):
            loss, logits = loss_of(crop_and_flip(prepared(x_train[batch])), y_train[batch], n_seen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch > 0:
                continue
            for sample, output in zip(batch.tolist(), logits.detach()):
                place = n_offered if n_offered < args.memory else random.randrange(n_offered + 1)
                if place < args.memory:
                    kept[place], said[place] = sample, output
                n_offered += 1
    net.eval()
    tested = y_test < n_seen
    with torch.no_grad():
        labels = torch.cat([net(prepared(part))[:, :n_seen].argmax(1) for part in x_test[tested].split(250)])
    seen.append((labels == y_test[tested]).float().mean().item())
    print(f"task {task + 1}: {100 * seen[-1]:.1f} %", flush=True)
Path(args.out).write_text(json.dumps({"settings": vars(args), "seen": seen}))
