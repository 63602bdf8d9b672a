"""Golden values for every op, computed by PyTorch: one text file per op, `<op>.txt`, beside this script.

    python make_golden.py

Inputs are float32. The computation runs in float64 on exactly those inputs and its results are rounded
to float32 once, at the end, so that a golden value is the correct answer and not PyTorch's rounding of it.
All sizes within a case differ wherever the op allows it, so that swapped dimensions cannot go unnoticed.

Each op below is a function that yields its cases:  name, inputs, function[, inputs that get a gradient].
By default every float input gets one; `()` means that the case has no backward pass. The file format:

    case <name>
    input f32 2x3x5 v v v ...        one line per input, in argument order; u32 for labels and indices
    output f32 4x3 v v ...           one line per output
    cotangent f32 4x3 v v ...        the gradient handed to backward, shaped like the first output
    grad 0 f32 2x3x5 v v ...         what backward returns for input 0 (1, 2, ...)

Numbers are the shortest decimals that read back as the same float32 (never more than 9 digits).
"""

import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ALL = None  # every float input gets a gradient
OPS = []


def op(function):
    OPS.append(function)
    return function


class Draw:
    """Random inputs, the same ones on every run: a generator seeded by the op's name."""

    def __init__(self, name):
        self.generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(self, *shape, scale=1.0):
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64) * scale
        return (values * 1e4).round().div(1e4).float()  # four decimals keep the files readable

    def uniform(self, low, high, *shape):
        values = torch.rand(shape, generator=self.generator, dtype=torch.float64) * (high - low) + low
        return (values * 1e4).round().div(1e4).float()

    def labels(self, classes, count):
        return torch.randint(classes, (count,), generator=self.generator)


def f32(rows):
    return torch.tensor(rows, dtype=torch.float32)


# ---- elementwise -------------------------------------------------------------------------------------


@op
def add(draw):
    yield "same_shape", [draw.normal(2, 3, 5), draw.normal(2, 3, 5)], lambda a, b: a + b


@op
def sub(draw):
    yield "same_shape", [draw.normal(2, 3, 5), draw.normal(2, 3, 5)], lambda a, b: a - b


@op
def mul(draw):
    yield "same_shape", [draw.normal(2, 3, 5), draw.normal(2, 3, 5)], lambda a, b: a * b


@op
def scale(draw):
    yield "by_2.5", [draw.normal(2, 3, 5)], lambda x: 2.5 * x


@op
def relu(draw):
    x = draw.normal(2, 3, 5)
    x[0, 0, 1] = x[0, 2, 4] = x[1, 1, 3] = 0.0  # the derivative at 0 is 0
    yield "with_zeros", [x], F.relu


@op
def sigmoid(draw):
    yield "moderate", [draw.normal(2, 3, 5, scale=2.0)], torch.sigmoid
    yield "extreme", [f32([-100, -20, -1, 0, 1, 20, 100])], torch.sigmoid


@op
def exp(draw):
    yield "moderate", [draw.normal(2, 3, 5)], torch.exp


@op
def log(draw):
    yield "positive", [draw.uniform(0.01, 5.0, 2, 3, 5)], torch.log


@op
def sqrt(draw):
    yield "positive", [draw.uniform(0.01, 5.0, 2, 3, 5)], torch.sqrt


@op
def bias_add(draw):
    yield "matrix", [draw.normal(5, 4), draw.normal(4)], lambda x, b: x + b
    yield "channels", [draw.normal(2, 3, 4, 5), draw.normal(3)], lambda x, b: x + b[:, None, None]


@op
def lerp_channels(draw):
    weight = f32([0.0, 0.5, 1.0, 0.3])
    run = lambda a, b, w: torch.lerp(a, b, w.view(-1, *[1] * (a.dim() - 2)).expand_as(a))
    yield "matrix", [draw.normal(3, 4), draw.normal(3, 4), weight], run, (0, 1)
    yield "maps", [draw.normal(2, 4, 3, 5), draw.normal(2, 4, 3, 5), weight], run, (0, 1)


