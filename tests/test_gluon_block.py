"""Block and HybridBlock: registration, names, hooks, sharing, files, deferred shapes, summary, forms of forward."""

import copy
import gc
import pickle
import weakref

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, errors, gluon
from minimx.gluon import Block, HybridBlock, Parameter, nn


class Net(HybridBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = nn.Dense(4, activation="relu")
        self.out = nn.Dense(2)

    def forward(self, x):
        return self.out(self.hidden(x))


def made(in_units=3):
    mx.random.seed(0)
    net = Net()
    net.initialize(mx.init.Normal(1.0))
    net(mx.np.ones((1, in_units)))
    return net


X = onp.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def test_registration_and_names():
    net = nn.Sequential()
    net.add(Net(), nn.Dense(1))
    assert list(net.collect_params()) == [
        "0.hidden.weight",
        "0.hidden.bias",
        "0.out.weight",
        "0.out.bias",
        "1.weight",
        "1.bias",
    ]
    assert [name for name, _ in net.named_blocks()] == ["", "0", "0.hidden", "0.hidden.act", "0.out", "1"]
    order = []
    net.apply(lambda b: order.append(type(b).__name__))
    assert order[-1] == "Sequential" and order[0] == "Activation"
    net[0].hidden = nn.Dense(7)
    assert net.collect_params()["0.hidden.weight"].shape == (7, -1)
    with pytest.raises(errors.ArgumentTypeError, match="Net.hidden: expected a Dense, got int"):
        net[0].hidden = 3
    net[0].note = 3
    net[0].note = "text"


def test_blocks_in_a_list_are_noticed():
    class Bad(Block):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Dense(1)]

    with pytest.warns(UserWarning, match="Bad.layers holds blocks"):
        assert len(Bad().collect_params()) == 0


def test_repr():
    assert repr(Net()) == "Net(\n  (hidden): Dense(? -> 4, relu)\n  (out): Dense(? -> 2, linear)\n)"
    net = nn.Sequential()
    net.add(Net(), nn.Dropout(0.5))
    assert "  (0): Net(\n    (hidden)" in repr(net) and "(1): Dropout(p = 0.5, axes=())" in repr(net)


def test_hooks():
    net, seen = made(), []
    pre = net.register_forward_pre_hook(lambda block, args: seen.append(("pre", block, args[0].shape)))
    with net.register_forward_hook(lambda block, args, out: seen.append(("post", block, out.shape))):
        net(mx.np.array(X))
    pre.detach()
    pre.detach()
    net(mx.np.array(X))
    assert seen == [("pre", net, (5, 3)), ("post", net, (5, 2))]
    names = []
    with net.register_op_hook(lambda name, kind, array: names.append((name, kind, array.shape)), monitor_all=True):
        net(mx.np.array(X))
    assert ("out_output", "Dense", (5, 2)) in names and ("out_input", "Dense", (5, 4)) in names


def test_deferred_shapes_in_an_own_layer():
    class Scale(HybridBlock):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.scale = Parameter("scale", shape=(0,), init="ones", allow_deferred_init=True)

        def infer_shape(self, x):
            self.scale.shape = (x.shape[-1],)

        def forward(self, x):
            self.calls += 1
            return x * self.scale.beside(x)

    layer = Scale()
    layer.initialize()
    assert layer(mx.np.array(X)).shape == (5, 3) and layer.scale.shape == (3,) and layer.calls == 1

    class Forgot(HybridBlock):
        def __init__(self):
            super().__init__()
            self.w = Parameter("w", shape=(0,), allow_deferred_init=True)

        def forward(self, x):
            return x

    layer = Forgot()
    layer.initialize()
    with pytest.raises(errors.ShapeError, match=r"Forgot: .*w \(-1,\).*infer_shape"):
        layer(mx.np.array(X))


def test_not_initialized():
    with pytest.raises(gluon.NotInitialized, match=r"Parameter 'bias': expected values.*initialize"):
        Net()(mx.np.array(X))
    assert issubclass(gluon.DeferredInitializationError, RuntimeError)


def test_hybrid_forward_of_gluon_1():
    class Old(HybridBlock):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            with self.name_scope():
                self.w = self.params.get("w", shape=(2, 3), init="ones")

        def hybrid_forward(self, F, x, w):  # noqa: N803
            return F.relu(F.FullyConnected(x, w, num_hidden=2, no_bias=True)) + F.np.ones((2,)) * F.npx.sigmoid(
                x[:, :2]
            )

    net = Old()
    net.initialize()
    want = onp.maximum(X @ onp.ones((3, 2)), 0) + 1 / (1 + onp.exp(-X[:, :2]))
    onp.testing.assert_allclose(net(mx.np.array(X)).asnumpy(), want, rtol=1e-5, atol=1e-6)


