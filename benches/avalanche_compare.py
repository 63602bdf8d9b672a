"""Compares EWC, SI, LwF, ER, ER-ACE and A-GEM of avalanche-lib with engram's, under flags that follow avalanche's definitions.

    pip install avalanche-lib                      # 0.6.0, with the CPU build of PyTorch
    python benches/avalanche_compare.py --mnist DIR --engram target/release/engram --seeds 5

Split MNIST, five tasks of two classes in natural order, an MLP of two hidden layers of 256, one pass, batches of 32, plain SGD.
EWC, SI, LwF and A-GEM domain-incrementally (one head of two outputs), ER and ER-ACE class-incrementally (the head grows, as the
outputs that engram's cross-entropy runs over do). Initial values, shuffles and draws are each library's own: means over seeds are
compared, and agree if they differ by at most 2 points or twice the standard error of the difference.
"""

import argparse
import gzip
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")

BATCH, LR, SI, LWF, MEMORY, REPLAY = 32, 0.05, 2000.0, 1.0, 500, 32
COMMON = (
    f"--dataset mnist --model mlp --epochs 1 --batch-size {BATCH} --optimizer sgd --momentum 0 --lr {LR} --weight-decay 0 "
    "--device cpu --quiet --force"
)
# Avalanche: the penalty of EWC without ½, that of SI with; KL without T²; ER-ACE halves the sum of its two terms.
METHODS = {
    "ewc": ("domain", "--fisher batch --fisher-samples 60000 --penalty-weight"),
    "si": ("domain", f"--penalty-weight {SI / 2} --damping 0.1 --path-gradient total --importance-limit 0.001"),
    "lwf": ("domain", f"--kd-weight {LWF / 4} --temperature 2"),
    "a-gem": ("domain", f"--memory {2 * MEMORY} --replay-batch {2 * REPLAY}"),
    "er": ("class", f"--memory {MEMORY} --replay-batch {REPLAY} --memory-policy balanced --memory-update task-end"),
    "er-ace": (
        "class",
        f"--memory {MEMORY} --replay-batch {REPLAY} --memory-policy balanced --memory-update task-begin "
        "--joined mean",
    ),
}


