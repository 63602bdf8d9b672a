"""Exports tiny runs and learners and compares what onnxruntime and PyTorch answer with what engram answers.

    pip install numpy onnxruntime            # seconds; for the first half
    pip install torch safetensors onnx       # for all of it
    cargo build --release && python3 tests/export.py target/release/engram

Without torch, PyTorch's half is skipped, and it says so. Every answer must agree to 1e-5 of the largest answer to that picture.
"""
import importlib.util
import json
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import onnxruntime

try:
    import torch
    import safetensors  # noqa: F401, what model.py needs
except ImportError:
    torch = None
try:
    import onnx
except ImportError:
    onnx = None

TOLERANCE = 1e-5
TINY = "--limit-per-task 40 --epochs 1 --memory 20 --device cpu --quiet"
# Grey images of 28 x 28 and colour of 32 x 32; shortcuts of each kind, and features of both signs.
RUNS = [
    ("icarl", "glyphs", "cnn", ""),
    ("icarl", "glyphs", "mlp", ""),
    ("er", "glyphs", "vgg11-slim", "--width 0.25"),
    ("icarl", "glyphs", "resnet20", "--last-relu false"),
    ("icarl", "glyphs", "resnet18", "--width 0.25 --bn-epsilon 1e-3"),
    ("er", "shapes", "resnet18", "--width 0.25 --shortcut a"),
    ("er", "shapes", "resnet18", "--width 0.25 --stem large"),
    ("er", "shapes", "vgg11", "--width 0.25"),
    ("er", "shapes", "preact-resnet18", "--width 0.25"),
]
# Methods of learners: of each kind of head one.
LEARNERS = ("ranpac", "ncm", "fecam", "icarl", "er")


def write_png(path, image):
    """An image (C, H, W) of bytes, grey or in colour."""
    channels, height, width = image.shape
    rows = image.transpose(1, 2, 0).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


