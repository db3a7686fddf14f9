"""Gluon's name of the module with the vision datasets, which are in archives.py, digits.py and folder.py."""

from .archives import CIFAR10, CIFAR100, MNIST, FashionMNIST
from .digits import Digits
from .folder import ImageFolderDataset, ImageListDataset

__all__ = ["CIFAR10", "CIFAR100", "MNIST", "Digits", "FashionMNIST", "ImageFolderDataset", "ImageListDataset"]
