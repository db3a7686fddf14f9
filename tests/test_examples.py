"""The examples run in their tiny setting; the training script resumes bit for bit and says what is wrong: status 2."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as onp
import pytest

import minimx as mx

FOLDER = Path(__file__).parents[1] / "examples"
SMALL = ["--tiny", "--model", "lenet", "--batch-size", "8", "--limit", "24"]


@pytest.mark.parametrize("script", sorted(FOLDER.glob("[01]*.py")), ids=lambda path: path.stem)
def test_small_examples(script, tmp_path):
    command = [sys.executable, "-W", "error", str(script), "--tiny"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def panel(picture, title):
    """(bars, of which fused groups' members) of one timeline of the profiler's picture."""
    part = next(p for p in picture.split('<text class="head"')[1:] if p.split(">", 1)[1].startswith(title))
    bars = [text.split("</title>", 1)[0] for text in part.split("<title>")[1:]]
    return bars, [bar.split("\n")[0].removeprefix("fused ") for bar in bars if bar.startswith("fused ")]


def test_picture_of_the_profiler(tmp_path):
    """Its chain is apart in the first panel, one group in the others: as drawn now, and as the essay shows it."""
    script, shown = FOLDER / "11_profiler.py", FOLDER.parent / "docs" / "images" / "timeline.svg"
    subprocess.run([sys.executable, str(script), "--tiny", "--out", str(tmp_path)], check=True, capture_output=True)
    chain = "multiply, multiply, multiply, multiply, add, multiply, tanh, add, multiply, multiply, add"
    for path in (tmp_path / "timeline.svg", shown):
        bars, groups = panel(path.read_text(), "imperative")
        assert sum(bar.startswith("tanh ") for bar in bars) == 2 and chain not in groups
        for title in ("bulk-fused", "replayed", "hybridized"):
            bars, groups = panel(path.read_text(), title)
            assert groups.count(chain) == 2, (path, title)
            assert not any(bar.startswith("tanh ") for bar in bars)
    assert f"A: {chain}" in shown.read_text()


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Runs the training script here: (status, what it printed)."""
    monkeypatch.syspath_prepend(str(FOLDER))
    script = importlib.import_module("train_resnet50")

    def run(*args, out="run", small=True):
        try:
            status = script.main([*(SMALL if small else []), "--out", str(tmp_path / out), *map(str, args)])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, "".join(capsys.readouterr())

    return run


def test_main_job(train, tmp_path):
    status, said = train("--tiny", small=False)
    assert status == 0, said
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"train_loss", "valid_loss", "train_accuracy", "valid_accuracy", "images_per_second", "lr"} <= set(rows[0])
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_16_bits_and_channels_last(train, kind):
    settings = ["--model", "resnet18_v1b", "--dtype", "float16", "--layout", "NHWC", "--device", kind]
    status, said = train(*settings, "--tf32", "--epochs", 1)
    assert status == 0, said
    assert f"float16 NHWC on {kind}(0), hybridized" in said
    status, said = train(*settings[:-2], "--resume", "--layout", "NCHW")
    assert status == 2 and "layout NHWC" in said


@pytest.mark.parametrize(
    ("model", "mode", "stop"),
    [
        pytest.param("resnet18_v1b", "--hybridize", 5, id="hybridized, inside epoch 2"),
        pytest.param("lenet", "--hybridize", 3, id="hybridized, at the end of epoch 1"),
        pytest.param("lenet", "--no-hybridize", 2, id="imperative, inside epoch 1"),
        pytest.param("resnet18_v1b", "--device=gpu", 5, id="on a GPU, inside epoch 2", marks=pytest.mark.gpu),
    ],
)
def test_resume_is_bit_for_bit(train, tmp_path, model, mode, stop):
    settings = ["--model", model, mode]
    assert train(*settings, out="whole")[0] == 0
    status, said = train(*settings, "--stop-after", stop, out="parts")
    assert status == 0 and f"stopped after step {stop}" in said
    assert train(*settings, "--resume", out="parts")[0] == 0
    whole, parts = (mx.serialization.load(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    differing = [name for name in whole if not onp.array_equal(whole[name].asnumpy(), parts[name].asnumpy())]
    assert set(whole) == set(parts) and differing == []
    rows = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    losses = [[json.loads(line)["train_loss"] for line in lines] for lines in rows]
    assert losses[0] == losses[1]


def test_what_a_checkpoint_is_resumed_with(train, tmp_path):
    assert train("--stop-after", 1)[0] == 0
    path = tmp_path / "run" / "last.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    status, said = train("--resume")
    assert status == 2 and "cut short" in said and "Traceback" not in said
    path.write_bytes(whole)
    status, said = train("--resume", "--image-size", 40)
    assert status == 2 and "image size 32" in said
    weights = tmp_path / "weights.safetensors"
    mx.serialization.save(weights, {"w": mx.np.ones(3)})
    status, said = train("--resume", weights)
    assert status == 2 and "a checkpoint of a training run" in said
    status, said = train("--resume", tmp_path / "nothing")
    assert status == 2 and "nothing there" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "/no/such/folder"], "no such folder"),
        (["--classes", 9], "9 classes in the data, got 10"),
        (["--batch-size", 0], "at least 1, got '0'"),
        (["--image-size", "big"], "at least 32, got 'big'"),
        (["--lr", "nan"], "above 0, got 'nan'"),
        (["--label-smoothing", 1], "below 1"),
        (["--device", "tpu"], "cpu, gpu or gpu:1"),
        (["--device", "gpu:99"], "--device: expected a GPU that is here"),
        (["--layout", "NHWC"], "NCHW for lenet"),
        (["--model", "resnet51"], "resnet50_v1b"),
        (["--lr", 1e30], "Lower --lr"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_wrong_arguments(train, args, message):
    status, said = train(*args)
    assert status == 2
    assert message in said and "Traceback" not in said


def make_images(folder, classes, count):
    """JPEG files of noise whose brightness tells the class."""
    image = pytest.importorskip("PIL.Image")
    rng = onp.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256 - 60 * label, (40, 48, 3)).astype("uint8")
            image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.jpg")


def test_folder_with_broken_images(train, tmp_path):
    make_images(tmp_path / "data", classes=3, count=10)
    for name in ("class0/1.jpg", "class2/3.jpg"):
        path = tmp_path / "data" / name
        path.write_bytes(path.read_bytes()[:200])
    status, said = train("--data", tmp_path / "data", "--classes", 3, "--epochs", 1, "--workers", 1)
    assert status == 0, said
    assert "2 broken images skipped" in said


def test_folders_that_are_refused(train, tmp_path):
    make_images(tmp_path / "data" / "train", classes=3, count=5)
    make_images(tmp_path / "data" / "val", classes=2, count=5)
    status, said = train("--data", tmp_path / "data")
    assert status == 2 and "only one of them: class2" in said
    (tmp_path / "data" / "val" / "class2").mkdir()
    status, said = train("--data", tmp_path / "data")
    assert status == 2 and "at least one image" in said
    status, said = train("--data", tmp_path / "data" / "train", "--classes", 1000)
    assert status == 2 and "1000 classes in the data, got 3" in said
    for path in (tmp_path / "data" / "train").glob("*/*.jpg"):
        path.write_bytes(b"no image")
    status, said = train("--data", tmp_path / "data" / "train", "--epochs", 1)
    assert status == 2 and "images that can be read" in said


def test_without_matplotlib(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    status, said = train("--epochs", 1)
    assert status == 0 and "minimx[plot]" in said
