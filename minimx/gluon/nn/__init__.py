"""``gluon.nn``: the layers. Recurrent ones will be in gluon/rnn, losses are in gluon/loss.py."""

from ..block import Block
from ..hybrid import HybridBlock
from .activations import ELU, GELU, SELU, Activation, LeakyReLU, Mish, PReLU, SiLU, Swish
from .basic import Dense, Dropout, Embedding, Flatten
from .containers import (
    Concatenate,
    HybridConcatenate,
    HybridLambda,
    HybridSequential,
    Identity,
    Lambda,
    Sequential,
)
from .conv import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, Conv3D, Conv3DTranspose
from .norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm, SyncBatchNorm
from .pool import (
    AdaptiveAvgPool1D,
    AdaptiveAvgPool2D,
    AdaptiveAvgPool3D,
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalAvgPool3D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    GlobalMaxPool3D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from .rearrange import PixelShuffle1D, PixelShuffle2D, PixelShuffle3D, ReflectionPad2D