@op
def batch_norm(draw):
    """Inputs: x, weight, bias, running mean and variance (2, C), residual. momentum 0.1, epsilon 1e-3."""

    def norm(x, weight, bias, running, training):
        return F.batch_norm(x, running[0].clone(), running[1].clone(), weight, bias, training, 0.1, 1e-3)

    def run(training, relu, x, weight, bias, running, residual=None):
        y = norm(x, weight, bias, running, training)
        if residual is not None and residual.shape != y.shape:
            residual = residual[:, :, ::2, ::2]
            front = (y.shape[1] - residual.shape[1]) // 2
            residual = F.pad(residual, (0, 0, 0, 0, front, y.shape[1] - residual.shape[1] - front))
        y = y if residual is None else y + residual
        return F.relu(y) if relu else y

    def inputs(*shape, residual=None):
        c = shape[1]
        made = [draw.normal(*shape), draw.normal(c), draw.normal(c), draw.uniform(0.5, 1.5, 2, c)]
        return made + ([draw.normal(*residual)] if residual else [])

    wanted = [0, 1, 2]
    yield "train", inputs(3, 4, 5, 2), lambda *x: run(True, False, *x), wanted
    yield "frozen_matrix", inputs(7, 5), lambda *x: run(True, False, *x), wanted
    yield "eval", inputs(3, 4, 5, 2), lambda *x: run(False, False, *x), wanted
    yield "relu", inputs(3, 4, 5, 2), lambda *x: run(True, True, *x), wanted
    both = wanted + [4]
    yield "residual", inputs(3, 4, 5, 2, residual=(3, 4, 5, 2)), lambda *x: run(True, False, *x), both
    yield "residual_relu", inputs(3, 4, 5, 2, residual=(3, 4, 5, 2)), lambda *x: run(True, True, *x), both
    yield "option_a", inputs(2, 5, 3, 4, residual=(2, 2, 5, 7)), lambda *x: run(True, False, *x), both
    yield "option_a_relu", inputs(2, 5, 3, 4, residual=(2, 2, 5, 7)), lambda *x: run(False, True, *x), both


# ---- reductions --------------------------------------------------------------------------------------


@op
def sum(draw):
    yield "all", [draw.normal(3, 4, 5)], lambda x: x.sum().reshape(1)


@op
def mean(draw):
    yield "all", [draw.normal(3, 4, 5)], lambda x: x.mean().reshape(1)


@op
def row_sum(draw):
    yield "matrix", [draw.normal(5, 7)], lambda x: x.sum(1)


@op
def row_mean(draw):
    yield "matrix", [draw.normal(5, 7)], lambda x: x.mean(1)


@op
def channel_sum(draw):
    yield "matrix", [draw.normal(5, 4)], lambda x: x.sum(0)
    yield "image", [draw.normal(2, 3, 4, 5)], lambda x: x.sum((0, 2, 3))


@op
def argmin_rows(draw):
    yield "matrix", [draw.normal(5, 7)], lambda x: x.argmin(1), ()
    ties = f32([[3, 1, 2, 1, 1], [0, 0, 0, 0, 0], [5, 4, 3, 2, 2], [-1, 7, -1, 7, -2]])
    yield "ties", [ties], lambda x: torch.from_numpy(x.numpy().argmin(1)), ()  # NumPy: the first index wins


@op
def argmax_rows(draw):
    yield "matrix", [draw.normal(5, 7)], lambda x: x.argmax(1), ()
    ties = f32([[1, 3, 2, 3, 3], [0, 0, 0, 0, 0], [2, 3, 4, 5, 5], [-1, 7, -1, 7, -2]])
    yield "ties", [ties], lambda x: torch.from_numpy(x.numpy().argmax(1)), ()
    yield "maps", [draw.normal(3, 7, 4, 5)], lambda x: x.argmax(1), ()


# ---- matrices ----------------------------------------------------------------------------------------


