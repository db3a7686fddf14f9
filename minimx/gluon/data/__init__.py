"""Data: datasets, samplers, batchify functions and the loader. Importing this loads numpy and not the engine.

dataset.py and sampler.py say what and in which order, batchify.py makes batches, dataloader.py is where to read first.
"""

from . import batchify, vision
from .batchify import default_batchify_fn
from .dataloader import DataLoader
from .dataset import ArrayDataset, BrokenSample, Dataset, SimpleDataset
from .sampler import BatchSampler, FilterSampler, IntervalSampler, RandomSampler, Sampler, SequentialSampler

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "BrokenSample",
    "DataLoader",
    "Dataset",
    "FilterSampler",
    "IntervalSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SimpleDataset",
    "batchify",
    "default_batchify_fn",
    "vision",
]
