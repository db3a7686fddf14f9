"""The model zoo: shapes, sizes, versions, layouts, names, and torchvision's names (its values: `make test-peers`)."""

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, errors, models
from minimx.gluon import model_zoo, nn


def size(net):
    return sum(onp.prod(p.shape) for p in net.collect_params().values() if p.grad_req != "null")


# Trainable parameters of torchvision's models of the same depth; v1 has as many, as only a stride moves.
SIZES = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


@pytest.mark.parametrize("depth", SIZES)
@pytest.mark.parametrize("version", ["1", "1b"])
def test_sizes(depth, version):
    assert size(models.get_resnet(version, depth, in_channels=3)) == SIZES[depth]


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet18_v2", "resnet50_v1", "resnet50_v1b", "resnet50_v2"])
def test_forward_and_backward(name):
    mx.random.seed(0)
    net = models.get_model(name, classes=7)
    net.initialize(mx.init.Xavier())
    x = mx.np.random.normal(size=(2, 3, 32, 32))
    with autograd.record():
        y = net(x)
        loss = (y * y).sum()
    loss.backward()
    assert y.shape == (2, 7) and onp.isfinite(y.asnumpy()).all()
    for key, parameter in net.collect_params().items():
        if parameter.grad_req != "null":
            assert abs(parameter.grad().asnumpy()).sum() > 0, key


def test_stride_is_where_the_version_says():
    def strides(name):
        block = models.get_model(name).features[5][0]
        convs = [b for _, b in block.named_blocks() if isinstance(b, nn.Conv2D)]
        return [c._kwargs["stride"][0] for c in convs[:3]]

    assert strides("resnet50_v1") == [2, 1, 1] and strides("resnet50_v1b") == [1, 2, 1]


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet18_v2"])
def test_layouts_agree(name):
    first, second = (models.get_model(name, classes=5, layout=layout) for layout in ("NCHW", "NHWC"))
    mx.random.seed(0)
    first.initialize(mx.init.Xavier())
    x = mx.np.random.normal(size=(2, 3, 32, 32))
    want = first(x)
    moved = {
        key: p.data().transpose((0, 2, 3, 1)) if p.layout == "OIHW" else p.data()
        for key, p in first.collect_params().items()
    }
    second.load_dict(moved)
    got = second(x.transpose((0, 2, 3, 1)))
    onp.testing.assert_allclose(got.asnumpy(), want.asnumpy(), rtol=1e-3, atol=1e-4)


def test_options():
    net = models.resnet18_v1(thumbnail=True, classes=10, last_gamma=True)
    net.initialize()
    assert net(mx.np.ones((1, 3, 16, 16))).shape == (1, 10)
    assert (net.features[1][0].body[4].gamma.data().asnumpy() == 0).all()
    net = models.get_model("LeNet", classes=4)
    net.initialize()
    assert net(mx.np.ones((2, 1, 28, 28))).shape == (2, 4)


def test_names():
    assert model_zoo.vision.resnet34_v2 is models.resnet34_v2 and model_zoo.vision.get_model is models.get_model
    assert "resnet152_v1b" in models.list_models() and len(models.list_models()) == 18
    with pytest.raises(AttributeError, match="model_zoo.vision.alexnext"):
        model_zoo.vision.alexnext  # noqa: B018
    with pytest.raises(errors.NameNotFound, match="resnet18_v1"):
        models.get_model("resnet19")
    with pytest.raises(errors.NotSupported, match="load_torchvision"):
        models.resnet18_v1(pretrained=True)
    with pytest.raises(errors.ArgumentError, match="18, 34"):
        models.get_resnet(1, 20)


def state_dict(net):
    """Random weights under torchvision's names, made from the structure that torchvision documents."""
    rng = onp.random.default_rng(0)
    depth = [len(net.features[i]) for i in range(4, 8)]
    convs = sum(isinstance(b, nn.Conv2D) for _, b in net.features[4][1].named_blocks())
    names = {"conv1.weight": "features.0.weight", "fc.weight": "output.weight", "fc.bias": "output.bias"}
    norms = {"bn1": "features.1"}
    for stage, blocks in enumerate(depth, 1):
        for i in range(blocks):
            ours, theirs = f"features.{stage + 3}.{i}", f"layer{stage}.{i}"
            for j in range(convs):
                names[f"{theirs}.conv{j + 1}.weight"] = f"{ours}.body.{3 * j}.weight"
                norms[f"{theirs}.bn{j + 1}"] = f"{ours}.body.{3 * j + 1}"
            if net.features[stage + 3][i].downsample is not None:
                names[f"{theirs}.downsample.0.weight"] = f"{ours}.downsample.0.weight"
                norms[f"{theirs}.downsample.1"] = f"{ours}.downsample.1"
    for theirs, ours in norms.items():
        pairs = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
        names.update({f"{theirs}.{a}": f"{ours}.{b}" for a, b in pairs.items()})
    shapes = {k: p.shape for k, p in net.collect_params().items()}
    values = {theirs: rng.random(shapes[ours], "float32") for theirs, ours in names.items()}
    return names, {**values, "bn1.num_batches_tracked": onp.array(3)}


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet50_v1b"])
def test_torchvision_names(name):
    net = models.get_model(name, in_channels=3, classes=6)
    names, values = state_dict(net)
    assert len(names) == len(net.collect_params())
    models.load_torchvision(net, values)
    params = net.collect_params()
    assert all((params[ours].data().asnumpy() == values[theirs]).all() for theirs, ours in names.items())


def test_torchvision_into_channels_last_and_files(tmp_path):
    _, values = state_dict(models.resnet18_v1b(in_channels=3))
    onp.savez(tmp_path / "r.npz", **values)
    net = models.resnet18_v1b(layout="NHWC")
    models.load_torchvision(net, tmp_path / "r.npz")
    assert (net.features[0].weight.data().asnumpy() == values["conv1.weight"].transpose(0, 2, 3, 1)).all()


def test_torchvision_errors():
    _, values = state_dict(models.resnet18_v1b(in_channels=3))
    with pytest.raises(errors.NotSupported, match="3x3"):
        models.load_torchvision(models.resnet50_v1(), values)
    with pytest.raises(errors.NotSupported, match="ResNetV1"):
        models.load_torchvision(models.resnet18_v2(), values)
    with pytest.raises(errors.NameNotFound, match="'classifier.weight'"):
        models.load_torchvision(models.resnet18_v1(), {"classifier.weight": onp.ones(1)})
    with pytest.raises(errors.NameNotFound, match="a value for each parameter"):
        models.load_torchvision(models.resnet34_v1(), values)
    with pytest.raises(errors.ShapeError, match="output.weight"):
        models.load_torchvision(models.resnet18_v1(classes=10), values)