def test_no_forward():
    for kind in (Block, HybridBlock):
        with pytest.raises(NotImplementedError, match="forward method"):
            kind()(mx.np.ones((1,)))


def test_a_plain_child_of_a_hybrid_parent():
    class Parent(HybridBlock):
        def __init__(self):
            super().__init__()
            self.inner = nn.Lambda("tanh")

    with pytest.raises(errors.ArgumentTypeError, match=r"Parent.inner: .*HybridBlock.*Lambda.*Derive"):
        Parent()
    with pytest.raises(errors.ArgumentTypeError, match=r"HybridSequential.0"):
        nn.HybridSequential().add(nn.Sequential())


def test_sharing():
    a, b = made(), Net()
    assert b.share_parameters(a.collect_params()) is b and b.hidden.weight is a.hidden.weight
    assert (b(mx.np.array(X)).asnumpy() == a(mx.np.array(X)).asnumpy()).all()
    c = nn.Dense(4, in_units=3)
    c.weight = a.hidden.weight
    assert c.collect_params()["weight"] is a.hidden.weight
    d = nn.Dense(4, params=a.hidden.params)
    assert d.bias is a.hidden.bias
    with pytest.warns(UserWarning, match="no place for nowhere"):
        Net().share_parameters({"nowhere": a.out.bias})
    tied = nn.Sequential()
    tied.add(nn.Dense(3, in_units=3), nn.Dense(3, in_units=3))
    tied[1].share_parameters(tied[0].collect_params())
    assert len(list(tied.collect_params().unique())) == 2


@pytest.mark.cpu_only("is about devices of the CPU")
def test_files(tmp_path):
    net, path = made(), tmp_path / "net.params"
    net.save_parameters(path)
    other = Net()
    other.load_parameters(path, ctx=mx.cpu())
    assert (other(mx.np.array(X)).asnumpy() == net(mx.np.array(X)).asnumpy()).all()
    assert other.hidden.weight.shape == (4, 3)
    other.hidden.weight.set_data(mx.np.zeros((4, 3)))
    with autograd.record():
        y = other(mx.np.array(X)).sum()
    y.backward()
    other.load_parameters(path)
    assert (other.hidden.weight.data().asnumpy() == net.hidden.weight.data().asnumpy()).all()


def test_files_of_another_model(tmp_path):
    net, path = made(), tmp_path / "net.params"
    net.save_parameters(path)
    wide = nn.Sequential()
    wide.add(nn.Dense(4, in_units=3))
    with pytest.raises(errors.NameNotFound) as caught:
        wide.load_parameters(path)
    assert "0.weight (4, 3)" in str(caught.value) and "hidden.weight (4, 3)" in str(caught.value)
    assert "allow_missing" in str(caught.value)
    with pytest.raises(gluon.NotInitialized):
        wide[0].weight.data()
    small = Net()
    small.hidden = nn.Dense(4, in_units=5)
    with pytest.raises(errors.ShapeError, match=r"hidden.weight: model \(4, 5\), file \(4, 3\)"):
        small.load_parameters(path)
    part = nn.HybridSequential()
    part.hidden = nn.Dense(4)
    with pytest.raises(errors.NameNotFound, match=r"only names of the model.*out.weight \(2, 4\).*ignore_extra"):
        part.load_parameters(path)
    part.load_parameters(path, ignore_extra=True)
    more = Net()
    more.extra = nn.Dense(1, in_units=1)
    with pytest.raises(errors.NameNotFound, match=r"extra.weight \(1, 1\)"):
        more.load_parameters(path)
    more.load_parameters(path, allow_missing=True)
    half = Net()
    half.cast("float16")
    with pytest.raises(errors.DTypeError, match="hidden.weight: model float16, file float32"):
        half.load_parameters(path)
    half.load_parameters(path, cast_dtype=True)
    assert half.hidden.weight.dtype == "float16"
    half.load_parameters(path, cast_dtype=True, dtype_source="saved")
    assert half.hidden.weight.dtype == "float32" and str(half.hidden.weight.data().dtype) == "float32"
    with pytest.raises(errors.ArgumentError, match="dtype_source"):
        half.load_parameters(path, dtype_source="any")
    with pytest.raises(FileNotFoundError):
        half.load_parameters(tmp_path / "none")


def test_deduplicated_files(tmp_path):
    tied = nn.Sequential()
    tied.add(nn.Dense(3, in_units=3), nn.Dense(3, in_units=3))
    tied[1].share_parameters(tied[0].collect_params())
    tied.initialize()
    tied.save_parameters(tmp_path / "p", deduplicate=True)
    assert sorted(mx.npx.load(tmp_path / "p")) == ["0.bias", "0.weight"]
    tied.load_parameters(tmp_path / "p")