@op
def matmul(draw):
    yield "nn", [draw.normal(5, 7), draw.normal(7, 3)], lambda a, b: a @ b
    yield "nt", [draw.normal(5, 7), draw.normal(3, 7)], lambda a, b: a @ b.T
    yield "tn", [draw.normal(7, 5), draw.normal(7, 3)], lambda a, b: a.T @ b
    yield "tt", [draw.normal(7, 5), draw.normal(3, 7)], lambda a, b: a.T @ b.T


@op
def linear(draw):
    yield "bias", [draw.normal(5, 7), draw.normal(3, 7), draw.normal(3)], F.linear
    yield "no_bias", [draw.normal(5, 7), draw.normal(3, 7)], F.linear


@op
def l2_normalize(draw):
    yield "rows", [draw.normal(5, 7)], lambda x: F.normalize(x, dim=1, eps=1e-12)


@op
def squared_distances(draw):
    def distances(x, m):
        return (x[:, None, :] - m[None, :, :]).square().sum(2)

    yield "rows", [draw.normal(5, 7), draw.normal(3, 7)], distances


@op
def gather_rows(draw):
    yield "rows", [draw.normal(6, 4), torch.tensor([2, 0, 2, 5, 2])], lambda x, index: x[index]


# ---- images ------------------------------------------------------------------------------------------


@op
def conv2d(draw):
    def case(name, x, w, bias=True):
        parts = dict((part[0], int(part[1:])) for part in name.split("_") if part[1:].isdigit())  # "k3_d2_s1_p2"
        stride, padding, dilation = parts["s"], parts["p"], parts.get("d", 1)
        inputs = [draw.normal(*x), draw.normal(*w, scale=0.5)] + [draw.normal(w[0])] * bias
        return name, inputs, lambda x, w, b=None: F.conv2d(x, w, b, stride, padding, dilation)

    yield case("k3_s1_p1", (2, 3, 7, 6), (4, 3, 3, 3))
    yield case("k5_s2_p2", (2, 3, 9, 8), (4, 3, 5, 5))
    yield case("k3x2_s1_p0", (3, 2, 6, 5), (5, 2, 3, 2))
    yield case("k1_s2_p0", (2, 3, 7, 6), (5, 3, 1, 1))
    yield case("k3_s3_p1", (2, 3, 8, 11), (5, 3, 3, 3))
    yield case("no_bias_k3_s1_p1", (3, 2, 5, 6), (4, 2, 3, 3), bias=False)
    yield case("k3_d2_s1_p2", (2, 3, 7, 6), (4, 3, 3, 3))
    yield case("k3_d3_s2_p3", (2, 2, 8, 11), (3, 2, 3, 3))
    yield case("k3x2_d2_s2_p1", (3, 2, 9, 6), (5, 2, 3, 2))
    yield case("k2_d6_s4_p2", (1, 2, 13, 11), (3, 2, 2, 2))
    yield case("few_products_k3_s1_p1", (2, 20, 3, 4), (21, 20, 3, 3))  # enough channels for Winograd's


@op
def conv2d_batch_norm(draw):
    """Inputs: x, weight, gamma, beta, running mean and variance (2, O), residual. epsilon 1e-3, padding 1."""

    def run(stride, relu, x, w, gamma, beta, running, residual=None):
        bias = beta if residual is None else None
        y = F.batch_norm(F.conv2d(x, w, bias, stride, 1), running[0], running[1], gamma, beta, False, 0.1, 1e-3)
        y = y if residual is None else y + residual
        return F.relu(y) if relu else y

    def inputs(x, o, residual=None):
        made = [draw.normal(*x), draw.normal(o, x[1], 3, 3, scale=0.5), draw.normal(o), draw.normal(o)]
        return made + [draw.uniform(0.5, 1.5, 2, o)] + ([draw.normal(*residual)] if residual else [])

    yield "plain", inputs((2, 3, 5, 6), 4), lambda *x: run(1, False, *x), ()
    yield "relu_s2", inputs((2, 3, 6, 5), 17), lambda *x: run(2, True, *x), ()
    yield "residual_relu", inputs((3, 4, 7, 5), 5, (3, 5, 7, 5)), lambda *x: run(1, True, *x), ()


