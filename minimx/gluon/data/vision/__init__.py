"""Image datasets and their transforms."""

from . import transforms
from .archives import CIFAR10, CIFAR100, MNIST, FashionMNIST
from .digits import Digits
from .folder import ImageFolderDataset, ImageListDataset

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "Digits",
    "FashionMNIST",
    "ImageFolderDataset",
    "ImageListDataset",
    "transforms",
]
