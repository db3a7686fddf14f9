"""The reference pages in docs/reference are those of the table; their links lead somewhere; the commands work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from minimx.ops import describe, reference
from minimx.ops.__main__ import main, write
from minimx.ops.table import OPS

ROOT = Path(__file__).parent.parent
PAGES = reference.files()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name):
    """Fails after a change of a row until the pages are written again."""
    written = ROOT / "docs/reference" / name
    assert written.exists() and written.read_text() == PAGES[name], (
        f"docs/reference/{name} is not what the table gives. Run `python -m minimx.ops reference docs/reference`"
    )


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_headings(name):
    """Every link of a page has its heading, on that page or another."""
    for target, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", PAGES[name]):
        headings = re.findall(r"^#+ (.+)$", PAGES[target or name], re.MULTILINE)
        assert anchor in [reference.anchor(h) for h in headings], f"{name}: {target}#{anchor}"


def test_every_public_row_is_told_once():
    """One full entry a row, and a line wherever it has a name."""
    entries = {page: re.findall(r"^### (\S+)$", text, re.MULTILINE) for page, text in PAGES.items()}
    for op in describe.public():
        page, name = reference.home_page(op)
        assert entries[f"{page}.md"].count(name) == 1, (op.name, page)


def test_an_entry_says_what_the_row_says():
    """Signature, text, types, gradient with its saved set, reference, other names, example."""
    text = "\n".join(reference.full(OPS["tanh"]))
    for part in ("`np.tanh(x, *, out=None)`", "Hyperbolic tangent", "integers are computed in float32", "keeps y",
                 "`numpy.tanh`", "`nd.tanh`", "`d/dx = (g * (1 - (y * y)))`", ">>> np.tanh"):  # fmt: skip
        assert part in text, text


def test_commands_write_files(tmp_path, capsys):
    """They write what differs, say so, and leave the rest alone."""
    for command in ("stubs", "reference"):
        assert main([command, str(tmp_path / command)]) == 0
        assert "written: " in capsys.readouterr().out
        assert main([command, str(tmp_path / command)]) == 0
        assert "all up to date" in capsys.readouterr().out
    assert (tmp_path / "stubs/np/__init__.pyi").exists() and (tmp_path / "reference/np.md").exists()
    assert write({"a": "b"}, tmp_path).endswith("written: a")


def test_wrong_commands_say_what_was_expected(capsys):
    """Exit status 2 and one sentence."""
    assert main(["show", "gelo"]) == 2
    assert re.search(r"minimx.ops show: expected a row of the table, got gelo\. See .*gelu", capsys.readouterr().err)
    assert main(["stub"]) == 2
    assert "minimx.ops: expected nothing, 'show NAME'" in capsys.readouterr().err


def test_table_needs_nothing_but_the_standard_library():
    """The build runs minimx.ops before there is NumPy or an extension: importing it loads neither."""
    code = "import sys, runpy; sys.argv = ['run_bare', 'minimx.ops', 'show', 'tanh']; " \
           "runpy.run_path('cmake/run_bare.py'); assert 'numpy' not in sys.modules"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "Hyperbolic tangent" in done.stdout, done.stderr
    assert "AssertionError" not in done.stderr
