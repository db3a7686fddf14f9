"""Mixed precision: which types operators run in, the loss scale on the device, converted nets, and that nets learn."""

from __future__ import annotations

import numpy as onp
import pytest

import minimx as mx
from minimx import amp, autograd, errors, gluon
from minimx.gluon import nn
from minimx.ndarray import _core
from minimx.ops.table import OPS, f

LOW = ("float16", "bfloat16")
LOOSE = {"float16": 2e-2, "bfloat16": 1e-1}  # of a number near 1 after a few layers


@pytest.fixture(autouse=True)
def _off():
    """No test leaves mixed precision on."""
    yield
    assert _core.swap_low_type(None) == -2, "a test left autocast on"
    _core.swap_low_type(-2)
    amp.disable()


def mlp():
    net = nn.HybridSequential()
    net.add(nn.Dense(16, activation="tanh", in_units=8), nn.LayerNorm(in_channels=16), nn.Dense(4, in_units=16))
    return net


def conv_net():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, padding=1, in_channels=1), nn.BatchNorm(in_channels=8), nn.Activation("relu"))
    net.add(nn.MaxPool2D(2), nn.Conv2D(8, 3, in_channels=8), nn.Activation("relu"), nn.GlobalAvgPool2D())
    net.add(nn.Dense(4, in_units=8))
    return net


NETS = {"mlp": (mlp, (12, 8)), "conv": (conv_net, (6, 1, 8, 8))}


def made(name, hybrid=False):
    """A net of NETS with seeded parameters, and data and labels for it."""
    build, shape = NETS[name]
    mx.random.seed(3)
    net = build()
    net.initialize(mx.init.Xavier())
    if hybrid:
        net.hybridize()
    rng = onp.random.default_rng(0)
    x, y = rng.normal(size=shape).astype("float32"), rng.integers(0, 4, shape[0])
    return net, mx.np.array(x), mx.np.array(y)


def gradients(name, dtype, hybrid=False):
    """(output, loss, gradients by name) of one pass in mixed precision."""
    net, x, y = made(name, hybrid)
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    for _ in range(2):  # the first run of a hybridized net settles shapes
        with amp.autocast(dtype), autograd.record():
            out = net(x)
            loss = loss_of(out, y).mean()
        loss.backward()
    return out, loss, {k: p.grad() for k, p in net.collect_params().items() if p.grad_req != "null"}


# ---- types


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("name", NETS)
def test_parameters_stay_float32(name, dtype):
    """The net runs in 16 bits, the loss in float32, and gradients are float32 and near those of float32."""
    out, loss, grads = gradients(name, dtype)
    assert str(out.dtype) == dtype and loss.dtype == "float32"
    _, plain, want = gradients(name, None)
    assert abs(loss.item() - plain.item()) < LOOSE[dtype]
    assert all(g.dtype == "float32" for g in grads.values())
    for k, g in grads.items():
        scale = max(1e-2, abs(want[k].asnumpy()).max())
        onp.testing.assert_allclose(g.asnumpy() / scale, want[k].asnumpy() / scale, atol=3 * LOOSE[dtype], err_msg=k)


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("name", NETS)
def test_hybridized_is_imperative(name, dtype):
    a, loss, grads = gradients(name, dtype)
    b, hybrid_loss, hybrid = gradients(name, dtype, hybrid=True)
    assert a.dtype == b.dtype and loss.dtype == hybrid_loss.dtype
    onp.testing.assert_allclose(hybrid_loss.item(), loss.item(), rtol=LOOSE[dtype] / 4)
    for k, g in grads.items():
        scale = max(1e-2, abs(g.asnumpy()).max())
        onp.testing.assert_allclose(hybrid[k].asnumpy() / scale, g.asnumpy() / scale, atol=LOOSE[dtype], err_msg=k)


def test_a_hybridized_net_follows_the_mode():
    net, x, _ = made("mlp", hybrid=True)
    assert net(x).dtype == "float32"
    with amp.autocast("float16"):
        assert net(x).dtype == "float16"
        with amp.autocast("bfloat16"):
            assert str(net(x).dtype) == "bfloat16"
        with amp.autocast(None):
            assert net(x).dtype == "float32"
    assert net(x).dtype == "float32"
    amp.init("float16")
    assert net(x).dtype == "float16"
    amp.init("float16", fp32_ops=["fully_connected"])
    assert net(x).dtype == "float32", "the graph of other lists is another"


