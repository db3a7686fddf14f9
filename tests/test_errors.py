"""The exceptions of minimx/errors.py: their sentence, their two parents, and pickling."""

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimx import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]
PARENT = {
    "ArgumentError": ValueError,
    "ArgumentTypeError": TypeError,
    "ShapeError": ValueError,
    "DTypeError": TypeError,
    "DeviceError": ValueError,
    "IndexOutOfBounds": IndexError,
    "NameNotFound": KeyError,
    "OutOfMemory": MemoryError,
    "NotSupported": NotImplementedError,
    "FileMissing": FileNotFoundError,
    "FileFormatError": ValueError,
    "MissingExtra": ImportError,
    "TimedOut": TimeoutError,
}


@pytest.mark.parametrize("cls", CLASSES)
def test_sentence_attributes_and_parents(cls):
    error = cls("dot", "equal sizes", (2, 3), "Reshape one")
    assert str(error) == "dot: expected equal sizes, got (2, 3). Reshape one."
    assert (error.where, error.expected, error.got, error.way_out) == ("dot", "equal sizes", (2, 3), "Reshape one")
    assert isinstance(error, errors.MXError)
    assert isinstance(error, PARENT.get(cls.__name__, Exception))


@pytest.mark.parametrize("cls", CLASSES)
def test_one_sentence_alone(cls):
    assert str(cls("conv: expected 4 dimensions, got 3.")) == "conv: expected 4 dimensions, got 3."


def test_no_doubled_or_missing_full_stop():
    assert str(errors.ShapeError("f", "a", "b")) == "f: expected a, got b."
    assert str(errors.ShapeError("f", "a", "b.", "Do c.")) == "f: expected a, got b. Do c."


@settings(max_examples=20)
@given(where=st.text(min_size=1), expected=st.text(), got=st.one_of(st.integers(), st.text(), st.none()))
def test_pickle_and_copy_keep_everything(where, expected, got):
    for cls in CLASSES:
        error = cls(where, expected, got, "Way out")
        error.operator = "dot"  # attributes added later, as the engine does
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is cls
            assert str(twin) == str(error)
            assert (twin.where, twin.expected, twin.got, twin.way_out) == (where, expected, got, "Way out")
            assert twin.operator == "dot"


def test_raised_through_the_python_class():
    with pytest.raises(KeyError, match="metric.create: expected"):
        raise errors.NameNotFound("metric.create", "a known metric", "'acuracy'", "Known: accuracy")
