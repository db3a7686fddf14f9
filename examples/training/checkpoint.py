"""Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file.

Arrays are ``net.<parameter>`` and ``trainer.<state>``; all else (random state, place in the data, what the epoch has
summed up so far, facts of the trainer) is JSON in the file's metadata. No pickle: a file may come from a stranger.
Writing is atomic, so a crash leaves the former checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import minimx as mx
from minimx.errors import FileFormatError, MXError
from minimx.gluon.trainer import TrainerState

_KEY = "minimx.examples.training"
_FACTS = {"run", "trainer", "random", "data", "progress"}


def save(path: Path, net: Any, trainer: mx.gluon.Trainer, run: dict, data: dict, progress: dict) -> None:
    """Write a checkpoint.

    run: what must be equal when it is resumed (model, sizes, ...). data: ``state_dict`` of the loader. progress: step,
    epoch, and sums of the epoch under way.
    """
    state = trainer.get_states()
    arrays = {f"net.{name}": parameter.data() for name, parameter in net.collect_params().items()}
    arrays |= {f"trainer.{name}": array for name, array in state.arrays.items()}
    facts = {"run": run, "trainer": state.facts, "random": mx.random.get_state(), "data": data, "progress": progress}
    path.parent.mkdir(parents=True, exist_ok=True)
    mx.serialization.save(path, arrays, {_KEY: json.dumps(facts)})


def load(path: Path, net: Any, trainer: mx.gluon.Trainer, run: dict, loader: mx.gluon.data.DataLoader) -> dict:
    """Set ``net``, ``trainer``, ``loader`` and the random state to what ``path`` holds; gives its ``progress``.

    Raises FileMissing when it is not there; FileFormatError when it is cut short, damaged, something else, or of a run
    with other settings.
    """
    arrays, facts = _read(path)
    _check_run(path, facts["run"], run)
    try:
        net.load_dict(_under("net.", arrays))
        trainer.set_states(TrainerState(_under("trainer.", arrays), facts["trainer"]))
        loader.load_state_dict(facts["data"])
        mx.random.set_state(tuple(facts["random"]))
    except (MXError, TypeError, ValueError, KeyError) as error:
        raise FileFormatError(f"resume {path}", "a checkpoint of this model", error, "Start without --resume") from None
    return facts["progress"]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays, metadata = mx.serialization.read(path)
    try:
        facts = json.loads(metadata[_KEY])
        if not _FACTS <= set(facts):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        way_out = "Give the file that train_resnet50.py wrote"
        raise FileFormatError(f"resume {path}", "a checkpoint of a training run", "another file", way_out) from None
    return arrays, facts


def _check_run(path: Path, saved: dict, run: dict) -> None:
    differing = [name for name in run if saved.get(name) != run[name]]
    if differing:
        rule = ", ".join(f"{name} {saved.get(name)}" for name in differing)
        got = ", ".join(f"{name} {run[name]}" for name in differing)
        raise FileFormatError(f"resume {path}", f"the settings it was written with ({rule})", got, "Use the same ones")


def _under(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