def read_mnist(folder, part):
    import numpy as np

    def bytes_of(kind, header):
        with gzip.open(pathlib.Path(folder) / f"{part}-{kind}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    return bytes_of("images-idx3", 16).reshape(-1, 784), bytes_of("labels-idx1", 8)


def tasks(folder, part, scenario, limit, normalization):
    """Five pairs of images (n, 784), normalised, and labels; a limit is for the task, balanced over its classes.

    In random order: avalanche's EWC measures its batches in the order given, and neighbours in MNIST's files are alike, so that
    their mean gradients, squared, come out up to several times as large.
    """
    import numpy as np
    import torch

    images, labels = read_mnist(folder, part)
    mean, std = normalization
    for task in range(5):
        of_class = [np.flatnonzero(labels == c)[: limit and limit // 2] for c in (2 * task, 2 * task + 1)]
        own = np.random.default_rng(task).permutation(np.concatenate(of_class))
        y = labels[own].astype(np.int64)
        x = torch.tensor((images[own] / 255.0 - mean) / std, dtype=torch.float32)
        yield x, torch.tensor(y % 2 if scenario == "domain" else y)


def strategy(method, model, optimizer, args):
    from avalanche.training import supervised as s
    from torch.nn import CrossEntropyLoss

    common = dict(
        model=model, optimizer=optimizer, criterion=CrossEntropyLoss(), train_mb_size=BATCH, train_epochs=1, evaluator=None
    )
    return {
        "ewc": lambda: s.EWC(ewc_lambda=args.ewc_lambda, mode="separate", **common),
        "si": lambda: s.SynapticIntelligence(si_lambda=SI, eps=0.1, **common),
        "lwf": lambda: s.LwF(alpha=LWF, temperature=2.0, **common),
        "a-gem": lambda: s.AGEM(patterns_per_exp=2 * MEMORY // 5, sample_size=2 * REPLAY, **common),
        "er": lambda: s.Replay(mem_size=MEMORY, **common),
        "er-ace": lambda: s.ER_ACE(mem_size=MEMORY, batch_size_mem=REPLAY, **common),
    }[method]()


def mend_si():
    """On the CPU avalanche 0.6.0 keeps views of the parameters where it means copies: every path integral is 0, and SI is
    fine-tuning. On a GPU its `.cpu()` copies."""
    from avalanche.training.plugins import SynapticIntelligencePlugin as Si

    def extract_weights(model, target, excluded):
        for name, parameter in Si.allowed_parameters(model, excluded):
            target[name].data = parameter.detach().flatten().clone()

    Si.extract_weights = staticmethod(extract_weights)


def avalanche(method, scenario, seed, args, normalization):
    """The accuracy on all test images after the last task."""
    import numpy as np
    import torch
    from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
    from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_tensor_classification_dataset as dataset_of
    from avalanche.models import IncrementalClassifier
    from torch import nn

    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    head = nn.Linear(256, 2) if scenario == "domain" else IncrementalClassifier(256, initial_out_features=2)
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), head)
    train = tasks(args.mnist, "train", scenario, args.limit_per_task, normalization)
    train = [dataset_of(x, y, task_labels=0, targets=1) for x, y in train]
    stream = with_classes_timeline(benchmark_from_datasets(train=train))
    learner = strategy(method, model, torch.optim.SGD(model.parameters(), lr=LR), args)
    for task in stream.train_stream:
        learner.train(task)
    model.eval()
    with torch.no_grad():
        pairs = list(tasks(args.mnist, "t10k", scenario, None, normalization))
        n_right = sum((model(x).argmax(1) == y).sum().item() for x, y in pairs)
    return n_right / sum(len(y) for _, y in pairs)


def engram(method, scenario, flags, args):
    limit = f" --limit-per-task {args.limit_per_task}" if args.limit_per_task else ""
    with tempfile.TemporaryDirectory() as folder:
        command = f"{method} --scenario {scenario} {COMMON} {flags}{limit} --seeds {args.seeds} --data-dir {args.mnist}"
        print(f"  engram {command}", flush=True)
        subprocess.run([args.engram, *command.split(), "--out", folder], check=True, stdout=subprocess.DEVNULL)
        files = sorted(pathlib.Path(folder).glob("seed-*/metrics.json")) or [pathlib.Path(folder) / "metrics.json"]
        return [json.loads(file.read_text())["classifiers"]["network"]["final_accuracy"] for file in files]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True, help="folder with the four IDX .gz files")
    parser.add_argument("--engram", default="target/release/engram")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit-per-task", type=int, help="so many training images per task")
    parser.add_argument("--ewc-lambda", type=float, default=2000.0, help="smaller with few images: Fisher information is larger")
    parser.add_argument("--methods", default=",".join(METHODS))
    args = parser.parse_args()
    mend_si()
    pixels = read_mnist(args.mnist, "train")[0] / 255.0
    normalization = pixels.mean(), pixels.std()
    rows, all_agree = [], True
    for method in args.methods.split(","):
        scenario, flags = METHODS[method]
        flags += f" {2 * args.ewc_lambda}" if method == "ewc" else ""
        start = time.time()
        theirs = [avalanche(method, scenario, seed, args, normalization) for seed in range(1, args.seeds + 1)]
        between = time.time()
        ours = engram(method, scenario, flags, args)
        seconds = f"{between - start:.0f} s, {time.time() - between:.0f} s"
        mean_sd = lambda values: (100 * statistics.mean(values), 100 * statistics.stdev(values) if len(values) > 1 else 0.0)
        (a, sd_a), (e, sd_e) = mean_sd(theirs), mean_sd(ours)
        allowed = max(2.0, 2 * ((sd_a**2 + sd_e**2) / args.seeds) ** 0.5)
        agree = abs(e - a) <= allowed
        all_agree &= agree
        rows.append(f"| {method} | {scenario} | {a:.1f} ± {sd_a:.1f} | {e:.1f} ± {sd_e:.1f} | {e - a:+.1f} | {allowed:.1f} | {'yes' if agree else 'NO'} | {seconds} |")
        print("  " + rows[-1], flush=True)
    print("\n| method | scenario | avalanche | engram | difference | allowed | agree | time |\n|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    sys.exit(0 if all_agree else 1)


if __name__ == "__main__":
    main()
