"""Golden values of the losses of continual segmentation, computed by PyTorch: `segment.txt` beside this script.

    python make_segment.py

The functions follow the authors' public code (MiB, PLOP, RCIL, ILT as MiB's code has it), not engram's implementation. The format is
that of make_golden.py; a label of 2**32 - 1 does not count.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from make_golden import IGNORE, Draw, pixel_labels, run_case

OLD, SEEN = 4, 6


def one(x):
    return x.reshape(1)


def unbiased_cross_entropy(inputs, targets):
    """MiB's UnbiasedCrossEntropy."""
    inputs = inputs[:, :SEEN]
    den = torch.logsumexp(inputs, dim=1)
    background = torch.logsumexp(inputs[:, :OLD], dim=1) - den
    outputs = torch.cat([background.unsqueeze(1), torch.zeros_like(inputs[:, 1:OLD]), inputs[:, OLD:] - den.unsqueeze(1)], 1)
    labels = targets.clone()
    labels[(targets < OLD) & (targets != IGNORE)] = 0
    return one(F.nll_loss(outputs, labels, ignore_index=IGNORE))


def unbiased_distillation(inputs, targets):
    """MiB's UnbiasedKnowledgeDistillationLoss."""
    inputs = inputs[:, :SEEN]
    new = torch.tensor([0, *range(OLD, SEEN)])
    den = torch.logsumexp(inputs, dim=1)
    no_background = inputs[:, 1:OLD] - den.unsqueeze(dim=1)
    background = torch.logsumexp(torch.index_select(inputs, index=new, dim=1), dim=1) - den
    labels = torch.softmax(targets, dim=1)
    loss = (labels[:, 0] * background + (labels[:, 1:] * no_background).sum(dim=1)) / targets.shape[1]
    return one(-loss.mean())


def distillation(inputs, targets):
    """KnowledgeDistillationLoss of the same code: LwF's, and the first term of ILT."""
    outputs = torch.log_softmax(inputs.narrow(1, 0, targets.shape[1]), dim=1)
    return one(-(outputs * torch.softmax(targets, dim=1)).mean(dim=1).mean())


def entropy(probabilities):
    return -(probabilities * probabilities.log()).sum(1) / torch.log(torch.tensor(float(probabilities.shape[1])))


def pseudo(labels, old, thresholds):
    probabilities = torch.softmax(old, dim=1)
    best = probabilities.argmax(1)
    background = (labels < OLD) & (labels != IGNORE)
    sure = entropy(probabilities) < thresholds[best]
    labels = labels.clone()
    labels[~sure & background] = IGNORE
    labels[sure & background] = best[sure & background]
    factor = (sure & background).double().sum((1, 2)) / background.double().sum((1, 2))
    return labels, factor


def adaptive_cross_entropy(logits, labels, old, thresholds):
    labels, factor = pseudo(labels, old, thresholds)
    loss = F.cross_entropy(logits[:, :SEEN], labels, ignore_index=IGNORE, reduction="none")
    return one((factor[:, None, None] * loss).mean())


def pod_vector(x, scales):
    vector = []
    for scale in scales:
        height, width = x.shape[2] // scale, x.shape[3] // scale
        for i in range(scale):
            for j in range(scale):
                part = x[..., i * height : (i + 1) * height, j * width : (j + 1) * width]
                vector += [part.mean(dim=3).flatten(1), part.mean(dim=2).flatten(1)]
    return torch.cat(vector, 1)


def local_pod(a, b):
    """PLOP's `features_distillation` with squares, local pools of scales 1, 2 and 4 and without its factors."""
    scales = [1, 2, 4]
    return one(torch.linalg.vector_norm(pod_vector(a**2, scales) - pod_vector(b**2, scales), dim=-1).mean())


def new_as_background(b):
    """How PLOP compares logits of more classes with those of fewer."""
    return torch.cat([b[:, :1] + b[:, OLD:SEEN].sum(1, keepdim=True), b[:, 1:OLD]], 1)


def pooled_cube(a, b):
    """RCIL's `features_distillation_spatial` without its factors."""
    total = 0
    for k in [4, 8, 12, 16, 20, 24]:
        pooled = [F.avg_pool2d(x**2, (k, k), stride=1, padding=k // 2) for x in (a, b)]
        total = total + torch.linalg.vector_norm((pooled[0] - pooled[1]).flatten(1), dim=-1).mean()
    return one(total / 6)


def pooled_channels(a, b):
    """RCIL's `features_distillation_channel` without its factors."""
    pool = lambda x: F.avg_pool2d((x**2).permute(0, 2, 1, 3), (3, 1), stride=1, padding=(1, 0))
    return one(torch.linalg.vector_norm((pool(a) - pool(b)).flatten(1), dim=-1).mean())


def cases(draw):
    logits, labels = draw.normal(2, 7, 5, 6, scale=2.0), pixel_labels(draw, SEEN, 2, 5, 6)
    old = draw.normal(2, OLD, 5, 6, scale=2.0)
    maps = [draw.normal(2, 3, 8, 12), draw.normal(2, 3, 8, 12)]
    odd = [draw.normal(2, 2, 7, 10), draw.normal(2, 2, 7, 10)]
    thresholds = torch.tensor([0.4, 0.5, 0.3, 0.6])
    yield "unbiased_cross_entropy", [logits, labels], unbiased_cross_entropy
    yield "unbiased_distillation", [logits, old], unbiased_distillation, (0,)
    yield "distillation", [logits, old], distillation, (0,)
    yield "pseudo_labels", [labels, old, thresholds], lambda *x: pseudo(*x)[0], ()
    yield "accepted", [labels, old, thresholds], lambda *x: pseudo(*x)[1], ()
    yield "adaptive_cross_entropy", [logits, labels, old, thresholds], adaptive_cross_entropy, (0,)
    yield "local_pod", maps, local_pod, (0,)
    yield "local_pod_odd", odd, local_pod, (0,)
    yield "new_as_background", [logits], new_as_background
    yield "pooled_cube", maps, pooled_cube, (0,)
    yield "pooled_channels", maps, pooled_channels, (0,)
    yield "features", maps, lambda a, b: one(F.mse_loss(a, b)), (0,)


def main():
    name = "segment"
    draw = Draw(name)
    lines = [f"# torch {torch.__version__.split('+')[0]}; made by make_segment.py"]
    for case in cases(draw):
        lines += ["", *run_case(draw, *case)]
    (Path(__file__).resolve().parent / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
