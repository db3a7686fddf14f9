"""The calls that Gluon code makes most (and some that it makes often), on so few elements that only the call counts.

What costs a call more than its neighbours shows here: every line should be within a few times the others. CPU only.

    python bench/calls.py
"""

from __future__ import annotations

from typing import Any

import numpy as onp
from common import Report, arguments, import_torch, in_turn

import minimx as mx
from minimx import npx

# minimx | NumPy | PyTorch; a, b: (4, 5) of float32, i: two integers; in PyTorch's column those of PyTorch.
CALLS = """
np.array([1.5, 2.5])          | np.array([1.5, 2.5], "f")      | torch.tensor([1.5, 2.5])
np.array([1, 2], dtype="int32") | np.array([1, 2], "int32")    | torch.tensor([1, 2], dtype=torch.int32)
np.array(host)                | np.array(host)                 | torch.tensor(host)
np.zeros((4, 5))              | np.zeros((4, 5), "f")          | torch.zeros(4, 5)
np.ones((4, 5))               | np.ones((4, 5), "f")           | torch.ones(4, 5)
np.full((4, 5), 2.0)          | np.full((4, 5), 2.0)           | torch.full((4, 5), 2.0)
np.arange(10)                 | np.arange(10)                  | torch.arange(10)
np.zeros_like(a)              | np.zeros_like(a)               | torch.zeros_like(a)
np.random.normal(0, 1, (4, 5)) | np.random.normal(0, 1, (4, 5)) | torch.randn(4, 5)
np.random.uniform(0, 1, (4, 5)) | np.random.uniform(0, 1, (4, 5)) | torch.rand(4, 5)
a.asnumpy()                   | a.copy()                       | a.numpy().copy()
a[0, 0].item()                | a[0, 0].item()                 | a[0, 0].item()
float(a[0, 0])                | float(a[0, 0])                 | float(a[0, 0])
a.astype("int32")             | a.astype("int32")              | a.to(torch.int32)
a.shape                       | a.shape                        | a.shape
a.dtype                       | a.dtype                        | a.dtype
a.ctx                         |                                | a.device
a.as_in_ctx(mx.cpu())         |                                | a.to("cpu")
a.reshape(5, 4)               | a.reshape(5, 4)                | a.reshape(5, 4)
a.reshape((-1,))              | a.reshape((-1,))               | a.reshape((-1,))
a.T                           | a.T                            | a.T
np.expand_dims(a, 0)          | np.expand_dims(a, 0)           | a.unsqueeze(0)
a.squeeze()                   | a.squeeze()                    | a.squeeze()
np.broadcast_to(a, (2, 4, 5)) | np.broadcast_to(a, (2, 4, 5))  | a.expand(2, 4, 5)
a[0]                          | a[0]                           | a[0]
a[:, 1]                       | a[:, 1]                        | a[:, 1]
a[i]                          | a[i]                           | a[i]
a[a > 0]                      | a[a > 0]                       | a[a > 0]
a.__setitem__(slice(1, 3), 1.0) | a.__setitem__(slice(1, 3), 1.0) | a.__setitem__(slice(1, 3), 1.0)
a + b                         | a + b                          | a + b
a * 2                         | a * 2                          | a * 2
a ** 2                        | a ** 2                         | a ** 2
-a                            | -a                             | -a
a > b                         | a > b                          | a > b
a.__iadd__(0)                 | a.__iadd__(0)                  | a.__iadd__(0)
np.exp(a)                     | np.exp(a)                      | torch.exp(a)
np.sqrt(a)                    | np.sqrt(a)                     | torch.sqrt(a)
np.maximum(a, b)              | np.maximum(a, b)               | torch.maximum(a, b)
np.where(a > 0, a, b)         | np.where(a > 0, a, b)          | torch.where(a > 0, a, b)
a.clip(0, 1)                  | a.clip(0, 1)                   | a.clip(0, 1)
a.sum()                       | a.sum()                        | a.sum()
a.sum(axis=1)                 | a.sum(axis=1)                  | a.sum(1)
a.mean()                      | a.mean()                       | a.mean()
a.max()                       | a.max()                        | a.max()
a.std()                       | a.std()                        | a.std()
a.argmax(axis=1)              | a.argmax(axis=1)               | a.argmax(1)
np.argsort(a)                 | np.argsort(a)                  | torch.argsort(a)
np.linalg.norm(a)             | np.linalg.norm(a)              | a.norm()
np.dot(a, b.T)                | np.dot(a, b.T)                 | a @ b.T
np.concatenate([a, b])        | np.concatenate([a, b])         | torch.cat([a, b])
np.stack([a, b])              | np.stack([a, b])               | torch.stack([a, b])
np.split(a, 2)                | np.split(a, 2)                 | torch.split(a, 2)
a.repeat(2, axis=0)           | a.repeat(2, axis=0)            | a.repeat_interleave(2, 0)
bool((a > 0).all())           | bool((a > 0).all())            | bool((a > 0).all())
[row for row in a]            | [row for row in a]             | [row for row in a]
npx.relu(a)                   |                                | torch.relu(a)
npx.softmax(a)                |                                | torch.softmax(a, -1)
npx.one_hot(i, 5)             |                                | torch.nn.functional.one_hot(i, 5)
npx.pick(a[:2], i)            |                                | a[:2].gather(1, i[:, None])
a.detach()                    |                                | a.detach()
"""


def main() -> None:
    args = arguments(__doc__)
    report, torch = Report("Calls on few elements, time a call", args), import_torch()
    host, places = onp.ones((4, 5), "float32"), onp.array([1, 2])
    ours: dict[str, Any] = {"mx": mx, "np": mx.np, "npx": npx, "host": host}
    names = {"minimx": ours, "NumPy": {"np": onp, "host": host}, "PyTorch": {"torch": torch, "host": host}}
    for who, make in (("minimx", mx.np.array), ("NumPy", onp.array), ("PyTorch", torch and torch.tensor)):
        if make:
            names[who] |= {"a": make(host), "b": make(host), "i": make(places)}
    for line in CALLS.strip().splitlines():
        texts = dict(zip(names, map(str.strip, line.split("|")), strict=True))
        cases = {w: eval(f"lambda: {t}", names[w]) for w, t in texts.items() if t and (torch or w != "PyTorch")}
        report.add(texts["minimx"], in_turn(cases, args.rounds, seconds=0.001 if args.tiny else 0.02))
    report.finish()


if __name__ == "__main__":
    main()
