"""Calls that a type checker accepts. Read by tests/test_stubs.py, which runs mypy on it; never imported."""

import numpy

import minimx as mx
from minimx import autograd, gluon, nd, np, npx

x: np.ndarray = np.array([[1, 2], [3, 4]])
y: np.ndarray = np.tanh(x) + 1 - 2 * x / [1.0, 2.0] @ x.T
n: int = x.shape[0] + x.size + x.ndim
total: np.ndarray = x.sum(axis=(0, 1), keepdims=True).reshape(1, -1).reshape((1, 1)).transpose(1, 0)
host: numpy.ndarray = x.asnumpy()
mixed: np.ndarray = np.add(host, [1, 2]) + np.maximum(x, 0) + np.where(x > 1, x, 0.0)
parts: list[np.ndarray] = np.split(np.arange(6), 3) + np.split(x, [1], axis=1)
z: np.ndarray = np.zeros((2, 3), dtype="float16", device=mx.cpu()).astype(np.int32)
picked: np.ndarray = x[0, ..., None][x[:, 0] > 1]
x[0] = 3
x[:, 1:] = [[1], [2]]
feature: np.ndarray = npx.convolution(np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), kernel=(3, 3), num_filter=3, pad=1)
drawn: np.ndarray = np.random.normal(0, 1, size=(2, 3), ctx=mx.cpu(0)) + np.random.uniform(size=3)
old: np.ndarray = nd.broadcast_add(x, y) + nd.FullyConnected(x, y, num_hidden=2, no_bias=True)
ok: bool = bool((x == y).all()) and npx.is_np_array()
x.attach_grad()
with autograd.record():
    loss = (npx.relu(x) ** 2).mean()
loss.backward()
assert x.grad is not None
gradient: np.ndarray = x.grad * np.linalg.norm(x)
net: gluon.nn.HybridSequential = mx.gluon.nn.HybridSequential()