def test_rows_run_where_they_say():
    x = mx.np.ones((2, 2), dtype="float16")
    wide = mx.np.ones((2, 2))
    with amp.autocast("float16"):
        assert mx.np.matmul(wide, wide).dtype == "float16" and mx.np.dot(wide, wide).dtype == "float16"
        assert mx.npx.softmax(x).dtype == "float32" and x.sum().dtype == "float32" and mx.np.exp(x).dtype == "float32"
        assert mx.npx.relu(x).dtype == "float16" and (x + x).dtype == "float16" and (x + wide).dtype == "float32"
        assert mx.np.concatenate([x, wide]).dtype == "float32"
        double = mx.np.ones((2, 2), dtype="float64")
        assert mx.np.matmul(double, wide).dtype == "float64", "what is float64 is meant to be"
        assert mx.np.matmul(mx.np.ones((2, 2), dtype="int64"), wide).dtype == "float16"
        out = mx.np.zeros((2, 2))
        mx.np.exp(x, out=out)
        onp.testing.assert_allclose(out.asnumpy(), onp.e, rtol=1e-6)


def test_backward_keeps_its_types():
    """The walk back is not cast again: gradients of 16-bit operators are 16-bit until they reach the cast."""
    w = mx.np.ones((4, 4))
    w.attach_grad()
    with amp.autocast("float16"):
        with autograd.record():
            y = mx.np.matmul(mx.np.ones((2, 4)), w)
        g = autograd.grad(y, [w], head_grads=mx.np.ones((2, 4), dtype="float16"), create_graph=False)[0]
    assert g.dtype == "float32" and (g.asnumpy() == 2).all()


@pytest.mark.parametrize("hybrid", [False, True])
def test_layer_norm_has_parameters_in_float32(hybrid):
    """Their gradients are sums over many rows, which under a loss scale leave float16's range."""
    net = nn.LayerNorm(in_channels=4)
    net.initialize()
    if hybrid:
        net.hybridize()
    x = mx.np.array(onp.random.default_rng(0).normal(size=(64, 4)), dtype="float16")
    with autograd.record():
        y = net(x)
    y.backward(mx.np.full((64, 4), 60000.0, dtype="float16"))
    beta = net.beta.grad()
    assert y.dtype == "float16" and beta.dtype == "float32" and beta[0].item() == pytest.approx(64 * 60000, rel=1e-3)


@pytest.mark.parametrize("hybrid", [False, True])
def test_second_order(hybrid):
    net, x, _ = made("mlp", hybrid)
    x.attach_grad()
    found = {}
    for dtype in (None, "float16"):
        for _ in range(2):
            with amp.autocast(dtype), autograd.record():
                g = autograd.grad(net(x).sum(), [x], create_graph=True)[0]
                penalty = (g * g).sum()
            penalty.backward()
        assert g.dtype == penalty.dtype == x.grad.dtype == "float32"
        found[dtype] = x.grad.asnumpy()
    onp.testing.assert_allclose(found["float16"], found[None], atol=0.02 * abs(found[None]).max())


def test_batch_norm_has_parameters_in_float32():
    x = mx.np.array(onp.random.default_rng(0).normal(size=(4, 3, 5, 5)), dtype="float16")
    gamma, beta, mean, var = mx.np.ones(3) * 1.001, mx.np.zeros(3), mx.np.zeros(3), mx.np.ones(3)
    gamma.attach_grad()
    with amp.autocast("float16"), autograd.record():
        y = mx.npx.batch_norm(x, gamma, beta, mean, var, fix_gamma=False)
    y.backward()
    assert y.dtype == "float16" and gamma.grad.dtype == "float32" and mean.dtype == "float32"


# ---- lists


