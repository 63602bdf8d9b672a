"""Golden values of two losses of distillation on one batch each, computed by PyTorch: `companions.txt` beside this script.

    python make_companions.py

ONE follows `cifar_one.py`, `loss/kl_loss.py` and the class `ONE_ResNet` of Lan1991Xu/ONE_NeurIPS2018, the overhaul of features
`distiller.py` of clovaai/overhaul-distillation, not engram's implementation. The format is that of make_golden.py.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from make_golden import Draw, f32, run_case


def one(shared, weight, bias, gamma, beta, z1, z2, z3, labels, t=3.0, ramp=0.2865048):
    gate = F.linear(F.adaptive_avg_pool2d(shared, 1).flatten(1), weight, bias)
    gate = F.softmax(F.relu(F.batch_norm(gate, None, None, gamma, beta, training=True)), 1)
    ensemble = gate[:, 0:1] * z1 + gate[:, 1:2] * z2 + gate[:, 2:3] * z3
    loss = F.cross_entropy(ensemble, labels)
    target = F.softmax(ensemble.detach() / t, 1) + 1e-7
    for z in (z1, z2, z3):
        kl = (target * (target.log() - F.log_softmax(z / t, 1))).sum(1).mean() * t * t
        loss = loss + F.cross_entropy(z, labels) + ramp * kl
    return loss


def margins(gamma, beta):
    result = []
    for s, m in zip(gamma.abs().tolist(), beta.tolist()):
        at = torch.tensor(-m / s, dtype=torch.float64)
        below = torch.special.ndtr(at).item()
        density = torch.exp(-(at**2) / 2).item() / (2 * torch.pi) ** 0.5
        result.append(-s * density / below + m if below > 0.001 else -3 * s)
    return torch.tensor(result, dtype=torch.float64)


def distillation_loss(source, target, margin):
    target = torch.max(target, margin[None, :, None, None])
    loss = (source - target) ** 2 * ((source > target) | (target > 0)).double()
    return loss.sum()


def ofd(*x):
    stages = [x[:7], x[7:]]
    loss = 0
    for i, (student, teacher, weight, gamma, beta, teacher_gamma, teacher_beta) in enumerate(stages):
        connected = F.batch_norm(F.conv2d(student, weight), None, None, gamma, beta, training=True)
        margin = margins(teacher_gamma, teacher_beta)
        part = distillation_loss(connected, teacher.detach(), margin) / 2 ** (len(stages) - i - 1)
        loss = loss + part / len(student)
    return loss


def cases(draw):
    logits = [draw.normal(4, 7, scale=3.0) for _ in range(3)]
    gate = [draw.normal(3, 6), draw.normal(3), draw.uniform(0.5, 1.5, 3), draw.normal(3)]
    yield "one", [draw.normal(4, 6, 3, 2), *gate, *logits, draw.labels(7, 4)], one, tuple(range(8))

    def stage(student, teacher, side, gamma, beta):
        connector = [draw.normal(teacher, student, 1, 1), draw.uniform(0.5, 1.5, teacher), draw.normal(teacher)]
        maps = [draw.normal(3, student, *side), draw.normal(3, teacher, *side, scale=2.0)]
        return [*maps, *connector, f32(gamma), f32(beta)]

    # The third channel is almost never negative, the fifth has a negative scale.
    first = stage(2, 5, (4, 3), [1.0, 0.5, 0.25, 2.0, -1.5], [0.0, -0.5, 1.0, 0.75, 0.1])
    second = stage(4, 3, (2, 2), [0.8, 1.2, 0.3], [0.2, -0.1, 2.0])
    yield "ofd", [*first, *second], ofd, (0, 2, 3, 4, 7, 9, 10, 11)


def main():
    draw = Draw("companions")
    lines = [f"# torch {torch.__version__.split('+')[0]}; made by make_companions.py"]
    for name, inputs, function, wrt in cases(draw):
        lines += ["", *run_case(draw, name, inputs, lambda *x, f=function: f(*x).reshape(1), wrt)]
    (Path(__file__).resolve().parent / "companions.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
