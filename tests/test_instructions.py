"""The hot path does not grow unseen: instructions and allocations of typical calls against tests/instructions.json.

Counts do not depend on how busy the machine is, but on compiler, processor and Python: with those of the table they may
grow by a twentieth, with others by a quarter. After a change that is worth its price, write the table anew:

    python bench/instructions.py --write tests/instructions.json
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "bench"))

import instructions  # noqa: E402

TABLE = json.loads((HERE / "instructions.json").read_text(encoding="utf-8"))
# Not the trainer's step, which is Python's, and long; nor a graph, whose kernels a compiler in the background makes.
GUARDED = [name for name in TABLE["cases"] if "trainer" not in name and "hybridized" not in name]


@pytest.fixture(scope="module")
def counts():
    missing = [tool for tool in ("nm", "readelf") if shutil.which(tool) is None]
    if missing or not sys.platform.startswith("linux"):
        pytest.skip(f"needs Linux and binutils' {' and '.join(missing)}")
    try:
        return instructions.measure(GUARDED)
    except PermissionError as refused:
        pytest.skip(f"this machine does not let a process be stepped through: {refused}")


def too_many(count: dict, kept: dict, growth: float) -> list[str]:
    """What is above the table, some growth allowed: of one allocation that is none, of a hundred a few."""
    found = []
    if count["own"] > kept["own"] * growth:
        found.append(f"{count['own']} instructions, {kept['own']} in the table")
    if count["heap"] > kept["heap"] * growth:
        found.append(f"{count['heap']} allocations, {kept['heap']} in the table")
    return found


@pytest.mark.cpu_only("counts calls on the CPU")
@pytest.mark.parametrize("name", GUARDED)
def test_a_call_takes_no_more_than_the_table_says(counts, name):
    growth = 1.05 if instructions.machine() == TABLE["machine"] else 1.25
    found = too_many(instructions.kept(counts[name]), TABLE["cases"][name], growth)
    assert not found, f"{name}: {'; '.join(found)}. See bench/instructions.py --functions {name!r}."


def test_a_hundred_instructions_more_are_seen():
    kept = TABLE["cases"]["a + b"]
    assert not too_many(kept, kept, 1.05)
    assert too_many(dict(kept, own=kept["own"] + 100), kept, 1.05)
    assert too_many(dict(kept, heap=kept["heap"] + 1), kept, 1.05)