def engram(folder, *arguments):
    done = subprocess.run([PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"engram {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def pictures(folder, shape):
    """Blots and noise, as files and as bytes."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (12, *shape), dtype=np.uint8)
    images[::2, :, 8:20, 8:20] = 255
    images[1::3] //= 8
    (folder / "pictures").mkdir(exist_ok=True)
    for i, image in enumerate(images):
        write_png(folder / "pictures" / f"{i:02}.png", image)
    return images


def answers_of_engram(folder, run, classifier, n_classes):
    """(N, classes) by place in the model's list of classes: distances or probabilities, and which of the two."""
    files = sorted(str(path) for path in (folder / "pictures").iterdir())
    text = engram(folder, "predict", run, *files, "--json", "--top-k", "1000", "--device", "cpu", "--classifier", classifier)
    card = json.loads((folder / run / "model.json").read_text())
    places = {one["class"]: i for i, one in enumerate(card["classes"])}
    rows = json.loads(text)
    kind = "distance" if "distance" in rows[0]["predictions"][0] else "probability"
    table = np.zeros((len(rows), n_classes))
    for i, row in enumerate(rows):
        for one in row["predictions"]:
            table[i, places[one["class"]]] = one[kind]
    return table, (kind if kind == "distance" else card["activation"].lower())


def as_engram_says(scores, kind):
    scores = np.asarray(scores, dtype=np.float64)
    if kind == "distance":
        return -scores
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-scores))
    exponentials = np.exp(scores - scores.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def apart(a, b):
    return float((np.abs(a - b).max(1) / np.abs(b).max(1)).max())


def torch_answers(path, images):
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location(f"model_{abs(hash(path))}", path / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        return [value.numpy() for value in module.load()(torch.from_numpy(images))]


def check(folder, run, name):
    """Both exports of a run by each of its classifiers."""
    card = json.loads((folder / run / "model.json").read_text())
    images = pictures(folder, card["input"])
    x = images.astype(np.float32) / 255
    worst = 0.0
    for classifier in card["classifiers"]:
        expected, kind = answers_of_engram(folder, run, classifier, len(card["classes"]))
        out = f"{run}-{classifier}"
        engram(folder, "export", run, "--to", "onnx", "--out", f"{out}.onnx", "--classifier", classifier)
        if onnx:
            onnx.checker.check_model(str(folder / f"{out}.onnx"), full_check=True)
        session = onnxruntime.InferenceSession(str(folder / f"{out}.onnx"), providers=["CPUExecutionProvider"])
        features, logits, scores = session.run(["features", "logits", "scores"], {"images": x})
        # Any number of images at once.
        one = session.run(["scores"], {"images": x[:1]})[0]
        assert np.allclose(one, scores[:1], rtol=TOLERANCE, atol=TOLERANCE * np.abs(scores).max())
        errors = {"onnxruntime": apart(as_engram_says(scores, kind), expected)}
        if torch:
            engram(folder, "export", run, "--to", "torch", "--out", out, "--classifier", classifier)
            others = torch_answers(folder / out, x)
            errors["torch"] = apart(as_engram_says(others[2], kind), expected)
            errors["features"] = apart(others[0], features)
            errors["logits"] = apart(others[1], logits)
        shown = ", ".join(f"{who} {error:.1e}" for who, error in errors.items())
        print(f"{name:36} {classifier:8} {kind:9} {shown}", flush=True)
        worst = max(worst, *errors.values())
    return worst


def session_of(path):
    """What a learner's file says of itself: the metadata of a safetensors file."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["engram.session"])


def check_learner(folder, method):
    """Both exports of a learner of three classes of noise."""
    rng = np.random.default_rng(3)
    shape = (3, 32, 32)
    for name in ("dark", "light", "red"):
        (folder / method / name).mkdir(parents=True)
        for i in range(12):
            image = rng.integers(0, 128, shape, dtype=np.uint8)
            image[0 if name == "red" else slice(None)] += 0 if name == "dark" else 120
            write_png(folder / method / name / f"{i}.png", image)
    learner = f"{method}.engram"
    steps = ["--steps", "5"] if method in ("icarl", "er") else []
    engram(folder, "learn", learner, "--from", method, "--method", method, "--device", "cpu", *steps)
    images = pictures(folder, shape)
    x = images.astype(np.float32) / 255
    text = engram(folder, "classify", learner, "pictures", "--json", "--top-k", "3", "--device", "cpu")
    session = session_of(folder / learner)
    names = [one["name"] for one in session["classes"]]
    # Confidences are a softmax of scores by a temperature: differences of scores come back from them.
    rows = [{one["name"]: one["confidence"] for one in row["classes"]} for row in json.loads(text)]
    expected = session["fitted"]["temperature"] * np.log([[row[name] for name in names] for row in rows])

    def as_the_learner_has(scores):
        """Of distances between vectors of length 1 the cosines that a learner goes by, or their squares."""
        squares = np.asarray(scores, np.float64) ** 2
        return {"ncm": 1 - squares / 2, "icarl": -squares}.get(method, scores)

    def differences(scores):
        return np.asarray(scores, np.float64) - np.asarray(scores, np.float64).max(1, keepdims=True)

    def apart_from_expected(scores):
        scores = as_the_learner_has(scores)
        scale = np.abs(scores).max(1, keepdims=True)
        return float((np.abs(differences(scores) - differences(expected)) / scale).max())

    engram(folder, "export", learner, "--to", "onnx", "--out", f"{method}.onnx")
    session = onnxruntime.InferenceSession(str(folder / f"{method}.onnx"), providers=["CPUExecutionProvider"])
    features, scores = session.run(["features", "scores"], {"images": x})
    errors = {"onnxruntime": apart_from_expected(scores)}
    if torch:
        engram(folder, "export", learner, "--to", "torch", "--out", f"{method}-torch")
        others = torch_answers(folder / f"{method}-torch", x)
        errors["torch"] = apart_from_expected(others[2])
        errors["features"] = apart(others[0], features)
    print(f"{'learner':36} {method:8} {'scores':9} " + ", ".join(f"{who} {error:.1e}" for who, error in errors.items()))
    return max(errors.values())


def main():
    if torch is None:
        print("SKIPPED: no torch and safetensors, so only onnxruntime is asked")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        worst = 0.0
        for i, (method, dataset, model, options) in enumerate(RUNS):
            arguments = f"{method} {TINY} --dataset {dataset} --model {model} {options} --out run{i}"
            engram(folder, *arguments.split())
            worst = max(worst, check(folder, f"run{i}", f"{model} {options}".strip()))
        worst = max(worst, *(check_learner(folder, method) for method in LEARNERS))
    print(f"largest difference: {worst:.1e}, allowed {TOLERANCE:.0e}")
    # Not `worst > TOLERANCE`, which a NaN would pass.
    sys.exit(0 if worst <= TOLERANCE else 1)


PROGRAM = str(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else sys.exit("usage: export.py ENGRAM")
if __name__ == "__main__":
    main()
