"""Images: read, decode, resize and crop. (H, W, C) throughout; numpy arrays give numpy arrays, minimx arrays minimx.

Decoding is Pillow's (the ``vision`` extra). Random augmentation for training is gluon.data.vision.transforms, which
builds on the functions here; the loader's workers run them on numpy, without the engine.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from ._bridge import is_mx, same_kind, to_mx, to_numpy
from .errors import ArgumentError, FileFormatError, FileMissing, MissingExtra, ShapeError

__all__ = [
    "center_crop",
    "color_normalize",
    "fixed_crop",
    "imdecode",
    "imread",
    "imresize",
    "random_crop",
    "random_size_crop",
    "resize_short",
    "scale_down",
]

# Filter radius and kernel at unit scale, by OpenCV's number of the interpolation, as Gluon has it.
_FILTERS = {
    1: (1.0, lambda t: np.maximum(0.0, 1 - np.abs(t))),
    2: (0.5, lambda t: ((t > -0.5) & (t <= 0.5)).astype(np.float64)),
    3: (2.0, lambda t: _cubic(np.abs(t))),
    4: (3.0, lambda t: np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0.0)),
}
_PILLOW_NAMES = {0: "NEAREST", 1: "BILINEAR", 2: "BOX", 3: "BICUBIC", 4: "LANCZOS"}


def pillow() -> Any:
    """Pillow's Image module; MissingExtra names the extra that brings it."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra(
            "image", "Pillow for decoding and rotating images", "no module PIL", "Run pip install 'minimx[vision]'"
        ) from None
    return Image


def decode(data: bytes | str | os.PathLike[str], gray: bool = False) -> np.ndarray:
    """The picture in a file or in bytes, as numpy uint8 (H, W, 3), or (H, W, 1) with ``gray``.

    EXIF rotation is not applied. Raises FileMissing, or FileFormatError where Pillow cannot read it whole.
    """
    image_module = pillow()
    name = "image.decode" if isinstance(data, (bytes, bytearray, memoryview)) else os.fspath(data)
    stream: Any = io.BytesIO(data) if name == "image.decode" else name  # type: ignore[arg-type]
    try:
        with image_module.open(stream) as image:
            pixels = np.asarray(image.convert("L" if gray else "RGB"))
    except FileNotFoundError:
        raise FileMissing(name, "an image file", "no such file") from None
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise FileFormatError(name, "an image that Pillow can read", error, "Replace or remove the file") from None
    return pixels[:, :, None] if gray else pixels


def imread(filename: str | os.PathLike[str], flag: int = 1, to_rgb: bool = True) -> Any:
    """Read an image file as a uint8 minimx array (H, W, 3); (H, W, 1) with ``flag=0``; BGR with ``to_rgb=False``."""
    return to_mx(_ordered(decode(filename, gray=flag == 0), to_rgb))


def imdecode(buf: Any, flag: int = 1, to_rgb: bool = True) -> Any:
    """As ``imread``, from the bytes of a file (or a uint8 array of them)."""
    data = buf if isinstance(buf, (bytes, bytearray, memoryview)) else to_numpy(buf).astype(np.uint8).tobytes()
    return to_mx(_ordered(decode(bytes(data), gray=flag == 0), to_rgb))


def _ordered(pixels: np.ndarray, to_rgb: bool) -> np.ndarray:
    return pixels if to_rgb else np.ascontiguousarray(pixels[:, :, ::-1])


def imresize(src: Any, w: int, h: int, interp: int = 1) -> Any:
    """Resize (H, W, C) to (``h``, ``w``, C). ``interp``: 0 nearest, 1 bilinear, 2 area, 3 bicubic, 4 Lanczos, 9 auto.

    Filters widen when shrinking (antialiasing), as Pillow's do. uint8 images of 1 or 3 channels go through Pillow where
    it is installed; everything else through two small matrix products, which give the same within rounding.
    """
    x = _image(src, "imresize")
    if w < 1 or h < 1:
        raise ArgumentError("imresize", "w, h >= 1", f"{w}, {h}")
    interp = (2 if h * w < x.shape[0] * x.shape[1] else 3) if interp in (9, 10) else interp
    if interp not in _PILLOW_NAMES:
        raise ArgumentError("imresize", "interp 0, 1, 2, 3, 4 or 9", interp)
    if x.shape[:2] == (h, w):
        return src
    if x.dtype == np.uint8 and x.shape[2] in (1, 3):
        try:
            return same_kind(src, _resize_pillow(x, w, h, interp))
        except MissingExtra:
            pass
    return same_kind(src, resize_matrix(x, w, h, interp))


def _resize_pillow(x: np.ndarray, w: int, h: int, interp: int) -> np.ndarray:
    image_module = pillow()
    image = image_module.fromarray(x if x.shape[2] == 3 else np.ascontiguousarray(x[:, :, 0]))
    out = np.asarray(image.resize((w, h), getattr(image_module.Resampling, _PILLOW_NAMES[interp])))
    return out if x.shape[2] == 3 else out[:, :, None]


