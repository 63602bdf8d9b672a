"""Golden values of the losses of distillation, computed by PyTorch: `distill.txt` beside this script.

    python make_distill.py

The functions follow the authors' public code (DKD: masks and logarithms of probabilities; RKD, attention transfer,
similarity: as in RepDistiller), not engram's implementation. The format is that of make_golden.py.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from make_golden import Draw, run_case


def kd(t):
    def loss(student, teacher):
        p = F.softmax(teacher / t, 1)
        return F.kl_div(F.log_softmax(student / t, 1), p, reduction="sum") * t * t / student.shape[0]

    return loss


def hinton(student, teacher, labels):
    return 0.1 * F.cross_entropy(student, labels) + 0.9 * kd(4.0)(student, teacher)


def dkd_target(student, teacher, labels, t=4.0):
    one_hot = F.one_hot(labels, student.shape[1]).bool()

    def two(z):
        p = F.softmax(z / t, 1)
        return torch.stack([(p * one_hot).sum(1), (p * ~one_hot).sum(1)], 1)

    return F.kl_div(two(student).log(), two(teacher), reduction="sum") * t * t / student.shape[0]


def dkd_rest(student, teacher, labels, t=4.0):
    mask = 1000.0 * F.one_hot(labels, student.shape[1])
    p = F.softmax(teacher / t - mask, 1)
    return F.kl_div(F.log_softmax(student / t - mask, 1), p, reduction="sum") * t * t / student.shape[0]


def attention(student, teacher):
    def at(f):
        return F.normalize(f.pow(2).mean(1).view(f.size(0), -1))

    return (at(student) - at(teacher)).pow(2).mean()


def pdist(e, eps=1e-12):
    square = e.pow(2).sum(1)
    res = (square[:, None] + square[None] - 2 * e @ e.t()).clamp(min=eps)
    res = res.sqrt().clone()
    res[range(len(e)), range(len(e))] = 0
    return res


def rkd_distance(student, teacher):
    d_t, d_s = pdist(teacher), pdist(student)
    return F.smooth_l1_loss(d_s / d_s[d_s > 0].mean(), d_t / d_t[d_t > 0].mean())


def rkd_angle(student, teacher):
    def angles(e):
        direction = F.normalize(e[None] - e[:, None], p=2, dim=2)
        return torch.bmm(direction, direction.transpose(1, 2)).view(-1)

    return F.smooth_l1_loss(angles(student), angles(teacher))


def similarity(student, teacher):
    def gram(f):
        f = f.view(f.shape[0], -1)
        return F.normalize(f @ f.t())

    return (gram(student) - gram(teacher)).pow(2).sum() / student.shape[0] ** 2


def hint(student, teacher, weight, bias):
    return F.mse_loss(F.linear(student, weight, bias), teacher)


def hint_maps(student, teacher, weight, bias):
    return F.mse_loss(F.conv2d(student, weight, bias), teacher)


def two_teachers(student, first, second, t=4.0):
    p = (F.softmax(first / t, 1) + F.softmax(second / t, 1)) / 2
    return F.kl_div(F.log_softmax(student / t, 1), p, reduction="sum") * t * t / student.shape[0]


def cases(draw):
    def logits():
        return draw.normal(5, 7, scale=3.0)

    yield "hinton", [logits(), logits(), draw.labels(7, 5)], hinton, (0,)
    yield "two_teachers", [logits(), logits(), logits()], two_teachers, (0,)
    yield "dkd_target", [logits(), logits(), draw.labels(7, 5)], dkd_target, (0,)
    yield "dkd_rest", [logits(), logits(), draw.labels(7, 5)], dkd_rest, (0,)
    yield "attention", [draw.normal(3, 4, 5, 2), draw.normal(3, 6, 5, 2)], attention, (0,)
    yield "rkd_distance", [draw.normal(6, 5), draw.normal(6, 3)], rkd_distance, (0,)
    yield "rkd_angle", [draw.normal(6, 5), draw.normal(6, 3)], rkd_angle, (0,)
    yield "similarity", [draw.normal(4, 3, 2, 5), draw.normal(4, 6)], similarity, (0,)
    yield "hint", [draw.normal(5, 3), draw.normal(5, 4), draw.normal(4, 3), draw.normal(4)], hint, (0, 2, 3)
    maps = [draw.normal(2, 3, 4, 5), draw.normal(2, 6, 4, 5), draw.normal(6, 3, 1, 1), draw.normal(6)]
    yield "hint_maps", maps, hint_maps, (0, 2, 3)


def main():
    draw = Draw("distill")
    lines = [f"# torch {torch.__version__.split('+')[0]}; made by make_distill.py"]
    for name, inputs, function, wrt in cases(draw):
        lines += ["", *run_case(draw, name, inputs, lambda *x, f=function: f(*x).reshape(1), wrt)]
    (Path(__file__).resolve().parent / "distill.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
