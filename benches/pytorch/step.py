"""Median time of a training step in PyTorch, measured as `engram bench step` does: forward, cross-entropy, backward, SGD.

    python step.py resnet32 --batch-size 128 --threads 2 --device cpu
    python step.py all --device cuda --modes eager graph --tf32 off on --sizes 512 1024 2048 4096 --json

On CUDA a step may also be captured once as a graph and replayed, with or without TF32 in convolutions and products; --sizes
adds square products. A case that fails (out of memory, say) is named on stderr and left out.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import resnet18, resnet32, resnet34, vgg11

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/golden"))
from networks import DeepLabLite  # noqa: E402


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
    "resnet34": (lambda: resnet34(10), (3, 32, 32)),
    "vgg11": (lambda: vgg11(10), (3, 32, 32)),
    "deeplab-lite": (lambda: DeepLabLite([32, 64, 96], 64, 10), (3, 64, 64)),
}


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def median_ms(run, device, repeat):
    """Each time with a wait for the device, after three times to warm up."""
    times = []
    for i in range(repeat + 3):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        if i >= 3:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def training_step(model, batch, device):
    build, shape = MODELS[model]
    net = build().to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    x = torch.randn(batch, *shape, device=device)
    y = torch.arange(batch, device=device) % 10
    if model == "deeplab-lite":
        y = (torch.arange(batch * shape[1] * shape[2], device=device) % 10).view(batch, *shape[1:])

    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def graph_of(step):
    """The step as a CUDA graph; gradients and momentum exist before it is captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def use_tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def rows(args):
    models = MODELS if args.model == "all" else [args.model]
    for tf32 in args.tf32:
        use_tf32(tf32 == "on")
        for model in models:
            for mode in args.modes:

                def run(model=model, mode=mode):
                    step = training_step(model, args.batch_size, args.device)
                    return median_ms(graph_of(step) if mode == "graph" else step, args.device, args.repeat)

                yield {"name": f"step {model} batch {args.batch_size}", "mode": mode, "tf32": tf32 == "on"}, run
        for n in args.sizes:

            def run(n=n):
                a, b = torch.randn(n, n, device=args.device), torch.randn(n, n, device=args.device)
                return median_ms(lambda: a @ b, args.device, args.repeat)

            yield {"name": f"matmul {n}×{n}×{n}", "mode": "eager", "tf32": tf32 == "on", "flop": 2 * n**3}, run


parser = argparse.ArgumentParser()
parser.add_argument("model", choices=[*MODELS, "all"])
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--device", default="cpu")
parser.add_argument("--repeat", type=int, default=10)
parser.add_argument("--modes", nargs="+", choices=["eager", "graph"], default=["eager"], help="graph needs CUDA")
parser.add_argument("--tf32", nargs="+", choices=["off", "on"], default=["off"])
parser.add_argument("--sizes", nargs="*", type=int, default=[], help="square matrix products")
parser.add_argument("--json", action="store_true")
args = parser.parse_args()

torch.set_num_threads(args.threads)
name = torch.cuda.get_device_name() if args.device == "cuda" else args.device
done = []
for row, run in rows(args):
    try:
        row["ms"] = run()
    except RuntimeError as error:
        print(f"{row['name']} {row['mode']}: {error}", file=sys.stderr)
        continue
    flop = row.pop("flop", None)
    if flop is not None:
        row["gflops"] = flop / row["ms"] / 1e6
    done.append(row)
    if not args.json:
        tf32 = ", TF32" if row["tf32"] else ""
        rate = f", {row['gflops']:.0f} GFLOP/s" if "gflops" in row else ""
        print(f"torch {torch.__version__} {row['name']}, {row['mode']}{tf32}, {name}: {row['ms']:.3f} ms{rate}")
if args.json:
    print(json.dumps({"torch": torch.__version__, "device": name, "rows": done}))
sys.exit(0 if done else 1)
