"""`engram compare er der der++ --preset der-cifar10-short` in plain PyTorch; a JSON per run.

    python der_cifar10.py der++ --data cifar-10-batches-bin --seed 1 --out 1.json

With --stream DIR (written by engram's example record_stream) it starts from engram's weights and sees the same images as engram. With
--lockstep it makes every step from engram's weights before that step, and prints how far from engram's result each step ends.
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
parser.add_argument("--stream", help="a folder of engram's example record_stream; without it, a random stream by --seed")
parser.add_argument("--lockstep", action="store_true", help="of a stream that was recorded with a learning rate")
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
mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
deviation = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)


def prepared(images):
    return (images.float() / 255 - mean) / deviation


def engrams(step):
    """Engram's weights and running statistics before a step."""
    from safetensors.torch import load_file

    return load_file(Path(args.stream, "weights", f"{step}.safetensors"))


net = he_normal(resnet18(10, args.width))
if args.stream:
    net.load_state_dict(engrams(0))
optimizer = torch.optim.SGD(net.parameters(), args.lr)
# What the network said of each image of the memory.
said = torch.zeros(args.memory, 10)


def changed(samples, draws=None):
    return crop_and_flip(prepared(x_train[samples]), draws), y_train[samples]


def random_steps():
    """The task of each step, the new images, the images and places of replayed ones, and the new images' places (or None)."""
    kept, n_offered = torch.empty(args.memory, dtype=torch.long), 0

    def replay():
        n = min(n_offered, args.memory)
        slots = torch.tensor(random.sample(range(n), min(BATCH, n)))
        return changed(kept[slots]), slots

    for task in range(5):
        of_classes = [(y_train == c).nonzero().flatten() for c in (2 * task, 2 * task + 1)]
        samples = torch.cat([of_class[: args.limit_per_task // 2 or None] for of_class in of_classes])
        for epoch in range(args.epochs):
            for batch in samples[torch.randperm(len(samples))].split(BATCH):
                new = changed(batch)
                replays = [replay() for _ in range(2 if args.method == "der++" else 1)] if n_offered else []
                slots = [None] * len(batch)
                for i, sample in enumerate(batch if epoch == 0 else []):
                    slot = n_offered if n_offered < args.memory else random.randrange(n_offered + 1)
                    if slot < args.memory:
                        kept[slot], slots[i] = sample, slot
                    n_offered += 1
                yield task, new, replays, slots


def recorded_steps():
    """The same, as engram wrote it down."""

    def images(recorded):
        return changed(torch.tensor(recorded["samples"]), torch.tensor(recorded["draws"]))

    for line in Path(args.stream, "steps.jsonl").open():
        step = json.loads(line)
        replays = [(images(replay["images"]), torch.tensor(replay["slots"])) for replay in step["replays"]]
        yield step["task"], images(step["new"]), replays, step["slots"]


def loss_of(x, y, replays, n_seen):
    """The loss, and the logits of the new images."""
    if args.unseen == "compete":
        n_seen = 10
    if args.method == "er" and replays:
        [((x_memory, y_memory), _)] = replays
        logits = net(torch.cat([x, x_memory]))
        return F.cross_entropy(logits[:, :n_seen], torch.cat([y, y_memory])), logits[: len(x)]
    logits = net(x)
    loss = F.cross_entropy(logits[:, :n_seen], y)
    if replays and args.method != "er":
        (x_memory, _), slots = replays[0]
        loss = loss + args.mse_weight * F.mse_loss(net(x_memory), said[slots])
        if args.method == "der++":
            (x_memory, y_memory), _ = replays[1]
            loss = loss + args.replay_weight * F.cross_entropy(net(x_memory)[:, :n_seen], y_memory)
    return loss, logits


def accuracy(n_seen):
    net.eval()
    tested = y_test < n_seen
    with torch.no_grad():
        labels = torch.cat([net(prepared(part))[:, :n_seen].argmax(1) for part in x_test[tested].split(250)])
    net.train()
    return (labels == y_test[tested]).float().mean().item()


def distances(before, after):
    """How far the step made here ends from engram's: weights, in lengths of the step; the worst statistics, in their own."""
    ours, norm = net.state_dict(), lambda parts: torch.cat([part.flatten().double() for part in parts]).norm().item()
    moved = [name for name, _ in net.named_parameters()]
    apart = norm(ours[name] - after[name] for name in moved) / norm(after[name] - before[name] for name in moved)
    statistics = [name for name in after if "running" in name]
    return apart, max(norm([ours[name] - after[name]]) / norm([after[name]]) for name in statistics)


seen, apart = [], []


def finish(task):
    seen.append(accuracy(2 * task + 2))
    print(f"task {task + 1}: {100 * seen[-1]:.1f} %", flush=True)


running = 0
for step, (task, (x, y), replays, slots) in enumerate(recorded_steps() if args.stream else random_steps()):
    if args.lockstep:
        net.load_state_dict(engrams(step))
    if task != running:
        finish(running)
        running = task
    loss, logits = loss_of(x, y, replays, 2 * task + 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if args.lockstep:
        apart.append(distances(engrams(step), engrams(step + 1)))
    for slot, output in zip(slots, logits.detach()):
        if slot is not None:
            said[slot] = output
if args.lockstep:
    net.load_state_dict(engrams(len(apart)))
    weights, statistics = (torch.tensor(column).double() for column in zip(*apart))
    print(f"{len(apart)} steps: weights {weights.median():.1e} of a step apart (median), {weights.max():.1e} (most); "
          f"running statistics at most {statistics.max():.1e}")
finish(running)
Path(args.out).write_text(json.dumps({"settings": vars(args), "seen": seen, "apart": apart}))