def test_lists_come_from_the_table():
    low, wide, either = amp.list_lp16_ops(), amp.list_fp32_ops(), amp.list_lp16_fp32_ops()
    assert {"convolution", "fully_connected", "matmul", "convolution_data_grad"} <= set(low)
    assert {"softmax_of", "log_softmax_of", "cross_entropy", "exp", "log", "power", "sum", "mean"} <= set(wide)
    assert {"add", "where", "batch_norm_train", "relu", "concatenate"} <= set(either)
    kernels = {n for n, op in OPS.items() if op.kind != "composite"}
    assert sorted([*low, *wide, *either]) == sorted(kernels)
    assert {"add", "where", "concatenate"} <= set(
        amp.list_widest_type_cast()
    ) and "relu" not in amp.list_widest_type_cast()
    assert amp.list_lp16_use_fp32_params()["batch_norm_train"] == ["gamma", "beta"]
    assert amp.list_conditional_fp32_ops() == amp.list_loss_output_functions() == []


def test_lists_of_the_user():
    amp.init("bfloat16", target_precision_ops=["exp"], fp32_ops=["matmul"])
    x = mx.np.ones((2, 2))
    assert str(mx.np.exp(x).dtype) == "bfloat16" and mx.np.matmul(x, x).dtype == "float32"
    assert "exp" in amp.list_lp16_ops() and "matmul" in amp.list_fp32_ops()
    amp.disable()
    assert "matmul" in amp.list_lp16_ops() and mx.np.matmul(x, x).dtype == "float32"


def test_what_init_refuses():
    with pytest.raises(errors.DTypeError, match="float16"):
        amp.init("float32")
    with pytest.raises(errors.NameNotFound, match="softmax"):
        amp.init(fp32_ops=["softmax"])
    with pytest.raises(errors.ArgumentError, match="both"):
        amp.init(fp32_ops=["exp"], target_precision_ops=["exp"])
    with pytest.raises(errors.NotSupported, match="conditional"):
        amp.init(conditional_fp32_ops=[("activation", "act_type", ["softrelu"])])
    assert _core.low_type() is None


# ---- the loss scale


def trained(optimizer="sgd", scaler=None, steps=4, bad=(), plainly=False, whole=False, **settings):
    """(weights, trainer) after some steps of an MLP in float16, the losses of steps ``bad`` being infinite."""
    net, x, y = made("mlp")
    trainer = gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.1, **settings})
    if plainly:
        trainer.optimizer.apply = trainer.optimizer.apply_plainly
    amp.init_trainer(trainer, scaler)
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    step = gluon.TrainStep(net, loss_of, trainer)
    with amp.autocast("float16"):
        for i in range(steps):
            if whole:
                step(x, y)
                continue
            with autograd.record():
                loss = loss_of(net(x), y)
                loss = loss * float("inf") if i in bad else loss
                with amp.scale_loss(loss, trainer) as scaled:
                    autograd.backward(scaled)
            trainer.step(x.shape[0])
    return [p.data().asnumpy() for p in net.collect_params().values()], trainer


OPTIMIZERS = {"sgd": {"momentum": 0.9}, "nag": {}, "adam": {}, "adamw": {"wd": 0.01}, "nadam": {}, "lamb": {},
              "lars": {"momentum": 0.9, "eta": 0.1}}  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_scale_changes_no_update(optimizer):
    """Gradients are unscaled before all else: clipping, weight decay, norms."""
    settings = {**OPTIMIZERS[optimizer], "clip_gradient": 0.05}
    one, _ = trained(optimizer, amp.LossScaler(1.0, dynamic=False), **settings)
    big, _ = trained(optimizer, amp.LossScaler(256.0), **settings)
    fixed, _ = trained(optimizer, amp.LossScaler(256.0, dynamic=False), **settings)
    for a, b, c in zip(one, big, fixed, strict=True):
        onp.testing.assert_allclose(b, a, rtol=5e-3, atol=5e-3)
        onp.testing.assert_allclose(c, a, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if o != "nadam"])
def test_an_overflow_skips_the_step(optimizer):
    """Weights, states and the count of updates stay: afterwards all is as if the step had not been asked for."""
    settings = OPTIMIZERS[optimizer]
    want, _ = trained(optimizer, amp.LossScaler(256.0), steps=3, **settings)
    got, trainer = trained(optimizer, amp.LossScaler(512.0), steps=4, bad=(1,), **settings)
    for a, b in zip(want, got, strict=True):
        onp.testing.assert_allclose(b, a, rtol=2e-3, atol=1e-3)
    assert trainer._amp_loss_scaler.loss_scale == 256 and trainer._amp_loss_scaler.skipped == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lamb"])