@op
def max_pool2d(draw):
    def case(name, x):
        sizes = {part[0]: int(part[1:]) for part in name.split("_") if part[1:].isdigit()}  # "k3_s2_p1"
        return name, [x], lambda x: F.max_pool2d(x, sizes["k"], sizes["s"], sizes.get("p", 0))

    yield case("k2_s2", draw.normal(2, 3, 6, 4))
    yield case("k3_s2", draw.normal(2, 3, 7, 9))
    yield case("ties_k2_s2", torch.full((2, 3, 4, 6), 0.5))  # the first index of a window gets the gradient
    yield case("odd_k2_s2", draw.normal(1, 2, 5, 7))
    yield case("k3_s2_p1", draw.normal(2, 3, 8, 7))
    yield case("negative_k3_s2_p1", draw.normal(1, 2, 4, 5) - 9)  # what lies outside is no zero
    yield case("k3_s1_p1", draw.normal(1, 2, 3, 4))


@op
def global_avg_pool(draw):
    yield "image", [draw.normal(2, 3, 4, 5)], lambda x: x.mean((2, 3))


# ---- losses ------------------------------------------------------------------------------------------


@op
def avg_pool2d(draw):
    def pool(kernel, stride=None, padding=0):
        return lambda x: F.avg_pool2d(x, kernel, stride, padding)

    yield "strips", [draw.normal(2, 3, 4, 8)], pool((1, 4))
    yield "halves", [draw.normal(2, 3, 7, 5)], pool((3, 2))
    yield "k4_s1_p2", [draw.normal(2, 2, 5, 6)], pool(4, 1, 2)
    yield "larger_than_the_image", [draw.normal(1, 2, 5, 4)], pool(8, 1, 4)
    yield "channels", [draw.normal(2, 1, 5, 12)], pool((3, 1), 1, (1, 0))
    yield "gaps", [draw.normal(1, 2, 9, 11)], pool((2, 3), (4, 5), (1, 0))


@op
def resize_bilinear(draw):
    def to(*size):
        return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=False)

    yield "larger", [draw.normal(2, 3, 4, 5)], to(9, 20)
    yield "smaller", [draw.normal(2, 3, 9, 8)], to(4, 3)
    yield "from_one_pixel", [draw.normal(2, 3, 1, 1)], to(4, 7)
    yield "to_one_pixel", [draw.normal(1, 2, 5, 4)], to(1, 1)
    yield "mixed", [draw.normal(1, 2, 3, 8)], to(7, 5)


@op
def concat_channels(draw):
    yield "maps", [draw.normal(2, c, 3, 5) for c in (2, 4, 3)], lambda *x: torch.cat(x, 1)
    yield "rows", [draw.normal(3, c) for c in (2, 5)], lambda *x: torch.cat(x, 1)


@op
def narrow_channels(draw):
    yield "middle", [draw.normal(2, 7, 3, 5)], lambda x: x[:, 2:6]
    yield "last", [draw.normal(4, 6)], lambda x: x[:, 5:6]


@op
def to_pixels(draw):
    yield "maps", [draw.normal(3, 5, 4, 7)], lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


@op
def from_pixels(draw):
    yield "rows", [draw.normal(30, 4)], lambda x: x.view(2, 3, 5, 4).permute(0, 3, 1, 2)


IGNORE = -1  # 2**32 - 1 as a u32


def pixel_labels(draw, classes, *shape):
    """Labels of which every fifth does not count."""
    labels = draw.labels(classes, torch.Size(shape).numel())
    labels[::5] = IGNORE
    return labels.view(shape)


