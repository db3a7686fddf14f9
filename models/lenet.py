"""LeNet, the first convolutional network that read digits, with ReLU and max pooling. LeCun et al. 1998."""

from __future__ import annotations

from typing import Any

from minimx.gluon import HybridBlock, nn

__all__ = ["LeNet", "lenet"]


class LeNet(HybridBlock):
    """Two convolutions with pooling, two dense layers: (N, C, 28, 28) -> (N, classes); sizes from 16 on."""

    def __init__(self, classes: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = nn.HybridSequential()
        self.features.add(
            nn.Conv2D(20, kernel_size=5, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(50, kernel_size=5, activation="relu"),
            nn.MaxPool2D(2),
            nn.Dense(500, activation="relu"),
        )
        self.output = nn.Dense(classes, in_units=500)

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) -> (N, classes)."""
        return self.output(self.features(x))


def lenet(**kwargs: Any) -> LeNet:
    """LeNet; see ``LeNet`` for the arguments."""
    return LeNet(**kwargs)