def test_the_plain_twin(optimizer):
    settings = {"bad": (0, 2), "steps": 5, **OPTIMIZERS[optimizer]}
    want, plain = trained(optimizer, amp.LossScaler(512.0), plainly=True, **settings)
    got, fused = trained(optimizer, amp.LossScaler(512.0), **settings)
    for a, b in zip(want, got, strict=True):
        onp.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)
    assert plain._amp_loss_scaler.loss_scale == fused._amp_loss_scaler.loss_scale == 128


def test_the_scale_doubles_and_halves():
    scaler = amp.LossScaler(64.0, scale_window=2, max_scale=256.0)
    scales = []
    for steps in range(1, 9):
        _, trainer = trained("sgd", amp.LossScaler(64.0, scale_window=2, max_scale=256.0), steps=steps, bad=(4,))
        scales.append(trainer._amp_loss_scaler.loss_scale)
    assert scales == [64, 128, 128, 256, 128, 128, 256, 256]
    assert scaler.loss_scale == 64 and scaler.skipped == 0


def test_the_scale_ends_at_one():
    _, trainer = trained("sgd", amp.LossScaler(2.0), steps=4, bad=(0, 1, 2, 3))
    assert trainer._amp_loss_scaler.loss_scale == 1 and trainer._amp_loss_scaler.skipped == 4


def test_whole_steps_scale_too():
    want, _ = trained("adam", amp.LossScaler(2.0**18), steps=6)
    got, trainer = trained("adam", amp.LossScaler(2.0**18), steps=6, whole=True)
    for a, b in zip(want, got, strict=True):
        onp.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-3)
    assert 0 < trainer._amp_loss_scaler.skipped < 6, "the first steps overflow"


def test_gradients_of_a_whole_step_stay_in_16_bits():
    """Only the update wants them in float32: what looks at all of them looks at what they are cast from."""
    net, x, y = made("conv")
    trainer = gluon.Trainer(net.collect_params(), "sgd")
    amp.init_trainer(trainer, amp.LossScaler(64.0))
    step = gluon.TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), trainer)
    with amp.autocast("float16"):
        step(x, y), step(x, y)
    (program,) = step._steps.values()
    (look,) = (n for n in program.graph.nodes if n.op == "multi_all_finite")
    weights = [v.dtype for v in look.values if len(v.shape) > 1]
    assert weights == ["float16"] * 3


class Loss(gluon.HybridBlock):
    """A dense layer and cross-entropy."""

    def __init__(self):
        super().__init__()
        self.net = nn.Dense(10, in_units=8)
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def forward(self, x, y):
        return self.loss(self.net(x), y)


@pytest.mark.parametrize("dtype", LOW)
def test_cross_entropy_reads_16_bits(dtype):
    """No logits in float32 when hybridized, and on the CPU the same bits as with them."""
    net, found = Loss(), []
    net.initialize()
    x, y = mx.np.random.normal(size=(6, 8)), mx.np.array([0, 9, 3, 3, 1, 2])
    for hybrid in (False, True):
        net.hybridize(hybrid)
        with amp.autocast(dtype), autograd.record():
            loss = net(x, y)
        loss.backward()
        found.append([loss.asnumpy(), net.net.weight.grad().asnumpy(), net.net.bias.grad().asnumpy()])
    near = 0 if loss.device.device_type == "cpu" else 0.02  # a GPU's libraries may round otherwise
    for a, b in zip(*found, strict=True):
        onp.testing.assert_allclose(a, b, rtol=near, atol=near)
    assert loss.dtype == onp.float32
    with amp.autocast(dtype):
        report = net.fusion_report(x, y, training=True)
    types = {k.members[0]: k.output for k in report.kernels}
    assert types["cross_entropy"] == "float32[6]" and types["cross_entropy_backward"] == f"{dtype}[6,10]"
    logits = [v.dtype for h in report.halves for n in h.graph.nodes for v in n.outputs if v.shape == (6, 10)]
    assert logits and set(logits) == {dtype}


