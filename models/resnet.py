"""ResNet-18 to -152: v1 (He et al. 2015, arXiv:1512.03385), v1b, which moves a bottleneck's stride from its first
convolution to the 3x3 one (the usual "v1.5"), and v2 (pre-activation, He et al. 2016, arXiv:1603.05027).

Every network is ``features`` and ``output``. PyTorch's weights for v1b are loaded by torchvision.py.
"""

from __future__ import annotations

from typing import Any

from minimx import npx
from minimx.errors import ArgumentError, NotSupported
from minimx.gluon import HybridBlock, nn

__all__ = [
    "BasicBlockV1",
    "BasicBlockV2",
    "BottleneckV1",
    "BottleneckV1b",
    "BottleneckV2",
    "ResNetV1",
    "ResNetV2",
    "get_resnet",
    "resnet18_v1",
    "resnet34_v1",
    "resnet50_v1",
    "resnet101_v1",
    "resnet152_v1",
    "resnet18_v1b",
    "resnet34_v1b",
    "resnet50_v1b",
    "resnet101_v1b",
    "resnet152_v1b",
    "resnet18_v2",
    "resnet34_v2",
    "resnet50_v2",
    "resnet101_v2",
    "resnet152_v2",
]


def _conv(channels: int, kernel: int, stride: int, in_channels: int, layout: str) -> nn.Conv2D:
    """Convolution without bias that keeps the size but for the stride."""
    padding = kernel // 2
    return nn.Conv2D(channels, kernel, stride, padding, layout=layout, use_bias=False, in_channels=in_channels)


def _norm(channels: int, layout: str, **kwargs: Any) -> nn.BatchNorm:
    return nn.BatchNorm(axis=layout.index("C"), in_channels=channels, **kwargs)


class _BlockV1(HybridBlock):
    """relu(body(x) + shortcut(x)). ``channels``: of the output. downsample: the shortcut is a 1x1 convolution.

    last_gamma: the last normalisation starts with gamma 0, so that the block starts as its shortcut.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        layout: str = "NCHW",
        last_gamma: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.body = nn.HybridSequential()
        convs = self._convs(channels, stride, in_channels)
        for i, (size, kernel, step, inputs) in enumerate(convs):
            last = i == len(convs) - 1
            gamma = "zeros" if last and last_gamma else "ones"
            self.body.add(_conv(size, kernel, step, inputs, layout), _norm(size, layout, gamma_initializer=gamma))
            if not last:
                self.body.add(nn.Activation("relu"))
        self.downsample = nn.HybridSequential() if downsample else None
        if self.downsample is not None:
            self.downsample.add(_conv(channels, 1, stride, in_channels, layout), _norm(channels, layout))

    def _convs(self, channels: int, stride: int, in_channels: int) -> list[tuple[int, int, int, int]]:
        """(channels, kernel, stride, in_channels) of each convolution of the body."""
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) -> (N, channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return npx.activation(self.body(x) + shortcut, act_type="relu")


class BasicBlockV1(_BlockV1):
    """Two 3x3 convolutions, for ResNet-18 and -34."""

    def _convs(self, channels: int, stride: int, in_channels: int) -> list[tuple[int, int, int, int]]:
        return [(channels, 3, stride, in_channels), (channels, 3, 1, channels)]


class BottleneckV1(_BlockV1):
    """1x1, 3x3 and 1x1 convolutions with a quarter of the channels inside; the stride is in the first."""

    def _convs(self, channels: int, stride: int, in_channels: int) -> list[tuple[int, int, int, int]]:
        inner = channels // 4
        return [(inner, 1, stride, in_channels), (inner, 3, 1, inner), (channels, 1, 1, inner)]


class BottleneckV1b(_BlockV1):
    """As BottleneckV1, with the stride in the 3x3 convolution."""

    def _convs(self, channels: int, stride: int, in_channels: int) -> list[tuple[int, int, int, int]]:
        inner = channels // 4
        return [(inner, 1, 1, in_channels), (inner, 3, stride, inner), (channels, 1, 1, inner)]


class _BlockV2(HybridBlock):
    """conv(relu(norm(.))) two or three times, plus the shortcut, which branches off after the first relu."""

    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        layout: str = "NCHW",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.norms, self.convs = nn.HybridSequential(), nn.HybridSequential()
        for size, kernel, step, inputs in self._convs(channels, stride, in_channels):
            self.norms.add(_norm(inputs, layout))
            self.convs.add(_conv(size, kernel, step, inputs, layout))
        self.downsample = _conv(channels, 1, stride, in_channels, layout) if downsample else None

    def _convs(self, channels: int, stride: int, in_channels: int) -> list[tuple[int, int, int, int]]:
        """(channels, kernel, stride, in_channels) of each convolution."""
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) -> (N, channels, H / stride, W / stride)."""
        shortcut = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            x = npx.activation(norm(x), act_type="relu")
            if i == 0 and self.downsample is not None:
                shortcut = self.downsample(x)
            x = conv(x)
        return x + shortcut


