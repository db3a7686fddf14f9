"""Image transforms, run on single samples, in the loader's workers: numpy in, numpy out (minimx arrays give minimx).

All take an image (H, W, C) except Normalize, which follows ToTensor and takes (C, H, W). Further arguments (labels)
pass through. Random ones draw from the sample's own generator, see ../../rng.py. Start reading in base.py.
"""

from .base import Cast, Compose, HybridCompose, HybridRandomApply, Normalize, RandomApply, ToTensor, Transform
from .color import (
    RandomBrightness,
    RandomColorJitter,
    RandomContrast,
    RandomGray,
    RandomHue,
    RandomLighting,
    RandomSaturation,
)
from .geometry import (
    CenterCrop,
    CropResize,
    RandomCrop,
    RandomFlipLeftRight,
    RandomFlipTopBottom,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    Rotate,
)

__all__ = [
    "Cast",
    "CenterCrop",
    "Compose",
    "CropResize",
    "HybridCompose",
    "HybridRandomApply",
    "Normalize",
    "RandomApply",
    "RandomBrightness",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCrop",
    "RandomFlipLeftRight",
    "RandomFlipTopBottom",
    "RandomGray",
    "RandomHue",
    "RandomLighting",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "Rotate",
    "ToTensor",
    "Transform",
]
