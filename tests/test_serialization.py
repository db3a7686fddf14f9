"""Files of arrays: round trips, the safetensors library as a peer, hostile and damaged files, atomic writing."""

import io
import json
import os
import zipfile

import ml_dtypes
import numpy as onp
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx import errors, serialization
from minimx.atomic import atomic_write

TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def sample(dtype, shape, seed=0):
    values = onp.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, shape)
    return mx.np.array(values, dtype=dtype)


def same(a, b):
    return str(a.dtype) == str(b.dtype) and a.shape == b.shape and onp.array_equal(a.asnumpy(), b.asnumpy())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_round_trip(tmp_path, dtype, shape):
    path, array = tmp_path / "a.params", sample(dtype, shape)
    mx.npx.save(path, {"a": array})
    assert same(mx.npx.load(path)["a"], array)


def test_forms(tmp_path):
    path, a, b = tmp_path / "x", mx.np.ones((2,)), mx.np.zeros((3, 1))
    mx.npx.save(path, a)
    assert [x.shape for x in mx.npx.load(path)] == [(2,)]
    mx.npx.save(path, [b, a])
    assert [x.shape for x in mx.npx.load(path)] == [(3, 1), (2,)]
    mx.npx.save(path, {})
    assert mx.npx.load(path) == {}
    serialization.save(path, {"ü/1": a}, {"epoch": "3"})
    contents = serialization.read(path)
    assert list(contents.arrays) == ["ü/1"] and contents.metadata["epoch"] == "3"


def test_views_are_written_as_seen(tmp_path):
    x = mx.np.arange(12).reshape((3, 4))
    mx.npx.save(tmp_path / "x", {"t": x.T, "s": x[:, ::2]})
    back = mx.npx.load(tmp_path / "x")
    assert same(back["t"], x.T.copy()) and same(back["s"], x[:, ::2].copy())


def test_safetensors_library_reads_ours_and_we_read_its(tmp_path):
    arrays = {"w": onp.arange(6, dtype="float32").reshape(2, 3), "i": onp.array([1, 2], "int64")}
    serialization.save(tmp_path / "ours", {k: mx.np.array(v, dtype=v.dtype) for k, v in arrays.items()}, {"k": "v"})
    theirs = safetensors.numpy.load_file(tmp_path / "ours")
    assert all(onp.array_equal(theirs[k], v) and theirs[k].dtype == v.dtype for k, v in arrays.items())
    arrays["b"] = onp.array([1.5, -2], ml_dtypes.bfloat16)
    safetensors.numpy.save_file(arrays, tmp_path / "theirs")
    ours = mx.npx.load(tmp_path / "theirs")
    assert all(onp.array_equal(ours[k].asnumpy(), v) for k, v in arrays.items())


def test_npz_and_npy(tmp_path):
    arrays = {"a": onp.arange(3.0), "f": onp.asfortranarray(onp.arange(6, dtype="int32").reshape(2, 3))}
    onp.savez_compressed(tmp_path / "a.npz", **arrays)
    back = mx.npx.load(tmp_path / "a.npz")
    assert all(onp.array_equal(back[k].asnumpy(), v) for k, v in arrays.items())
    onp.save(tmp_path / "a.npy", arrays["f"].astype(">i4"))
    assert onp.array_equal(mx.npx.load(tmp_path / "a.npy")[0].asnumpy(), arrays["f"])
    serialization.savez(tmp_path / "b.npz", mx.np.ones((2,)), w=mx.np.zeros((1,)))
    with onp.load(tmp_path / "b.npz") as made:
        assert sorted(made) == ["arr_0", "w"]
    with pytest.raises(errors.DTypeError, match="bfloat16"):
        serialization.savez(tmp_path / "c.npz", mx.np.ones((2,), dtype="bfloat16"))


def test_what_cannot_be_saved(tmp_path):
    for bad in [{"a": "text"}, {1: mx.np.ones(1)}, [None]]:
        with pytest.raises(errors.ArgumentTypeError, match="save: expected"):
            mx.npx.save(tmp_path / "x", bad)
    assert os.listdir(tmp_path) == []