def test_wide_cross_entropy_twice():
    """Its gradients are of the types of what they are of, to second order."""
    x, y = mx.np.random.normal(size=(3, 5)).astype("float16"), mx.np.array([0, 4, 2])
    v = mx.np.random.normal(size=(3, 5))
    found = []
    for wide in (True, False):
        a = x.copy() if wide else x.astype("float32")
        a.attach_grad()
        with autograd.record():
            loss = f.cross_entropy(a, y, wide=wide)[0]
            (g,) = autograd.grad(loss, [a], create_graph=True)
            along = (g.astype("float32") * v).sum()
        along.backward()
        assert (loss.dtype, g.dtype, a.grad.dtype) == (onp.float32, a.dtype, a.dtype)
        found.append(a.grad.astype("float32").asnumpy())
    onp.testing.assert_allclose(*found, atol=2e-3)


def test_nobody_waits(monkeypatch):
    """A step reads no element on the host."""
    net, x, y = made("mlp")
    trainer = gluon.Trainer(net.collect_params(), "adam")
    amp.init_trainer(trainer, amp.LossScaler(64.0))

    def refuse(*_):
        raise AssertionError("something waited for the device")

    for name in ("asnumpy", "item", "wait_to_read", "__bool__", "__float__"):
        monkeypatch.setattr(mx.np.ndarray, name, refuse)
    for _ in range(3):
        with amp.autocast("float16"), autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), y)
            with amp.scale_loss(loss, trainer) as scaled:
                autograd.backward(scaled)
        trainer.step(12)


def test_devices_agree():
    """Each device has a scale of its own, and as all see the same gradients, all skip the same steps."""
    p = gluon.Parameter("w", shape=(2,), init="ones")
    p.initialize(device=[mx.cpu(0), mx.cpu(1)])
    trainer = gluon.Trainer([p], "sgd", {"learning_rate": 0.5})
    amp.init_trainer(trainer, amp.LossScaler(64.0))
    for factor in (1.0, float("inf"), 1.0):
        with autograd.record():
            losses = [(w * factor).sum() for w in p.list_data()]
            with amp.scale_loss(losses, trainer) as scaled:
                autograd.backward(scaled)
        trainer.step(4)
    assert [w.tolist() for w in p.list_data()] == [[0.5, 0.5]] * 2
    states = trainer._amp_loss_scaler._states
    assert len(states) == 2 and all(s.scale.item() == 32 and s.skipped.item() == 1 for s in states.values())


def test_unscale_to_look_at_gradients():
    net, x, y = made("mlp")
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    amp.init_trainer(trainer, amp.LossScaler(128.0))
    parameter = net[0].weight
    with amp.autocast("float16"), autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), y).sum()
        with amp.scale_loss([loss], trainer) as (scaled,):
            assert scaled.dtype == "float32" and scaled.item() == 128 * loss.item()
            autograd.backward(scaled)
    large = parameter.grad().asnumpy()
    amp.unscale(trainer)
    grad, before = parameter.grad().asnumpy(), parameter.data().asnumpy()
    onp.testing.assert_allclose(grad, large / 128, rtol=1e-6)
    with pytest.raises(errors.ArgumentError, match="Call it once"):
        amp.unscale(trainer)
    trainer.step(12)
    onp.testing.assert_allclose(parameter.data().asnumpy(), before - 0.1 * grad / 12, rtol=1e-5, atol=1e-7)


def test_bfloat16_needs_no_scale():
    net, x, _ = made("mlp")
    trainer = gluon.Trainer(net.collect_params(), "sgd")
    with amp.autocast("bfloat16"):
        amp.init_trainer(trainer)
    assert trainer._amp_loss_scaler.loss_scale == 1 and not trainer._amp_loss_scaler.dynamic
    loss = x.sum()
    with amp.scale_loss(loss, trainer) as scaled:
        assert scaled is loss


def test_states_remember_the_scale(tmp_path):
    _, trainer = trained("adam", amp.LossScaler(512.0, scale_window=100), steps=3, bad=(1,))
    trainer.save_states(tmp_path / "t.states")
    _, other = trained("adam", amp.LossScaler(64.0), steps=1)
    other.load_states(tmp_path / "t.states")
    scaler = other._amp_loss_scaler
    assert scaler.loss_scale == 256 and scaler.skipped == 1 and scaler.get_state()["good"].item() == 1


