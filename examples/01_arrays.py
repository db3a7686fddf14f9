"""Arrays: NumPy's semantics, computed in the background. Next: 02_autograd.py."""

import argparse
import time

import numpy as onp

from minimx import np


def views_and_broadcasting() -> None:
    """Slices are views that share memory; shapes stretch as in NumPy."""
    x = np.arange(12).reshape(3, 4)
    x[:, ::2] = -1  # writes through a strided view
    print("x with two columns set:\n", x)
    column, row = np.arange(3).reshape(3, 1), np.arange(4)
    print("outer sum by broadcasting:\n", column + 10 * row)
    print("rows where the last is above 5:\n", x[x[:, -1] > 5])


def types() -> None:
    """float32 is the default; types promote as in NumPy."""
    print(
        "ones are",
        np.ones(3).dtype,
        "and int8 + float16 is",
        (np.ones(3, dtype="int8") + np.ones(3, dtype="float16")).dtype,
    )


def both_ways() -> None:
    """NumPy and DLPack see the same memory where that is possible."""
    x = np.ones((2, 2))
    seen = onp.from_dlpack(x)
    x += 1
    x.wait_to_read()
    print("NumPy sees the change:", seen.tolist())


def background(size: int) -> None:
    """An operator returns when its work is queued; reading waits for it."""
    x = np.random.uniform(size=(size, size))
    x.wait_to_read()
    start = time.perf_counter()
    y = x
    for _ in range(5):
        y = np.dot(y, x) / size
    queued = time.perf_counter() - start
    y.wait_to_read()
    done = time.perf_counter() - start
    print(f"five products of {size} x {size}: queued in {queued * 1e3:.2f} ms, done in {done * 1e3:.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="smaller matrices")
    tiny = parser.parse_args().tiny
    views_and_broadcasting()
    types()
    both_ways()
    background(64 if tiny else 1024)