def merged_log_softmax(x, n_merged):
    """The log-probabilities of MiB's unbiased cross-entropy: all of the first classes in the place of each of them."""
    y = torch.log_softmax(x, 1)
    merged = torch.logsumexp(y[:, :n_merged], 1, keepdim=True)
    return torch.cat([merged.expand(-1, n_merged, -1, -1), y[:, n_merged:]], 1)


@op
def pixel_cross_entropy(draw):
    def loss(n_active, n_merged):
        def run(x, t):
            y = x[:, :n_active]
            y = merged_log_softmax(y, n_merged) if n_merged else torch.log_softmax(y, 1)
            return F.nll_loss(y, t, ignore_index=IGNORE, reduction="none")

        return run

    x = draw.normal(2, 7, 3, 5, scale=2.0)
    yield "all", [x, pixel_labels(draw, 7, 2, 3, 5)], loss(7, 0)
    yield "first_5", [x, pixel_labels(draw, 5, 2, 3, 5)], loss(5, 1)
    yield "merged_3", [x, pixel_labels(draw, 7, 2, 3, 5)], loss(7, 3)
    yield "merged_3_of_5", [x, pixel_labels(draw, 5, 2, 3, 5)], loss(5, 3)


@op
def share_of_labels(draw):
    share = lambda t: 1.0 / (t != IGNORE).sum().clamp(min=1).double().view(1)
    yield "some", [pixel_labels(draw, 7, 2, 3, 5)], share, ()
    yield "none", [torch.full((2, 3, 5), IGNORE)], share, ()


@op
def pixel_distillation(draw):
    """Unbiased distillation as in MiB's code: new classes are added to the background before the logarithm."""

    def loss(n_old, n_active):
        def run(x, t):
            p = torch.softmax(x[:, :n_active], 1)
            background = p[:, :1] + p[:, n_old:].sum(1, keepdim=True)
            q = torch.cat([background, p[:, 1:n_old]], 1)
            return -(torch.softmax(t[:, :n_old], 1) * q.log()).mean(1)

        return run

    x = draw.normal(2, 7, 3, 5, scale=2.0)
    yield "plain", [x, draw.normal(2, 7, 3, 5, scale=2.0)], loss(4, 4), [0]
    yield "unbiased", [x, draw.normal(2, 4, 3, 5, scale=2.0)], loss(4, 7), [0]
    yield "unbiased_4_of_6", [x, draw.normal(2, 7, 3, 5, scale=2.0)], loss(4, 6), [0]
    yield "one_old", [x, draw.normal(2, 2, 3, 5, scale=2.0)], loss(1, 3), [0]


@op
def pseudo_labels(draw):
    """Of pixels whose class is old: the old network's choice if its entropy, as a part of the largest, is below that class's threshold."""

    def choose(x, labels, thresholds):
        n_old = thresholds.numel()
        p = torch.softmax(x[:, :n_old], 1)
        entropy = -(p * p.log()).sum(1) / torch.log(torch.tensor(float(n_old)))
        best, asked = p.argmax(1), (labels >= 0) & (labels < n_old)
        sure = asked & (entropy < thresholds[best])
        chosen = torch.where(sure, best, torch.where(asked, IGNORE, labels))
        return chosen, sure.double().sum((1, 2)) / asked.double().sum((1, 2))

    x, thresholds = draw.normal(3, 5, 4, 7, scale=2.0), f32([0.3, 0.6, 0.45, 0.5])
    inputs = [x, pixel_labels(draw, 5, 3, 4, 7), thresholds]
    yield "labels", inputs, lambda *x: choose(*x)[0], ()
    yield "accepted", inputs, lambda *x: choose(*x)[1], ()


@op
def confusion(draw):
    def count(predictions, labels, counts):
        counts = counts.clone()
        for label, prediction in zip(labels.ravel().tolist(), predictions.ravel().tolist()):
            if label < counts.shape[0] and prediction < counts.shape[0] and label != IGNORE:
                counts[label, prediction] += 1
        return counts

    indices = lambda: draw.labels(6, 40).view(2, 4, 5)
    yield "some", [indices(), pixel_labels(draw, 6, 2, 4, 5), torch.arange(25).view(5, 5)], count, ()