def resize_matrix(x: np.ndarray, w: int, h: int, interp: int = 1) -> np.ndarray:
    """The plain twin of resizing: ``out[..., h, w, c] = sum_ij rows[h, i] cols[w, j] x[..., i, j, c]``."""
    rows, cols = _weights(x.shape[-3], h, interp), _weights(x.shape[-2], w, interp)
    compute = np.float64 if x.dtype == np.float64 else np.float32
    y = np.einsum("hi,...ijc->...hjc", rows.astype(compute), x.astype(compute), optimize=True)
    y = np.einsum("wj,...hjc->...hwc", cols.astype(compute), y, optimize=True)
    return saturate(y, x.dtype)


def _weights(size: int, out: int, interp: int) -> np.ndarray:
    """(out, size) matrix whose rows sum to one: the filter, centred at each output pixel and scaled when shrinking."""
    scale = size / out
    centre = (np.arange(out) + 0.5) * scale
    if interp == 0:
        return np.eye(size)[np.minimum(centre.astype(int), size - 1)]
    stretch = max(scale, 1.0)
    matrix = _FILTERS[interp][1]((np.arange(size) + 0.5 - centre[:, None]) / stretch)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _cubic(t: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5 (Keys 1981, eq. 15)."""
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def saturate(y: np.ndarray, dtype: Any) -> np.ndarray:
    """``y`` as ``dtype``: integers are rounded and clipped to their range, floats only cast."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        y = np.clip(np.rint(y), limits.min, limits.max)
    return y.astype(dtype, copy=False)


def scale_down(src_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(w, h) ``size`` shrunk, keeping its ratio, until it fits into ``src_size``.

    >>> scale_down((640, 480), (720, 120))
    (640, 106)
    """
    (most_w, most_h), (w, h) = src_size, size
    ratio = min(1.0, most_w / w, most_h / h)
    return max(1, int(w * ratio)), max(1, int(h * ratio))


def resize_short(src: Any, size: int, interp: int = 2) -> Any:
    """Resize so that the shorter side is ``size``, keeping the ratio."""
    h, w = src.shape[:2]
    if h > w:
        return imresize(src, size, max(1, size * h // w), interp)
    return imresize(src, max(1, size * w // h), size, interp)


def fixed_crop(src: Any, x0: int, y0: int, w: int, h: int, size: tuple[int, int] | None = None, interp: int = 2) -> Any:
    """Columns ``x0 .. x0 + w`` and rows ``y0 .. y0 + h``, resized to ``size`` = (w, h) where given."""
    height, width = src.shape[:2]
    if not (0 <= x0 and 0 <= y0 and w > 0 and h > 0 and x0 + w <= width and y0 + h <= height):
        box = f"x {x0} to {x0 + w}, y {y0} to {y0 + h}"
        raise ArgumentError("fixed_crop", f"a box inside the image of width {width} and height {height}", box)
    out = src[y0 : y0 + h, x0 : x0 + w]
    return out if size is None or size == (w, h) else imresize(out, *size, interp)


def center_crop(src: Any, size: tuple[int, int], interp: int = 2) -> tuple[Any, tuple[int, int, int, int]]:
    """The middle of the image, ``size`` = (w, h); a smaller image is cropped to the ratio and enlarged.

    Gives the crop and its box (x0, y0, w, h).
    """
    height, width = src.shape[:2]
    w, h = scale_down((width, height), size)
    x0, y0 = (width - w) // 2, (height - h) // 2
    return fixed_crop(src, x0, y0, w, h, size, interp), (x0, y0, w, h)


def random_crop(src: Any, size: tuple[int, int], interp: int = 2) -> tuple[Any, tuple[int, int, int, int]]:
    """As ``center_crop`` at a random place."""
    rng = _generator()
    height, width = src.shape[:2]
    w, h = scale_down((width, height), size)
    x0, y0 = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    return fixed_crop(src, x0, y0, w, h, size, interp), (x0, y0, w, h)


def random_size_crop(
    src: Any,
    size: tuple[int, int],
    area: float | tuple[float, float],
    ratio: tuple[float, float],
    interp: int = 2,
) -> tuple[Any, tuple[int, int, int, int]]:
    """A box of random area (share of the image) and random ratio w/h, resized to ``size``: Inception's crop.

    Ten tries are made; if no box fits, the centre is taken (Szegedy et al. 2015, section 6).
    """
    rng = _generator()
    height, width = src.shape[:2]
    shares = (area, 1.0) if np.isscalar(area) else area
    for _ in range(10):
        target = rng.uniform(*shares) * height * width  # type: ignore[misc]
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        w, h = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            x0, y0 = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return fixed_crop(src, x0, y0, w, h, size, interp), (x0, y0, w, h)
    return center_crop(src, size, interp)


def color_normalize(src: Any, mean: Any, std: Any = None) -> Any:
    """``(src - mean) / std`` over the last axis, as float32 (float64 stays)."""
    x = to_numpy(src)
    y = x.astype(np.float64 if x.dtype == np.float64 else np.float32) - to_numpy(mean)
    y = y if std is None else y / to_numpy(std)
    return same_kind(src, y.astype(np.float64 if x.dtype == np.float64 else np.float32, copy=False))


def _image(src: Any, where: str) -> np.ndarray:
    x = to_numpy(src) if is_mx(src) else np.asarray(src)
    if x.ndim != 3:
        raise ShapeError(where, "an image (H, W, C)", x.shape)
    return x


def _generator() -> np.random.Generator:
    from .gluon.data.rng import generator

    return generator()