def test_has_overflow():
    net, x, _ = made("mlp")
    with autograd.record():
        loss = net(x).sum()
    loss.backward()
    scaler = amp.LossScaler()
    assert not scaler.has_overflow(net.collect_params())
    net[0].bias.grad()[3] = float("nan")
    assert scaler.has_overflow(net.collect_params()) and scaler.has_overflow(list(net.collect_params().values()))


def test_what_the_scaler_refuses():
    net, x, _ = made("mlp")
    trainer = gluon.Trainer(net.collect_params(), "sgd")
    with pytest.raises(errors.ArgumentError, match="init_trainer"), amp.scale_loss(x.sum(), trainer):
        pass
    with pytest.raises(errors.ArgumentError, match="init_scale"):
        amp.LossScaler(0.5)
    with pytest.raises(errors.ArgumentTypeError, match="Trainer"):
        amp.init_trainer(net)


# ---- converted nets


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("offline", [False, True])
def test_a_converted_net(dtype, offline):
    net, x, _ = made("conv")
    low = amp.convert_hybrid_block(net, x, dtype, cast_params_offline=offline)
    want = net(x).asnumpy()
    for _ in range(2):
        out = low(x)
        assert str(out.dtype) == dtype and net(x).dtype == "float32"
        onp.testing.assert_allclose(out.asnumpy().astype("float32"), want, atol=LOOSE[dtype])
        low.hybridize()
    types = {k: str(p.dtype) for k, p in low.collect_params().items()}
    assert all(p.dtype == "float32" for p in net.collect_params().values())
    weights = {t for k, t in types.items() if k.endswith(("weight", "bias"))}
    assert weights == {dtype if offline else "float32"}
    assert {t for k, t in types.items() if "gamma" in k or "running" in k} == {"float32"}


def test_what_convert_refuses():
    net, x, _ = made("mlp")
    with pytest.raises(errors.ArgumentError, match="data_example"):
        amp.convert_hybrid_block(net, cast_params_offline=True)
    with pytest.raises(errors.ArgumentTypeError, match="HybridBlock"):
        amp.convert_hybrid_block(x)
    with pytest.raises(errors.NotSupported, match="amp.init"):
        amp.convert_hybrid_block(net, fp32_ops=["exp"])


# ---- learning


def accuracy(dtype, optimizer, settings):
    """Of a small net that learns which of four noisy patterns an image shows."""
    rng = onp.random.default_rng(1)
    patterns = rng.normal(size=(4, 1, 8, 8))
    labels = rng.integers(0, 4, 256)
    images = (patterns[labels] + 0.7 * rng.normal(size=(256, 1, 8, 8))).astype("float32")
    net, _, _ = made("conv", hybrid=True)
    trainer = gluon.Trainer(net.collect_params(), optimizer, settings)
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    x, y = mx.np.array(images), mx.np.array(labels)
    with amp.autocast(dtype):
        amp.init_trainer(trainer, amp.LossScaler(256.0 if dtype == "float16" else 1.0, dynamic=dtype == "float16"))
        for step in range(40):
            at = slice(step % 4 * 64, step % 4 * 64 + 64)
            with autograd.record():
                loss = loss_of(net(x[at]), y[at])
                with amp.scale_loss(loss, trainer) as scaled:
                    autograd.backward(scaled)
            trainer.step(64)
        out = net(x)
    return (out.asnumpy().astype("float32").argmax(1) == labels).mean(), loss.mean().item()


@pytest.mark.parametrize("optimizer, settings", [("sgd", {"learning_rate": 0.1, "momentum": 0.9}),
                                                 ("adam", {"learning_rate": 0.02})], ids=["sgd", "adam"])  # fmt: skip
def test_learns_as_in_float32(optimizer, settings):
    right, loss = accuracy(None, optimizer, settings)
    assert right > 0.9
    for dtype in LOW:
        low_right, low_loss = accuracy(dtype, optimizer, settings)
        assert low_right > right - 0.05 and abs(low_loss - loss) < 0.15, dtype
