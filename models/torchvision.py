"""Loading torchvision's weights into our models: a translation of names, and of axes for channels-last networks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from minimx import np
from minimx.errors import NameNotFound, NotSupported
from minimx.gluon import HybridBlock
from minimx.serialization import read

from .resnet import BottleneckV1, ResNetV1

__all__ = ["load_torchvision"]

_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
_RULES = [  # torchvision's name, our name, is it a batch norm?
    (r"conv1\.(\w+)", "features.0.{0}", False),
    (r"bn1\.(\w+)", "features.1.{0}", True),
    (r"layer(\d)\.(\d+)\.conv(\d)\.(\w+)", "features.{stage}.{1}.body.{conv}.{3}", False),
    (r"layer(\d)\.(\d+)\.bn(\d)\.(\w+)", "features.{stage}.{1}.body.{norm}.{3}", True),
    (r"layer(\d)\.(\d+)\.downsample\.0\.(\w+)", "features.{stage}.{1}.downsample.0.{2}", False),
    (r"layer(\d)\.(\d+)\.downsample\.1\.(\w+)", "features.{stage}.{1}.downsample.1.{2}", True),
    (r"fc\.(\w+)", "output.{0}", False),
]


def load_torchvision(net: HybridBlock, state_dict: Mapping[str, Any] | str | os.PathLike) -> None:
    """Give a ResNet (v1b, or v1 with 18 or 34 layers) the weights of torchvision's ResNet of the same depth.

    state_dict: names to torch tensors or arrays, or the path of a safetensors or .npz file of them. Axes are permuted
    for layout "NHWC". Raises NotSupported for other networks, NameNotFound and ShapeError for weights of another one.

    >>> net = minimx.models.resnet50_v1b()  # doctest: +SKIP
    >>> minimx.models.load_torchvision(net, torchvision.models.resnet50().state_dict())  # doctest: +SKIP
    """
    if not isinstance(net, ResNetV1):
        raise NotSupported("load_torchvision", "a ResNetV1", type(net).__name__, "Use resnet50_v1b or the like")
    if any(isinstance(block, BottleneckV1) for _, block in net.named_blocks()):
        way_out = "Use resnet50_v1b or the like"
        raise NotSupported("load_torchvision", "strides in the 3x3 convolutions", "those of v1", way_out)
    source = read(state_dict).arrays if isinstance(state_dict, (str, os.PathLike)) else state_dict
    parameters, values = net.collect_params(), {}
    for theirs, tensor in source.items():
        if not theirs.endswith("num_batches_tracked"):
            ours = _translate(theirs)
            axes = _axes(getattr(parameters.get(ours), "layout", None))
            array = _array(tensor)
            values[ours] = array if axes is None else array.transpose(axes)
    net.load_dict(values, cast_dtype=True)


def _translate(name: str) -> str:
    """Our name of torchvision's ``name``."""
    for pattern, ours, is_norm in _RULES:
        found = re.fullmatch(pattern, name)
        if found:
            parts = list(found.groups())
            if is_norm:
                parts[-1] = _NORM.get(parts[-1], parts[-1])
            stage = int(parts[0]) + 3 if name.startswith("layer") else 0
            conv = 3 * (int(parts[2]) - 1) if "{conv}" in ours or "{norm}" in ours else 0
            return ours.format(*parts, stage=stage, conv=conv, norm=conv + 1)
    raise NameNotFound("load_torchvision", "a name of torchvision's ResNet", repr(name), "Is it another model's file?")


def _axes(layout: str | None) -> tuple[int, ...] | None:
    """How to permute a kernel (O, I, H, W) into ``layout``."""
    return None if layout in (None, "OIHW") else tuple("OIHW".index(letter) for letter in layout)


def _array(tensor: Any) -> Any:
    """Our array from a torch tensor, a NumPy array or ours."""
    if hasattr(tensor, "asnumpy"):
        return tensor
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().float().numpy()
    return np.array(tensor)
