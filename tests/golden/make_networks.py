"""Golden networks, computed by PyTorch: one safetensors file per network in `networks/`, beside this script.

    python make_networks.py

Each file holds the state dict of a narrow network under PyTorch's names, a batch `golden.input` with `golden.labels`, the
logits in eval mode (`golden.eval`) and in training mode (`golden.train`), the mean cross-entropy's gradient of every
parameter in training mode (`golden.grad.<name>`), and the running statistics after that forward pass
(`golden.after.<name>`). Everything is computed in float64 from float32 inputs and rounded once, at the end.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from networks import DeepLab, DeepLabLite, PreActResNet, ResNet, WideResNet, vgg11, vgg11_slim


def export(name, model, batch, size, outputs, of_pixels=False):
    torch.manual_seed(len(name))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var") or (value.dim() == 1 and key.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif key.endswith(("bias", "running_mean")):
                value.normal_(0, 0.1)
            elif value.is_floating_point():
                value.normal_(0, (2.0 / value[0].numel()) ** 0.5)
    x = torch.randn(batch, 3, size, size)
    labels = torch.arange(batch) * 3 % outputs
    if of_pixels:
        labels = (torch.arange(batch * size * size) * 3 % outputs).view(batch, size, size)
    file = {key: value.clone() for key, value in model.state_dict().items() if value.is_floating_point()}
    file["golden.input"] = x
    file["golden.labels"] = labels.float()
    model = model.double()
    file["golden.eval"] = model.eval()(x.double()).detach()
    logits = model.train()(x.double())
    file["golden.train"] = logits.detach()
    F.cross_entropy(logits, labels).backward()
    for key, parameter in model.named_parameters():
        file[f"golden.grad.{key}"] = parameter.grad
    for key, value in model.named_buffers():
        if value.is_floating_point():
            file[f"golden.after.{key}"] = value
    folder = Path(__file__).resolve().parent / "networks"
    folder.mkdir(exist_ok=True)
    save_file({key: value.float().contiguous() for key, value in file.items()}, str(folder / f"{name}.safetensors"))


export("resnet20-a", ResNet([2, 4, 8], [3, 3, 3], "a", False, 7), 5, 9, 7)
export("resnet20-b", ResNet([2, 4, 8], [3, 3, 3], "b", True, 7), 5, 9, 7)
export("resnet18", ResNet([2, 4, 8, 16], [2, 2, 2, 2], "b", True, 7), 5, 17, 7)
export("preact-resnet18", PreActResNet([2, 4, 8, 16], [2, 2, 2, 2], 7), 5, 17, 7)
export("vgg11", vgg11([2, "M", 4, "M", 8, 8, "M", 16, 16, "M", 16, 16, "M"], 7), 5, 32, 7)
export("vgg11-slim", vgg11_slim([2, "M", 4, "M", 8, 8, "M", 16, 16], 16, 4, 7), 5, 16, 7)
export("wrn16-2", WideResNet(2, [4, 8, 16], 2, 7), 5, 9, 7)
export("deeplab-lite", DeepLabLite([4, 8, 12], 8, 7), 3, 13, 7, of_pixels=True)
export("deeplab-resnet18", DeepLab([2, 4, 8, 16], [2, 2, 2, 2], 8, 7), 3, 33, 7, of_pixels=True)