@op
def softmax(draw):
    yield "t1", [draw.normal(5, 7, scale=3.0)], lambda x: F.softmax(x, 1)
    yield "t2", [draw.normal(5, 7, scale=3.0)], lambda x: F.softmax(x / 2, 1)
    yield "lecture", [f32([[100, 10, 1]])], lambda x: F.softmax(x / 100, 1)


@op
def log_softmax(draw):
    yield "t1", [draw.normal(5, 7, scale=3.0)], lambda x: F.log_softmax(x, 1)
    yield "t4", [draw.normal(5, 7, scale=3.0)], lambda x: F.log_softmax(x / 4, 1)


@op
def cross_entropy(draw):
    def loss(z, labels):
        return F.cross_entropy(z, labels).reshape(1)

    yield "all", [draw.normal(6, 5, scale=2.0), draw.labels(5, 6)], loss
    # Only the first three columns take part; the gradient of the others is 0.
    yield "first_3", [draw.normal(6, 5, scale=2.0), draw.labels(3, 6)], lambda z, y: loss(z[:, :3], y)
    z = f32([[1000, 0, -1000, 10], [1000, 1000, -1000, 0], [-1000, 1000, 999, 998]])
    yield "extreme", [z, torch.tensor([0, 1, 2])], loss

    def of_pixels(z, labels):
        return F.cross_entropy(z, labels, ignore_index=IGNORE).reshape(1)

    z = draw.normal(2, 5, 3, 4, scale=2.0)
    yield "pixels", [z, pixel_labels(draw, 5, 2, 3, 4)], of_pixels
    yield "pixels_first_4", [z, pixel_labels(draw, 4, 2, 3, 4)], lambda z, y: of_pixels(z[:, :4], y)


@op
def kl_div(draw):
    def at(t):
        def loss(student, teacher):
            log_p_s, log_p_t = F.log_softmax(student / t, 1), F.log_softmax(teacher / t, 1)
            return (t * t * (log_p_t.exp() * (log_p_t - log_p_s)).sum(1).mean()).reshape(1)

        return loss

    yield "t1", [draw.normal(5, 7, scale=3.0), draw.normal(5, 7, scale=3.0)], at(1), (0,)
    yield "t4", [draw.normal(5, 7, scale=3.0), draw.normal(5, 7, scale=3.0)], at(4), (0,)
    rows = lambda z: z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    maps = [draw.normal(2, 5, 3, 4, scale=3.0) for _ in range(2)]
    yield "pixels", maps, lambda student, teacher: at(2)(rows(student), rows(teacher)), (0,)


@op
def mse(draw):
    run = lambda x, t: F.mse_loss(x, t).reshape(1)  # noqa: E731
    yield "logits", [draw.normal(5, 7), draw.normal(5, 7)], run, (0,)
    yield "maps", [draw.normal(2, 3, 4, 5), draw.normal(2, 3, 4, 5)], run, (0,)


@op
def smooth_l1(draw):
    run = lambda x, t: F.smooth_l1_loss(x, t).reshape(1)  # noqa: E731
    yield "logits", [draw.normal(5, 7, scale=2.0), draw.normal(5, 7, scale=2.0)], run, (0,)
    yield "maps", [draw.normal(2, 3, 4, 5), draw.normal(2, 3, 4, 5)], run, (0,)


@op
def partial_mse(draw):
    def run(x, t):  # as in the authors' distiller.py
        return ((x - t) ** 2 * ((x > t) | (t > 0)).double()).mean().reshape(1)

    yield "logits", [draw.normal(5, 7, scale=2.0), draw.normal(5, 7, scale=2.0)], run, (0,)
    yield "maps", [draw.normal(2, 3, 4, 5), draw.normal(2, 3, 4, 5)], run, (0,)


