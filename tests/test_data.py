"""gluon.data: datasets, samplers, batchify functions and the random numbers of samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimx import errors
from minimx.gluon import data
from minimx.gluon.data import batchify, rng

# Datasets


def test_views_of_a_dataset():
    numbers = data.SimpleDataset(list(range(10)))
    assert list(numbers.shard(3, 0)) == [0, 1, 2, 3] and list(numbers.shard(3, 2)) == [7, 8, 9]
    assert list(numbers.filter(lambda x: x % 3 == 0)) == [0, 3, 6, 9]
    assert list(numbers.take(3)) == [0, 1, 2] and len(numbers.take(None)) == 10 and len(numbers.take(99)) == 10
    assert list(numbers.sample(data.IntervalSampler(10, 5))) == [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]
    assert numbers.take(3)[-1] == 2
    assert list(numbers.transform(lambda x: x * x, lazy=False).take(4)) == [0, 1, 4, 9]


def test_transform_is_lazy_and_spreads_tuples():
    calls = []
    pairs = data.ArrayDataset([1, 2], [3, 4])
    lazy = pairs.transform(lambda x, y: calls.append(x) or x + y)
    assert not calls and [lazy[0], lazy[1]] == [4, 6] and calls == [1, 2]
    assert pairs.transform_first(lambda x: -x)[1] == (-2, 4)
    assert data.ArrayDataset([5, 6]).transform_first(str)[0] == "5"


@given(length=st.integers(0, 50), shards=st.integers(1, 9))
def test_shards_are_a_balanced_partition(length, shards):
    numbers = data.SimpleDataset(range(length))
    parts = [list(numbers.shard(shards, i)) for i in range(shards)]
    assert sum(parts, []) == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_dataset_errors():
    numbers = data.SimpleDataset(range(3))
    with pytest.raises(errors.ShapeError, match=r"lengths \[2, 3\]"):
        data.ArrayDataset([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="at least one"):
        data.ArrayDataset()
    with pytest.raises(ValueError, match="num_shards"):
        numbers.shard(2, 2)
    with pytest.raises(ValueError, match="count >= 0"):
        numbers.take(-1)
    with pytest.raises(TypeError, match="sampler"):
        numbers.sample(3)
    with pytest.raises(IndexError, match="below 2, got 2"):
        numbers.take(2)[2]
    with pytest.raises(NotImplementedError, match="Dataset.__len__"):
        len(data.Dataset())


# Samplers


@given(
    length=st.integers(0, 40),
    size=st.integers(1, 9),
    last=st.sampled_from(["keep", "discard", "rollover"]),
    rounds=st.integers(1, 4),
)
def test_batch_sampler(length, size, last, rounds):
    batches = data.BatchSampler(data.SequentialSampler(length), size, last)
    seen = []
    for _ in range(rounds):
        expected = len(batches)
        got = list(batches)
        assert len(got) == expected
        seen += got
    assert all(len(b) == size for b in seen) or last == "keep"
    flat = sum(seen, [])
    order = list(range(length)) * rounds
    if last == "keep":
        assert flat == order
    elif last == "rollover":
        assert flat == order[: len(order) // size * size]
    else:
        assert len(flat) == rounds * (length // size * size)


@given(length=st.integers(1, 30), interval=st.integers(1, 30), rollover=st.booleans())
def test_interval_sampler(length, interval, rollover):
    if interval > length:
        with pytest.raises(ValueError, match="interval"):
            data.IntervalSampler(length, interval)
        return
    sampler = data.IntervalSampler(length, interval, rollover)
    order = list(sampler)
    assert len(order) == len(sampler)
    assert sorted(order) == (list(range(length)) if rollover else list(range(0, length, interval)))


def test_random_sampler_is_a_function_of_seed_and_round():
    a, b = data.RandomSampler(100, seed=1), data.RandomSampler(100, seed=1)
    first, second = list(a), list(a)
    assert sorted(first) == sorted(second) == list(range(100)) and first != second
    b.load_state_dict({"seed": 1, "round": 1})
    assert list(b) == second
    assert list(data.RandomSampler(100, seed=2)) != first
    assert list(data.FilterSampler(lambda x: x > 6, range(10))) == [7, 8, 9]


def test_batch_sampler_errors():
    with pytest.raises(ValueError, match="last_batch 'keep'"):
        data.BatchSampler(data.SequentialSampler(3), 2, "drop")
    with pytest.raises(ValueError, match="batch_size >= 1"):
        data.BatchSampler(data.SequentialSampler(3), 0)


# Batchify


def test_stack_types_and_shapes():
    assert batchify.Stack()([1, 2]).dtype == np.int64
    assert batchify.Stack()([0.5, 2.0]).dtype == np.float32
    assert batchify.Stack()([np.float64(0.5)]).dtype == np.float64
    assert batchify.Stack("float16")([[1, 2], [3, 4]]).dtype == np.float16
    with pytest.raises(errors.ShapeError, match="batchify.Pad"):
        batchify.Stack()([np.zeros(2), np.zeros(3)])


@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=6), round_to=st.sampled_from([None, 1, 4]))
def test_pad(lengths, round_to):
    rows = [np.arange(1, n + 1, dtype=np.float32) for n in lengths]
    out, given_lengths = batchify.Pad(val=-1, round_to=round_to, ret_length=True)(rows)
    assert given_lengths.tolist() == lengths
    width = max(lengths)
    assert out.shape == (len(rows), -(-width // (round_to or 1)) * (round_to or 1))
    for row, n in zip(out, lengths, strict=True):
        assert row[:n].tolist() == list(range(1, n + 1)) and (row[n:] == -1).all()


def test_pad_axis_and_the_others():
    two = batchify.Pad(axis=0)([np.ones((2, 3)), np.ones((4, 3))])
    assert two.shape == (2, 4, 3) and two.sum() == 18
    with pytest.raises(errors.ShapeError, match="axis 0 only"):
        batchify.Pad(axis=0)([np.ones((2, 3)), np.ones((2, 4))])
    assert [a.shape for a in batchify.Append()([np.ones(2), np.ones(3)])] == [(1, 2), (1, 3)]
    assert batchify.AsList()(("a", "b")) == ["a", "b"]
    group = batchify.Group(batchify.Stack(), batchify.Pad())
    images, rows = group([(1, [1.0]), (2, [1.0, 2.0])])
    assert images.tolist() == [1, 2] and rows.tolist() == [[1, 0], [1, 2]]
    with pytest.raises(ValueError, match="2 elements, got 1"):
        group([(1,)])


def test_default_batchify_keeps_the_structure():
    samples = [({"x": np.zeros(2), "name": "a"}, 1.5), ({"x": np.ones(2), "name": "b"}, 2.5)]
    first, second = data.default_batchify_fn(samples)
    assert first["x"].shape == (2, 2) and first["name"] == ["a", "b"] and second.dtype == np.float32


# Random numbers


def test_generator_is_keyed_by_seed_epoch_and_sample():
    def draw(*place):
        rng.enter(*place)
        try:
            return rng.generator().random()
        finally:
            rng.leave()

    values = [draw(s, e, i) for s in (0, 1) for e in (0, 1) for i in (0, 1, "name")]
    assert len(set(values)) == len(values)
    assert draw(1, 1, "name") == values[-1]
    assert rng.generator().random() != rng.generator().random()
