"""gluon.utils: splitting, clipping, files."""

import hashlib
import math
import urllib.error

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimx as mx
from minimx import errors
from minimx._bridge import to_numpy
from minimx.gluon import utils


@given(size=st.integers(1, 20), parts=st.integers(1, 20), axis=st.sampled_from([0, 1, -1]))
def test_split_data(size, parts, axis):
    x = np.moveaxis(np.arange(size * 6).reshape(size, 2, 3), 0, axis)
    if parts > size:
        with pytest.raises(errors.ShapeError, match="slices on axis"):
            utils.split_data(x, parts, axis, even_split=False)
        return
    pieces = utils.split_data(x, parts, axis, even_split=False)
    assert len(pieces) == parts and (np.concatenate(pieces, axis) == x).all()
    if size % parts:
        with pytest.raises(errors.ShapeError, match=f"a size that {parts} divides"):
            utils.split_data(x, parts, axis)
    else:
        assert len({p.shape for p in utils.split_data(x, parts, axis)}) == 1


def test_split_and_load():
    parts = utils.split_and_load(np.arange(6.0).reshape(3, 2), [mx.cpu(0), mx.cpu(0)], even_split=False)
    assert [p.asnumpy().tolist() for p in parts] == [[[0, 1]], [[2, 3], [4, 5]]]
    (only,) = utils.split_and_load(mx.np.ones(3), ctx_list=[mx.cpu()])
    assert only.shape == (3,)
    with pytest.raises(ValueError, match="at least one device"):
        utils.split_and_load(mx.np.ones(3), [])


@pytest.mark.parametrize("xp", [np, mx.np])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("limit", "scaled"), [(1.0, True), (100.0, False)])
def test_clip_global_norm(xp, check, limit, scaled):
    a, b = xp.full((2, 2), 3.0, dtype="float32"), xp.full((1,), 8.0, dtype="float16")
    norm = utils.clip_global_norm([a, b], limit, check_isfinite=check)
    assert float(norm) == 10.0 and isinstance(norm, float) == check
    a, b = to_numpy(a), to_numpy(b)
    after = math.sqrt((a**2).sum() + (b.astype(float) ** 2).sum())
    assert after == pytest.approx(1.0 if scaled else 10.0, rel=1e-3)
    assert (a.dtype, b.dtype) == (np.float32, np.float16)


def test_clip_global_norm_of_what_is_not_finite():
    a = np.array([1.0, np.inf], np.float32)
    with pytest.warns(UserWarning, match="finite norm, got inf"):
        assert utils.clip_global_norm([a], 1.0) == np.inf
    assert a[0] == 1.0
    with pytest.raises(ValueError, match="at least one array"):
        utils.clip_global_norm([], 1.0)
    with pytest.raises(ValueError, match="max_norm > 0"):
        utils.clip_global_norm([a], 0)


def test_download(tmp_path, monkeypatch):
    source = tmp_path / "source.bin"
    source.write_bytes(b"content")
    sha1 = hashlib.sha1(b"content").hexdigest()
    folder = tmp_path / "folder"
    folder.mkdir()
    got = utils.download(source.as_uri(), folder, sha1_hash=sha1)
    assert got == str(folder / "source.bin") and utils.check_sha1(got, sha1)
    source.unlink()
    assert utils.download(source.as_uri(), folder, sha1_hash=sha1[:8]) == got  # not fetched again
    with pytest.raises(FileNotFoundError, match=r"put it at .*source\.bin"):
        utils.download(source.as_uri(), folder, overwrite=True, retries=0)
    source.write_bytes(b"other")
    with pytest.raises(errors.FileFormatError, match="SHA-1"):
        utils.download(source.as_uri(), folder, overwrite=True, sha1_hash=sha1, retries=1)
    assert [p.name for p in folder.iterdir()] == ["source.bin"] and utils.check_sha1(got, sha1)
    tries = []

    def offline(url, timeout):
        tries.append(url)
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(errors.FileMissing, match="got Network is unreachable. Check the network"):
        utils.download("https://example.org/a/file.zip?x=1", tmp_path / "f.zip", retries=2)
    assert len(tries) == 3
    with pytest.raises(ValueError, match="verify_ssl"):
        utils.download("https://example.org/x", verify_ssl=False)


def test_shape_is_known():
    assert utils.shape_is_known((2, 0)) and utils.shape_is_known(())
    assert not utils.shape_is_known(None) and not utils.shape_is_known((2, -1))
