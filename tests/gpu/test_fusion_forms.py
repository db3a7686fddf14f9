"""Every form of a fused group in every type on a GPU: hybridized blocks against imperative ones, to second order."""

from __future__ import annotations

import forms
import numpy
import pytest
from forms import DTYPES, FORMS, NEAR

import minimx as mx

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMS)
def test_hybridized(name, dtype):
    imperative, hybridized = forms.as_hybrid(name, dtype, compiled=True)
    bound = 1e-3 if dtype in ("float32", "float64") else 2 * NEAR[dtype]
    for a, b in zip(imperative, hybridized, strict=True):
        numpy.testing.assert_allclose(b, a, rtol=bound, atol=bound * abs(a).max(initial=1e-3))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_large_arrays(dtype):
    """Rows of several lengths and a fold over many of them, as in a transformer's layer: forward and backward."""

    class Layer(mx.gluon.HybridBlock):
        def forward(self, x, residual, gamma, beta):
            return mx.npx.gelu(mx.npx.layer_norm(x * 0.5 + residual, gamma, beta)), mx.npx.softmax(x - residual)

    for units in (64, 768, 1000, 4096):
        rng = numpy.random.default_rng(units)
        shapes = [(8, 128, units), (8, 128, units), (units,), (units,)]
        args = [mx.np.array(rng.normal(size=s) * 0.5 + (len(s) == 1), dtype=dtype) for s in shapes]
        results = []
        for hybridize in (False, True):
            net = Layer()
            net.hybridize(hybridize, static_alloc=hybridize, static_shape=hybridize)
            for x in args:
                x.attach_grad()
            with mx.autograd.record():
                y, p = net(*args)
                last = (
                    (y.astype("float32") ** 2).sum() + (p.astype("float32") * args[0].astype("float32")).sum()
                ) * 1e-2
            last.backward()
            results.append([a.asnumpy().astype("float64") for a in (y, p, *(x.grad for x in args))])
        forms_found = {k.form for k in net.fusion_report(*args, training=True).kernels}
        assert {"rows", "fold"} <= forms_found, f"{units}: {forms_found}"
        bound = {"float32": 2e-4, "float16": 1e-2, "bfloat16": 6e-2}[dtype]
        for a, b in zip(*results, strict=True):
            numpy.testing.assert_allclose(b, a, rtol=bound, atol=bound * abs(a).max(), err_msg=f"{units}")