def test_load_dict():
    net, other = made(), Net()
    values = {("arg:" if "weight" in n else "") + n: p.data() for n, p in net.collect_params().items()}
    other.load_dict(values)
    assert (other(mx.np.array(X)).asnumpy() == net(mx.np.array(X)).asnumpy()).all()


@pytest.mark.cpu_only("is about devices of the CPU")
def test_whole_model_settings():
    net = made()
    net.setattr("lr_mult", 0.5)
    assert net.out.bias.lr_mult == 0.5
    net.cast("float64")
    assert str(net(mx.np.array(X, dtype="float64")).dtype) == "float64"
    net.reset_ctx(mx.cpu())
    with autograd.record():
        y = net(mx.np.array(X, dtype="float64")).sum()
    y.backward()
    assert abs(net.out.bias.grad().asnumpy()).sum() > 0
    net.zero_grad()
    assert abs(net.out.bias.grad().asnumpy()).sum() == 0


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_copies(clone):
    net = nn.HybridSequential()
    net.add(made(), nn.BatchNorm())
    net[1].initialize()
    net(mx.np.array(X))
    inner = net[0]
    twin = clone(inner)
    assert not twin._parents and (twin(mx.np.array(X)).asnumpy() == inner(mx.np.array(X)).asnumpy()).all()
    twin.out.bias.set_data(mx.np.ones((2,)))
    assert (inner.out.bias.data().asnumpy() == 0).all()


def test_parents_are_not_kept_alive():
    child = nn.Dense(1, in_units=1)
    parent = nn.Sequential()
    parent.add(child)
    reference = weakref.ref(parent)
    del parent
    gc.collect()
    assert reference() is None


def test_summary(capsys):
    net = made()
    net.out.bias.grad_req = "null"
    net.summary(mx.np.array(X))
    text = capsys.readouterr().out
    assert "hidden (Dense)" in text and "(5, 4)" in text and "16" in text and "Parameters in total: 26" in text
    assert "not trainable: 2" in text and not net._hooks and not net.hidden._hooks


def test_options_of_hybridize():
    net = made()
    net.hybridize(static_alloc=True, static_shape=True, inline_limit=2)
    assert net._active and net.hidden._active
    net.hybridize(False)
    assert not net._active and not net.hidden._active
    with pytest.raises(errors.NotSupported, match="static_alloc=True"):
        net.hybridize(static_shape=True)
    with pytest.raises(errors.NotSupported, match="backend"):
        net.optimize_for(mx.np.array(X), backend="TensorRT")


def test_sequential():
    net = nn.Sequential()
    net.add(nn.Dense(1), nn.Dense(2), nn.Dense(3))
    assert len(net) == 3 and net[-1] is net[2] and [type(b) for b in net] == [nn.Dense] * 3
    assert isinstance(net[1:], nn.Sequential) and net[1:][0] is net[1]
    with pytest.raises(IndexError, match="within 3 blocks"):
        net[3]
    with pytest.raises(errors.ArgumentTypeError, match="nn.Lambda"):
        net.add(onp.tanh)

    class Two(Block):
        def forward(self, x, y):
            return x + y, x - y

    pair = nn.Sequential()
    pair.add(Two(), Two())
    a, b = pair(mx.np.ones((1,)), mx.np.zeros((1,)))
    assert a.item() == 2 and b.item() == 0


def test_errors_name_the_block_that_they_come_from():
    class Inner(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.wrong = nn.Dense(3, in_units=5)

        def forward(self, x):
            return self.wrong(x)

    net = nn.HybridSequential()
    net.add(nn.Dense(4, in_units=3), Inner())
    net.initialize()
    for _ in range(2):  # imperative, then as a graph
        with pytest.raises(errors.ShapeError) as caught:
            net(mx.np.ones((2, 3)))
        assert pickle.loads(pickle.dumps(caught.value)).__notes__ == [
            "In block '1.wrong', Dense(5 -> 3, linear), of HybridSequential."
        ]
        net.hybridize()
    with pytest.raises(errors.ShapeError) as caught:
        net[1].wrong(mx.np.ones((2, 3)))
    assert not hasattr(caught.value, "__notes__")  # the traceback says it


def test_errors_name_blocks_that_are_no_children():
    hidden = [nn.Dense(3, in_units=5)]

    class Outer(gluon.Block):
        def forward(self, x):
            return hidden[0](x)

    hidden[0].initialize()
    with pytest.raises(errors.ShapeError) as caught:
        Outer()(mx.np.ones((2, 3)))
    assert caught.value.__notes__ == ["In block '(Dense)', Dense(5 -> 3, linear), of Outer."]
