"""Median time of a training step in PyTorch eager, as `engram bench step` times one: forward, cross-entropy, backward, SGD.

    python step.py resnet32 --batch-size 128 --threads 2 --device cpu
"""

import argparse
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import resnet18, resnet32, vgg11


def cnn5():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


MODELS = {
    "cnn5": (cnn5, (1, 28, 28)),
    "resnet32": (lambda: resnet32(10), (3, 32, 32)),
    "resnet18": (lambda: resnet18(10), (3, 32, 32)),
    "vgg11": (lambda: vgg11(10), (3, 32, 32)),
}

parser = argparse.ArgumentParser()
parser.add_argument("model", choices=MODELS)
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--device", default="cpu")
parser.add_argument("--repeat", type=int, default=10)
args = parser.parse_args()

torch.set_num_threads(args.threads)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
build, shape = MODELS[args.model]
net = build().to(args.device)
optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
x = torch.randn(args.batch_size, *shape, device=args.device)
y = torch.arange(args.batch_size, device=args.device) % 10


def step():
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()  # waits for the device


for _ in range(3):
    step()
times = []
for _ in range(args.repeat):
    start = time.perf_counter()
    step()
    times.append(1e3 * (time.perf_counter() - start))
print(f"torch {torch.__version__} {args.model} batch {args.batch_size}, {args.device}: {statistics.median(times):.1f} ms")