class BasicBlockV2(_BlockV2):
    """Two 3x3 convolutions."""

    def _convs(self, channels: int, stride: int, in_channels: int) -> list[tuple[int, int, int, int]]:
        return [(channels, 3, stride, in_channels), (channels, 3, 1, channels)]


class BottleneckV2(_BlockV2):
    """1x1, 3x3 and 1x1 convolutions with a quarter of the channels inside; the stride is in the 3x3."""

    def _convs(self, channels: int, stride: int, in_channels: int) -> list[tuple[int, int, int, int]]:
        inner = channels // 4
        return [(inner, 1, 1, in_channels), (inner, 3, stride, inner), (channels, 1, 1, inner)]


def _stem(channels: int, in_channels: int, thumbnail: bool, layout: str) -> list[HybridBlock]:
    """The first convolution: 7x7 with pooling, which makes H / 4; 3x3 for thumbnails, which keeps H."""
    if thumbnail:
        return [_conv(channels, 3, 1, in_channels, layout)]
    pool = nn.MaxPool2D(3, 2, 1, layout=layout)
    return [_conv(channels, 7, 2, in_channels, layout), _norm(channels, layout), nn.Activation("relu"), pool]


def _stages(
    block: type, layers: list[int], channels: list[int], layout: str, **kwargs: Any
) -> list[nn.HybridSequential]:
    """Four groups of blocks; each but the first halves H and W."""
    stages = []
    for i, count in enumerate(layers):
        stage, size, before = nn.HybridSequential(), channels[i + 1], channels[i]
        stride = 1 if i == 0 else 2
        stage.add(block(size, stride, size != before or stride != 1, before, layout, **kwargs))
        stage.add(*(block(size, 1, False, size, layout, **kwargs) for _ in range(count - 1)))
        stages.append(stage)
    return stages


