"""The engine: work in the background, errors that surface where results are read, how to debug. See docs/engine.md.

Next: 09_gpu.py.
"""

import argparse
import time

import minimx as mx
from minimx import np


def overlap(pause: float) -> None:
    """A Python callback on the engine's threads: what it writes waits for it, and other work goes on meanwhile."""
    slow, other = np.zeros(3), np.ones(3)

    def load() -> None:
        time.sleep(pause)

    start = time.perf_counter()
    mx.engine.push(load, writes=[slow], name="load")
    other = (other * 2).sum()
    print(f"not waiting for the callback: {other.item()} after {(time.perf_counter() - start) * 1e3:.1f} ms")
    (slow + 1).wait_to_read()
    print(f"waiting for what it writes: {(time.perf_counter() - start) * 1e3:.1f} ms")


def failure() -> None:
    """An error in the background poisons what it should have written; whoever reads that gets it, in its own class."""
    data = np.zeros(3)

    def fail() -> None:
        raise LookupError("the disk is gone")

    mx.engine.push(fail, writes=[data], name="read the disk")
    later = data * 2  # queued; nothing has been raised yet
    try:
        later.asnumpy()
    except LookupError as error:
        print("raised at the read:", " ".join(str(error).split())[:100])


def synchronous() -> None:
    """Inside sync() each operator runs, and fails, where it is called: for debuggers and profilers."""
    with mx.engine.sync():
        print("at once:", (np.arange(4) ** 2).tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="shorter waits")
    overlap(0.02 if parser.parse_args().tiny else 0.5)
    failure()
    synchronous()
    mx.waitall()  # everything that was queued is done