@op
def target_log_odds(draw):
    def at(t):
        def odds(x, labels):
            p = F.softmax(x / t, 1).gather(1, labels[:, None])[:, 0]
            return p.log() - (1 - p).log()

        return odds

    yield "t1", [draw.normal(5, 7, scale=2.0), draw.labels(7, 5)], at(1)
    yield "t4", [draw.normal(5, 7, scale=3.0), draw.labels(7, 5)], at(4)


@op
def attention_map(draw):
    yield "maps", [draw.normal(2, 3, 4, 5)], lambda x: x.pow(2).mean(1).reshape(2, 20)


@op
def over_positive_mean(draw):
    run = lambda x: x / x[x > 0].mean()  # noqa: E731
    yield "positive", [draw.uniform(0.1, 3.0, 5, 7)], run
    zeros = draw.uniform(0.1, 3.0, 4, 4)
    zeros.fill_diagonal_(0.0)
    yield "some_zero", [zeros], run


@op
def pair_differences(draw):
    yield "rows", [draw.normal(4, 3)], lambda x: (x[None] - x[:, None]).reshape(16, 3)


@op
def gram(draw):
    yield "stack", [draw.normal(2, 3, 5)], lambda x: torch.bmm(x, x.transpose(1, 2))


@op
def variational_bound(draw):
    def bound(in_quadratic):
        def run(p, d):
            pi = torch.bmm(p, p.transpose(1, 2))
            d = d.reshape(pi.shape[0], pi.shape[1], 1)
            inner = pi + 0.5 * torch.eye(pi.shape[1], dtype=p.dtype)
            quadratic = inner if in_quadratic else pi
            return (torch.bmm(torch.bmm(d.transpose(1, 2), quadratic), d).sum() - torch.logdet(inner).sum()).reshape(1)

        return run

    yield "stack", [draw.normal(2, 3, 5), draw.normal(6)], bound(False)
    yield "one_row", [draw.normal(3, 1, 2), draw.normal(3)], bound(False)
    yield "in_quadratic", [draw.normal(2, 4, 3), draw.normal(8)], bound(True)


@op
def bce_with_logits(draw):
    def loss(z, targets):
        return F.binary_cross_entropy_with_logits(z, targets).reshape(1)

    targets = draw.uniform(0.0, 1.0, 5, 7)
    targets[:, 2], targets[:, 4] = 0.0, 1.0
    yield "soft", [draw.normal(5, 7, scale=2.0), targets], loss, (0,)
    z = f32([[50, -50, 100, -100], [100, -100, 50, -50], [-50, 50, -100, 100]])
    yield "extreme", [z, f32([[1, 0, 1, 0], [0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75]])], loss, (0,)


# ---- optimisers: parameters and three gradients in, parameters after three steps out --------------------


def three_steps(make_optimizer):
    def run(p0, *gradients):
        p = p0.clone().requires_grad_()
        optimizer = make_optimizer([p])
        for p.grad in gradients:
            optimizer.step()
        return p.detach()

    return run


@op
def sgd(draw):
    def case(name, **options):
        steps = three_steps(lambda p: torch.optim.SGD(p, lr=0.1, **options))
        return name, [draw.normal(13) for _ in range(4)], steps, ()

    yield case("momentum_decay", momentum=0.9, weight_decay=0.01)
    yield case("plain")


@op
def adam(draw):
    def case(name, **options):
        steps = three_steps(lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.999), eps=1e-8, **options))
        return name, [draw.normal(13) for _ in range(4)], steps, ()

    yield case("decay", weight_decay=0.01)
    yield case("plain")


@op
def penalty(draw):
    def value(w, anchor, importance):
        return (importance * (w - anchor) ** 2).sum().reshape(1)

    def gradient(w, anchor, importance, g):
        return g + 0.7 * importance * (w - anchor)

    yield "value", [draw.normal(13) for _ in range(3)], value, ()
    yield "gradient", [draw.normal(13) for _ in range(4)], gradient, ()


