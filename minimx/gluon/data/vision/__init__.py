"""Image datasets and their transforms."""

from . import datasets, transforms
from .datasets import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, ImageFolderDataset, ImageListDataset

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "Digits",
    "FashionMNIST",
    "ImageFolderDataset",
    "ImageListDataset",
    "datasets",
    "transforms",
]