class ResNetV1(HybridBlock):
    """v1 or v1b, by ``block``.

    layers: blocks in each stage. channels: of the stem and of each stage. classes: of the output. thumbnail: for images
    of about 32 x 32. layout: "NCHW" or "NHWC". in_channels: of the images, 0 to take it from the first input.
    """

    def __init__(
        self,
        block: type,
        layers: list[int],
        channels: list[int],
        classes: int = 1000,
        thumbnail: bool = False,
        layout: str = "NCHW",
        in_channels: int = 0,
        last_gamma: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(layers, channels)
        self.features = nn.HybridSequential()
        self.features.add(*_stem(channels[0], in_channels, thumbnail, layout))
        self.features.add(*_stages(block, layers, channels, layout, last_gamma=last_gamma))
        self.features.add(nn.GlobalAvgPool2D(layout=layout))
        self.output = nn.Dense(classes, in_units=channels[-1])

    def forward(self, x: Any) -> Any:
        """(N, C, H, W), or (N, H, W, C) -> (N, classes), the logits."""
        return self.output(self.features(x))


class ResNetV2(HybridBlock):
    """v2; arguments as of ResNetV1."""

    def __init__(
        self,
        block: type,
        layers: list[int],
        channels: list[int],
        classes: int = 1000,
        thumbnail: bool = False,
        layout: str = "NCHW",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(layers, channels)
        self.features = nn.HybridSequential()
        self.features.add(_norm(in_channels, layout, scale=False, center=False))
        self.features.add(*_stem(channels[0], in_channels, thumbnail, layout))
        self.features.add(*_stages(block, layers, channels, layout))
        self.features.add(_norm(channels[-1], layout), nn.Activation("relu"), nn.GlobalAvgPool2D(layout=layout))
        self.output = nn.Dense(classes, in_units=channels[-1])

    def forward(self, x: Any) -> Any:
        """(N, C, H, W), or (N, H, W, C) -> (N, classes), the logits."""
        return self.output(self.features(x))


def _check(layers: list[int], channels: list[int]) -> None:
    if len(channels) != len(layers) + 1:
        raise ArgumentError("ResNet", f"{len(layers) + 1} channels, the stem's and each stage's", channels)


_BASIC, _BOTTLENECK = [64, 64, 128, 256, 512], [64, 256, 512, 1024, 2048]
_DEPTHS = {
    18: ([2, 2, 2, 2], _BASIC),
    34: ([3, 4, 6, 3], _BASIC),
    50: ([3, 4, 6, 3], _BOTTLENECK),
    101: ([3, 4, 23, 3], _BOTTLENECK),
    152: ([3, 8, 36, 3], _BOTTLENECK),
}
_VERSIONS = {
    "1": (ResNetV1, BasicBlockV1, BottleneckV1),
    "1b": (ResNetV1, BasicBlockV1, BottleneckV1b),
    "2": (ResNetV2, BasicBlockV2, BottleneckV2),
}


def get_resnet(version: int | str, num_layers: int, pretrained: bool = False, **kwargs: Any) -> HybridBlock:
    """ResNet of ``version`` 1, "1b" or 2 with ``num_layers`` 18, 34, 50, 101 or 152.

    Keyword arguments: classes, thumbnail, layout, in_channels (and last_gamma for 1 and "1b"). Weights are not shipped,
    so pretrained raises NotSupported.
    """
    if str(version) not in _VERSIONS:
        raise ArgumentError("get_resnet", "version 1, '1b' or 2", repr(version))
    if num_layers not in _DEPTHS:
        raise ArgumentError("get_resnet", f"num_layers of {', '.join(map(str, _DEPTHS))}", num_layers)
    if pretrained:
        way_out = "Use minimx.models.load_torchvision(net, path), or net.load_parameters"
        raise NotSupported("get_resnet", "pretrained=False", "True", way_out)
    layers, channels = _DEPTHS[num_layers]
    network, basic, bottleneck = _VERSIONS[str(version)]
    return network(bottleneck if num_layers >= 50 else basic, layers, channels, **kwargs)


def resnet18_v1(**kwargs: Any) -> HybridBlock:
    """ResNet-18 v1; arguments as of ``get_resnet``."""
    return get_resnet("1", 18, **kwargs)


def resnet34_v1(**kwargs: Any) -> HybridBlock:
    """ResNet-34 v1; arguments as of ``get_resnet``."""
    return get_resnet("1", 34, **kwargs)


def resnet50_v1(**kwargs: Any) -> HybridBlock:
    """ResNet-50 v1; arguments as of ``get_resnet``."""
    return get_resnet("1", 50, **kwargs)


def resnet101_v1(**kwargs: Any) -> HybridBlock:
    """ResNet-101 v1; arguments as of ``get_resnet``."""
    return get_resnet("1", 101, **kwargs)


def resnet152_v1(**kwargs: Any) -> HybridBlock:
    """ResNet-152 v1; arguments as of ``get_resnet``."""
    return get_resnet("1", 152, **kwargs)


def resnet18_v1b(**kwargs: Any) -> HybridBlock:
    """ResNet-18 v1b; arguments as of ``get_resnet``."""
    return get_resnet("1b", 18, **kwargs)


def resnet34_v1b(**kwargs: Any) -> HybridBlock:
    """ResNet-34 v1b; arguments as of ``get_resnet``."""
    return get_resnet("1b", 34, **kwargs)


def resnet50_v1b(**kwargs: Any) -> HybridBlock:
    """ResNet-50 v1b; arguments as of ``get_resnet``."""
    return get_resnet("1b", 50, **kwargs)


def resnet101_v1b(**kwargs: Any) -> HybridBlock:
    """ResNet-101 v1b; arguments as of ``get_resnet``."""
    return get_resnet("1b", 101, **kwargs)


def resnet152_v1b(**kwargs: Any) -> HybridBlock:
    """ResNet-152 v1b; arguments as of ``get_resnet``."""
    return get_resnet("1b", 152, **kwargs)


def resnet18_v2(**kwargs: Any) -> HybridBlock:
    """ResNet-18 v2; arguments as of ``get_resnet``."""
    return get_resnet("2", 18, **kwargs)


def resnet34_v2(**kwargs: Any) -> HybridBlock:
    """ResNet-34 v2; arguments as of ``get_resnet``."""
    return get_resnet("2", 34, **kwargs)


def resnet50_v2(**kwargs: Any) -> HybridBlock:
    """ResNet-50 v2; arguments as of ``get_resnet``."""
    return get_resnet("2", 50, **kwargs)


def resnet101_v2(**kwargs: Any) -> HybridBlock:
    """ResNet-101 v2; arguments as of ``get_resnet``."""
    return get_resnet("2", 101, **kwargs)


def resnet152_v2(**kwargs: Any) -> HybridBlock:
    """ResNet-152 v2; arguments as of ``get_resnet``."""
    return get_resnet("2", 152, **kwargs)
