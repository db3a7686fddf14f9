"""gluon.data.vision and mx.image: readers of data sets, folders of images, transforms."""

import gzip
import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx import errors
from minimx.gluon import data
from minimx.gluon.data import vision
from minimx.gluon.data.vision import transforms as T

# Readers


def write_idx(path, array):
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes()) if path.suffix == ".gz" else head + array.tobytes())


@pytest.mark.parametrize("cls", [vision.MNIST, vision.FashionMNIST])
def test_mnist(tmp_path, cls):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    with pytest.raises(FileNotFoundError, match=r"Download http.*train-images-idx3-ubyte.gz"):
        cls(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    dataset = cls(tmp_path)
    assert len(dataset) == 5 and (dataset[3][0] == images[3][..., None]).all() and dataset[3][1] == 3
    assert dataset[0][1].dtype == np.int32
    assert cls(tmp_path, transform=lambda x, y: y)[2] == 2
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1\0\0\0\5ab")
    with pytest.raises(errors.FileFormatError, match=r"\(5,\) bytes of data, got 2"):
        cls(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images.tobytes())[:99])
    with pytest.raises(errors.FileFormatError, match="gzip"):
        cls(tmp_path)


def test_cifar(tmp_path):
    import tarfile

    rows = np.random.default_rng(0).integers(0, 10, (3, 3074), dtype=np.uint8)
    with pytest.raises(FileNotFoundError, match="cifar-10-binary.tar.gz"):
        vision.CIFAR10(tmp_path / "none")
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(rows[:, 1:].tobytes())
    ten = vision.CIFAR10(tmp_path)
    assert len(ten) == 15 and ten[4][1] == rows[1, 1] and ten[4][0].shape == (32, 32, 3)
    assert (ten[4][0][:, :, 2] == rows[1, 2 + 2048 :].reshape(32, 32)).all()
    (tmp_path / "train.bin").write_bytes(rows.tobytes())
    with tarfile.open(tmp_path / "cifar-100-binary.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "train.bin", "cifar-100-binary/train.bin")
    (tmp_path / "train.bin").unlink()
    assert vision.CIFAR100(tmp_path)[1][1] == rows[1, 0]
    assert vision.CIFAR100(tmp_path, fine_label=True)[1][1] == rows[1, 1]
    with pytest.raises(errors.FileFormatError, match=r"test\.bin"):
        vision.CIFAR100(tmp_path, train=False)
    (tmp_path / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(errors.FileFormatError, match="records of 3073 bytes, got 5"):
        vision.CIFAR10(tmp_path)


def test_digits():
    train, valid = vision.Digits(), vision.Digits(train=False)
    assert (len(train), len(valid)) == (1442, 355)
    image, label = train[0]
    assert image.shape == (8, 8, 1) and image.dtype == np.uint8 and label.dtype == np.int32
    images = np.stack([x for x, _ in train])
    assert images.min() == 0 and images.max() == 255
    counts = np.bincount([y for _, y in valid])
    assert len(counts) == 10 and counts.min() >= 34
    big = vision.Digits(size=32, channels=3)[0][0]
    assert big.shape == (32, 32, 3) and (big[..., 0] == big[..., 2]).all()
    assert abs(big.mean() - image.mean()) < 3


# Images in folders


@pytest.fixture
def folder(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    for name, level in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (12 + i, 10), (level, i, 0)).save(tmp_path / name / f"{i}.png")
    Image.new("L", (9, 9), 77).save(tmp_path / "dog" / "grey.JPG", "JPEG")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_image_folder(folder):
    dataset = vision.ImageFolderDataset(folder)
    assert dataset.synsets == ["cat", "dog"] and len(dataset) == 7
    image, label = dataset[4]
    assert image.shape == (10, 13, 3) and image[0, 0].tolist() == [200, 1, 0] and label == 1
    assert dataset[6][0].shape == (9, 9, 3)
    assert vision.ImageFolderDataset(folder, flag=0)[0][0].shape == (10, 12, 1)
    with pytest.raises(IndexError):
        dataset[7]
    listed = vision.ImageListDataset(folder, [[3, "cat/0.png"], [1, 2, "dog/0.png"]])
    assert listed[0][1] == 3 and listed[1][1].tolist() == [1, 2]
    (folder / "list.tsv").write_text("0\t5\tcat/1.png\n1\t6\tdog/1.png\n")
    assert vision.ImageListDataset(folder, folder / "list.tsv")[1][1] == 6


@pytest.mark.parametrize("kind", [{}, {"num_workers": 1}, {"num_workers": 2, "thread_pool": True}])
def test_broken_images_are_counted_once_and_never_fatal(folder, kind):
    (folder / "cat" / "1.png").write_bytes(b"no image")
    whole = (folder / "dog" / "grey.JPG").read_bytes()
    (folder / "dog" / "grey.JPG").write_bytes(whole[: len(whole) // 2])
    dataset = vision.ImageFolderDataset(folder)
    loader = data.DataLoader(dataset.transform_first(T.Resize(8)), 2, **kind)
    for _ in range(2):
        assert sum(len(y) for _, y in loader) == 5
        assert dataset.broken == 2
    assert {os.path.basename(name) for name in dataset.broken_files} == {"1.png", "grey.JPG"}
    loader.close()
    with pytest.raises(errors.FileFormatError, match=r"cat/1\.png: expected an image that Pillow can read"):
        vision.ImageFolderDataset(folder, skip_broken=False)[1]


def test_image_folder_errors(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no such folder.*CLASS/NAME.jpg"):
        vision.ImageFolderDataset(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="got a file"):
        vision.ImageFolderDataset(folder / "cat" / "0.png")
    with pytest.raises(errors.FileFormatError, match="a folder for each class"):
        vision.ImageFolderDataset(folder / "cat")
    (folder / "emu").mkdir()
    with pytest.raises(errors.FileFormatError, match=r"at least one image .* none in .*emu"):
        vision.ImageFolderDataset(folder)
    (folder / "emu").rmdir()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'minimx\[vision\]'"):
        vision.ImageFolderDataset(folder)[0]


# Transforms


def picture(h=20, w=30, c=3, dtype=np.uint8):
    x = np.random.default_rng(1).integers(0, 256, (h, w, c))
    return x.astype(dtype)


def test_tensor_and_normalize():
    x = picture()
    y = T.ToTensor()(x)
    assert y.shape == (3, 20, 30) and y.dtype == np.float32
    np.testing.assert_allclose(y, x.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert T.ToTensor()(np.stack([x, x])).shape == (2, 3, 20, 30)
    z = T.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])(y)
    np.testing.assert_allclose(z[1], (y[1] - 0.2) / 0.6, rtol=1e-5)
    assert T.Normalize(0.5, 0.5)(y).dtype == np.float32
    assert T.Cast("float16")(x).dtype == np.float16
    assert T.ToTensor()(x, 7)[1] == 7
    with pytest.raises(errors.ShapeError, match="Put ToTensor"):
        T.Normalize()(x)
    with pytest.raises(errors.ShapeError, match="1 or 3 values"):
        T.Normalize([1, 2])(y)
    with pytest.raises(ValueError, match="without zeros"):
        T.Normalize(0, 0)


def test_sizes_are_width_then_height():
    x = picture(20, 30)
    for t in (T.Resize((9, 7)), T.CenterCrop((9, 7)), T.RandomCrop((9, 7)), T.RandomResizedCrop((9, 7))):
        assert t(x).shape == (7, 9, 3), t
    assert T.Resize(10, keep_ratio=True)(x).shape == (10, 15, 3)
    assert T.Resize(10)(x).shape == (10, 10, 3)
    assert T.CenterCrop(40)(x).shape == (40, 40, 3)
    assert (T.CropResize(2, 3, 9, 7)(x) == x[3:10, 2:11]).all()
    assert T.CropResize(2, 3, 9, 7, (4, 5))(x).shape == (5, 4, 3)
    assert (T.CenterCrop((10, 20))(x) == x[:, 10:20]).all()
    with pytest.raises(ValueError, match="inside the image of width 30"):
        T.CropResize(25, 0, 9, 7)(x)
    with pytest.raises(ValueError, match="positive size"):
        T.Resize(0)


def test_random_crop_with_padding_covers_the_border():
    x = np.full((8, 8, 1), 9, np.uint8)
    seen = np.zeros((8, 8), bool)
    for _ in range(60):
        y = T.RandomCrop(8, pad=2)(x)
        assert y.shape == x.shape
        seen |= y[..., 0] == 0
    assert seen[0].any() and seen[:, 0].any() and not seen[2:6, 2:6].any()


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    out=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    interp=st.sampled_from([0, 1, 3, 4]),
    channels=st.sampled_from([1, 3]),
)
def test_resize_is_the_same_by_pillow_and_by_matrices(size, out, interp, channels):
    pytest.importorskip("PIL")
    from minimx import image

    x = 64 + picture(*size, channels) // 2  # Pillow clips between its two passes, where filters overshoot
    by_pillow = image.imresize(x, *out, interp)
    by_matrix = image.resize_matrix(x, *out, interp)
    assert by_pillow.shape == by_matrix.shape == (out[1], out[0], channels)
    if interp:  # nearest may round a tie the other way
        assert np.abs(by_pillow.astype(int) - by_matrix).max() <= 2
    assert image.imresize(x.astype(np.float32), *out, interp).dtype == np.float32


def test_flips_happen_about_half_the_time():
    x = picture()
    for t, mirrored in ((T.RandomFlipLeftRight(), x[:, ::-1]), (T.RandomFlipTopBottom(), x[::-1])):
        results = [t(x) for _ in range(200)]
        flipped = sum((y == mirrored).all() for y in results)
        assert 60 < flipped < 140 and all((y == x).all() or (y == mirrored).all() for y in results)
    assert (T.RandomFlipLeftRight(p=1)(x) == x[:, ::-1]).all() and (T.RandomFlipLeftRight(p=0)(x) == x).all()
    with pytest.raises(ValueError, match="from 0 to 1"):
        T.RandomFlipLeftRight(p=2)


def test_rotation():
    x = picture(21, 21, 3, np.float32)
    np.testing.assert_allclose(T.Rotate(90)(x), np.rot90(x), atol=1e-2)
    np.testing.assert_allclose(T.Rotate(0)(x), x, atol=1e-3)
    ones = np.full((20, 30, 1), 100, np.uint8)
    assert T.Rotate(30)(ones).min() == 0
    assert T.Rotate(30, zoom_in=True)(ones).min() >= 99
    wide = T.Rotate(45, zoom_out=True)(ones)
    assert wide.shape == ones.shape and wide[0, 0, 0] == 0 and wide[10, 15, 0] == 100
    assert T.RandomRotation((-10, 10), rotate_with_proba=0)(x) is x
    assert T.RandomRotation((90, 90))(x).shape == x.shape
    with pytest.raises(ValueError, match="zoom_in or zoom_out"):
        T.Rotate(3, True, True)


COLORS = [
    T.RandomBrightness(0.5),
    T.RandomContrast(0.5),
    T.RandomSaturation(0.5),
    T.RandomHue(0.5),
    T.RandomColorJitter(0.4, 0.4, 0.4, 0.4),
    T.RandomLighting(0.5),
    T.RandomGray(1.0),
]


@pytest.mark.parametrize("t", COLORS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_colors_keep_type_and_input(t, dtype):
    x = picture(dtype=dtype)
    before = x.copy()
    y = t(x)
    assert y.shape == x.shape and y.dtype == x.dtype and (x == before).all() and not (y == x).all()


def test_colors_do_what_they_say():
    x = picture(dtype=np.float32)
    luma = x @ np.array([0.299, 0.587, 0.114], np.float32)
    ratio = T.RandomBrightness(0.5)(x) / np.where(x == 0, 1, x)
    assert np.ptp(ratio[x > 0]) < 1e-5 and 0.5 <= ratio[x > 0].mean() <= 1.5
    np.testing.assert_allclose(T.RandomSaturation(0.5)(x) @ [0.299, 0.587, 0.114], luma, rtol=1e-3)
    np.testing.assert_allclose(T.RandomHue(0.5)(x) @ [0.299, 0.587, 0.114], luma, rtol=1e-2, atol=0.5)
    np.testing.assert_allclose(T.RandomGray(1)(x)[..., 1], luma, rtol=1e-5)
    shift = T.RandomLighting(1.0)(x) - x
    assert np.ptp(shift[..., 0]) < 1e-3
    white = np.full((4, 4, 3), 255, np.uint8)
    assert T.RandomContrast(0.9)(white).min() >= 254
    assert (T.RandomColorJitter()(x) == x).all()
    with pytest.raises(errors.ShapeError, match="RGB image"):
        T.RandomGray(1.0)(picture(c=1))


def test_compose_and_random_apply():
    x = picture()
    steps = T.Compose([T.Resize(8), T.ToTensor(), lambda v: v * 2])
    assert steps(x).shape == (3, 8, 8) and steps(x, 1)[1] == 1 and len(steps) == 3
    assert T.HybridCompose([T.Cast()])(x).dtype == np.float32
    applied = [T.RandomApply(T.Cast(), p=0.5)(x).dtype == np.float32 for _ in range(100)]
    assert 25 < sum(applied) < 75
    assert T.HybridRandomApply([T.Cast(), T.RandomFlipLeftRight(1)], p=0)(x) is x
    with pytest.raises(ValueError, match="functions, got a int"):
        T.Compose([3])
    assert "Resize(size=(8, 8)" in repr(T.Resize(8))


# Image functions


def test_image_functions_on_numpy(folder):
    from minimx import image

    x = picture(20, 30)
    assert image.decode((folder / "cat" / "0.png").read_bytes()).shape == (10, 12, 3)
    crop, box = image.center_crop(x, (10, 8))
    assert box == (10, 6, 10, 8) and (crop == x[6:14, 10:20]).all()
    crop, (x0, y0, w, h) = image.random_crop(x, (10, 8))
    assert (crop == x[y0 : y0 + h, x0 : x0 + w]).all() and (w, h) == (10, 8)
    assert image.resize_short(x, 10).shape == (10, 15, 3)
    normal = image.color_normalize(x, np.array([1, 2, 3]), 2.0)
    np.testing.assert_allclose(normal, (x - np.array([1.0, 2, 3])) / 2)
    with pytest.raises(FileNotFoundError):
        image.decode(str(folder / "none.png"))
    with pytest.raises(errors.ShapeError, match=r"\(H, W, C\)"):
        image.imresize(np.zeros((2, 2)), 3, 3)


def test_image_functions_and_transforms_on_minimx_arrays(folder):
    image = mx.image.imread(folder / "dog" / "0.png")
    assert isinstance(image, mx.ndarray) and image.shape == (10, 12, 3) and image.dtype == np.uint8
    assert mx.image.imread(folder / "dog" / "0.png", to_rgb=False).asnumpy()[0, 0].tolist() == [0, 0, 200]
    decoded = mx.image.imdecode((folder / "dog" / "0.png").read_bytes(), flag=0)
    assert decoded.shape == (10, 12, 1)
    for f in (T.Resize(8), T.CenterCrop(8), T.RandomCrop(8), T.RandomResizedCrop(8), T.RandomFlipLeftRight(1)):
        y = f(image)
        assert isinstance(y, mx.ndarray), f
        assert (y.asnumpy() == 200)[..., 0].all()
    tensor = T.Compose([T.RandomFlipLeftRight(), T.ToTensor(), T.Normalize(0.5, 0.5)])(image)
    assert isinstance(tensor, mx.ndarray) and tensor.shape == (3, 10, 12) and tensor.dtype == np.float32
    assert isinstance(mx.image.imresize(image, 5, 4), mx.ndarray)
    assert isinstance(mx.image.color_normalize(image, mx.np.array([1.0, 2, 3])), mx.ndarray)