@op
def filters(draw):
    # Two tensors, of 3 filters of 5 and 4 of 1, with padding between them, in a vector of 24.
    runs = [(0, 3, 5), (18, 4, 1)]
    spans = [slice(0, 3), slice(3, 7)]

    def cut(flat):
        return [flat[start : start + n * length].reshape(n, length) for start, n, length in runs]

    def dots(u, sums):
        return torch.stack([(u[:, span] * sums[span]).sum(1) for span in spans], 1)

    def gradient(g, u, coefficients):
        g = g.clone()
        for (start, n, length), span, own in zip(runs, spans, coefficients.T):
            g[start : start + n * length] += 0.7 * (own[:, None] * u[:, span]).sum(0).repeat_interleave(length)
        return g

    yield "sums", [draw.normal(24)], lambda flat: torch.cat([piece.sum(1) for piece in cut(flat)]), ()
    means = lambda flat, y: y + 0.3 * torch.cat([piece.mean(1) for piece in cut(flat)])
    yield "means", [draw.normal(24), draw.normal(7)], means, ()
    yield "dots", [draw.normal(2, 7), draw.normal(7)], dots, ()
    yield "gradient", [draw.normal(24), draw.normal(2, 7), draw.normal(2, 2)], gradient, ()


@op
def quarter_turns(draw):
    yield "images", [draw.normal(2, 1, 3, 3)], lambda x: torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)]), ()


@op
def importance(draw):
    yield "squares", [draw.normal(13) for _ in range(2)], lambda total, g: total + 0.3 * g**2, ()
    yield "magnitudes", [draw.normal(13) for _ in range(2)], lambda total, g: total + 0.3 * g.abs(), ()
    yield "path", [draw.normal(13) for _ in range(4)], lambda total, g, w, before: total - g * (w - before), ()


@op
def project(draw):
    def case(sign):
        def run(x, r):
            g = 0.1 * x + sign * r
            dot = g @ r
            return g - dot / (r @ r) * r if dot < 0 else g

        return run

    yield "against", [draw.normal(13) for _ in range(2)], case(-1), ()
    yield "along", [draw.normal(13) for _ in range(2)], case(1), ()


@op
def scatter_rows(draw):
    def run(x, slots, table):
        table = table.clone()
        for row, slot in zip(x, slots):
            if slot < len(table):
                table[slot] = row
        return table

    yield "rows", [draw.normal(5, 3), torch.tensor([2, 0, 7, 9, 4]), draw.normal(7, 3)], run, ()


# ---- running and writing -------------------------------------------------------------------------------


def is_float(tensor):
    return tensor.is_floating_point()


def line(label, tensor):
    values = tensor.detach().numpy()
    assert np.isfinite(values).all(), label
    kind = "f32" if is_float(tensor) else "u32"
    values = values.astype(np.float32 if is_float(tensor) else np.uint32)
    shape = "x".join(str(size) for size in values.shape)
    return " ".join([label, kind, shape, *(str(value) for value in values.ravel())])


def run_case(draw, name, inputs, function, wrt=ALL):
    lines = [f"case {name}", *(line("input", x) for x in inputs)]
    if wrt is ALL:
        wrt = [i for i, x in enumerate(inputs) if is_float(x)]
    inputs = [x.double() if is_float(x) else x for x in inputs]
    for i in wrt:
        inputs[i].requires_grad_()
    output = function(*inputs)
    lines.append(line("output", output))
    if wrt:
        cotangent = draw.normal(*output.shape)
        lines.append(line("cotangent", cotangent))
        gradients = torch.autograd.grad(output, [inputs[i] for i in wrt], cotangent.double())
        lines += [line(f"grad {i}", gradient) for i, gradient in zip(wrt, gradients)]
    return lines


def main():
    folder = Path(__file__).resolve().parent
    version = torch.__version__.split("+")[0]
    for function in OPS:
        name = function.__name__
        draw = Draw(name)
        lines = [f"# torch {version}; made by make_golden.py"]
        for case in function(draw):
            lines += ["", *run_case(draw, *case)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