def container(table, data=b"", pad=b""):
    text = (table if isinstance(table, bytes) else json.dumps(table).encode()) + pad
    return len(text).to_bytes(8, "little") + text + data


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty": (b"", "at least 8 bytes"),
    "header longer than the file": ((1000).to_bytes(8, "little") + b"{}", "cut short"),
    "header of 2^63 bytes": ((2**63).to_bytes(8, "little") + b"{}", "first bytes"),
    "text": (b"hello, this is no file of arrays", "first bytes"),
    "not JSON": (container(b"{'a': 1}"), "header of JSON"),
    "not UTF-8": (container(b"\xff\xfe{}"), "header of JSON"),
    "deeply nested": (container(b"[" * 100_000), "JSON"),
    "a list": (container([1]), "header that is a table"),
    "NaN shape": (container(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', b"1234"), "shape"),
    "name twice": (container(b'{"a":1,"a":1}'), "twice"),
    "entry a number": (container({"a": 3}), "dtype, shape and data_offsets"),
    "unknown type": (container({"a": {**GOOD, "dtype": "F8_E4M3"}}, b"12345678"), "F8_E4M3"),
    "type a list": (container({"a": {**GOOD, "dtype": ["F32"]}}, b"12345678"), "one of"),
    "negative size": (container({"a": {**GOOD, "shape": [-2]}}, b"12345678"), "shape"),
    "size true": (container({"a": {**GOOD, "shape": [True]}}, b"12345678"), "shape"),
    "many axes": (container({"a": {**GOOD, "shape": [1] * 99 + [2]}}, b"12345678"), "12 sizes"),
    "overflow": (container({"a": {**GOOD, "shape": [2**40, 2**40]}}, b"12345678"), "bytes for 'a'"),
    "huge and empty": (container({"a": {**GOOD, "shape": [2**70, 0]}}, b""), "shape"),
    "offsets backwards": (container({"a": {**GOOD, "data_offsets": [8, 0]}}, b"12345678"), "bytes for 'a'"),
    "three offsets": (container({"a": {**GOOD, "data_offsets": [0, 8, 9]}}, b"12345678"), "begin, end"),
    "outside the file": (container({"a": {**GOOD, "data_offsets": [800, 808]}}, b"12345678"), "begin at byte 0"),
    "cut short": (container({"a": GOOD}, b"1234"), "cut short"),
    "appended": (container({"a": GOOD}, b"123456789"), "appended"),
    "overlap": (container({"a": GOOD, "b": GOOD}, b"12345678"), "begin at byte 8"),
    "metadata": (container({"__metadata__": {"a": 1}}), "metadata of strings"),
    "metadata a list": (container({"__metadata__": [1]}), "metadata of strings"),
    "MXNet's form": ((0x112).to_bytes(8, "little") + bytes(40), "MXNet"),
    "zip cut short": (b"PK\x03\x04" + bytes(30), "npz"),
    "npy cut short": (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'", "NumPy"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    data, message = HOSTILE[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(errors.FileFormatError, match="bad.safetensors: expected") as caught:
        mx.npx.load(path)
    assert message in str(caught.value)


def test_hostile_npz(tmp_path):
    onp.savez(tmp_path / "o.npz", a=onp.array([{"code": 1}], dtype=object))
    with pytest.raises(errors.FileFormatError, match="object"):
        mx.npx.load(tmp_path / "o.npz")
    with zipfile.ZipFile(tmp_path / "t.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n")
    with pytest.raises(errors.FileFormatError, match="safetensors.torch"):
        mx.npx.load(tmp_path / "t.pth")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", member)
    with pytest.raises(errors.FileFormatError, match="cut short"):
        mx.npx.load(tmp_path / "b.npz")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_files_never_crash(data):
    file = io.BytesIO()
    mx.npx.save(file, {"a": mx.np.ones((3, 4)), "b": mx.np.zeros((2,), dtype="int8")})
    whole = bytearray(file.getvalue())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if whole:
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        mx.npx.load(io.BytesIO(bytes(whole)))
    except errors.FileFormatError:
        pass


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing there"):
        mx.npx.load(tmp_path / "none")
    with pytest.raises(errors.FileMissing, match="folder"):
        mx.npx.load(tmp_path)


def test_writing_is_atomic(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(path) as out:
        out.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    (tmp_path / "link").symlink_to(path)
    with atomic_write(tmp_path / "link") as out:
        out.write(b"new")
    assert path.read_bytes() == b"new" and (tmp_path / "link").is_symlink()
