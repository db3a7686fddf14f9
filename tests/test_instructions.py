"""The hot path does not grow unseen: instructions by stage and allocations of typical calls against
tests/instructions.json.

Counts do not depend on how busy the machine is, but on compiler, processor and Python. With those of the table a call
may grow by a twentieth, and each of its stages by that and twenty instructions; with others, where other functions are
inlined, a call may grow by a quarter. Only minimx's own instructions are compared: those of Python change a little from
run to run (hashes of addresses). After a change that is worth its price, write the table anew:

    python bench/instructions.py --write tests/instructions.json
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "bench"))

import instructions  # noqa: E402

TABLE = json.loads((HERE / "instructions.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def counts(request):
    """What each case takes. A machine that cannot count says so, however quiet pytest is."""
    try:
        missing = [tool for tool in ("nm", "readelf") if shutil.which(tool) is None]
        if missing or not sys.platform.startswith("linux"):
            raise PermissionError(f"needs Linux and binutils' {' and '.join(missing)}")
        return instructions.measure()
    except PermissionError as why:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\ntests/test_instructions.py guards nothing here: {why}")
        pytest.skip(str(why))


def too_many(count: dict, kept: dict, same: bool) -> list[str]:
    """What is above the table, some growth allowed: of one allocation that is none, of a hundred a few.

    ``same``: counted on the table's machine.
    """
    growth = 1.05 if same else 1.25
    numbers = {"instructions": (sum(count["own"].values()), sum(kept["own"].values()) * growth)}
    numbers["allocations"] = (count["heap"], kept["heap"] * growth)
    for stage, took in count["own"].items() if same else ():
        numbers[f"instructions of the stage '{stage}'"] = (took, kept["own"].get(stage, 0) * growth + 20)
    return [f"{took} {what}, {most:.0f} allowed" for what, (took, most) in numbers.items() if took > most]


@pytest.mark.cpu_only("counts calls on the CPU")
@pytest.mark.parametrize("name", TABLE["cases"])
def test_a_call_takes_no_more_than_the_table_says(counts, name):
    same = instructions.machine() == TABLE["machine"]
    found = too_many(instructions.kept(counts[name]), TABLE["cases"][name], same)
    assert not found, f"{name}: {'; '.join(found)}. See bench/instructions.py --functions {name!r}."


def test_growth_is_seen():
    kept = TABLE["cases"]["a + b"]
    more = dict(kept, own=dict(kept["own"], engine=kept["own"]["engine"] + 50, plan=kept["own"]["plan"] - 50))
    assert not too_many(kept, kept, True)
    assert too_many(more, kept, True) and not too_many(more, kept, False)  # from one stage to another
    assert too_many(dict(kept, own=dict(kept["own"], list=100)), kept, True)
    assert too_many(dict(kept, own=dict(kept["own"], list=600)), kept, False)
    assert too_many(dict(kept, heap=kept["heap"] + 1), kept, True)


def test_a_machine_that_cannot_count_says_so():
    """Even with -q, where pytest gives no reasons."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "no_more_than"]
    done = subprocess.run(command, env=os.environ | {"PATH": "/nowhere"}, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0 and "guards nothing here: needs Linux and binutils' nm and readelf" in done.stdout
