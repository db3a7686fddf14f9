"""Runs the Python of docs/*.md and README.md: every block, in the order of the page, in one namespace a page.

A block with ``>>>`` is checked as a session, against the output it shows. A line ``<!-- not run: reason -->`` before a
block leaves it out, and ``<!-- gpu -->`` leaves it to the tests that have a GPU, which run the page with it. Also: what
the pages point to exists, files and symbols alike.
"""

from __future__ import annotations

import doctest
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
BLOCK = re.compile(r"(<!-- (?:not run:[^\n]*|gpu) -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FOR_GPU = "<!-- gpu -->\n"


def blocks(page: Path, gpu: bool) -> list[tuple[int, str]]:
    """(line, text) of the blocks that run."""
    text = page.read_text()
    marks = (None, FOR_GPU) if gpu else (None,)
    return [(text.count("\n", 0, m.start(2)) + 1, m.group(2)) for m in BLOCK.finditer(text) if m.group(1) in marks]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_blocks_run(page, tmp_path, monkeypatch):
    """They run, and sessions print what they show."""
    run_blocks(page, tmp_path, monkeypatch, gpu=False)


@pytest.mark.gpu
@pytest.mark.parametrize("page", [p for p in PAGES if FOR_GPU in p.read_text()], ids=lambda p: p.name)
def test_blocks_run_on_a_gpu(page, tmp_path, monkeypatch):
    """So do the pages with blocks that need a GPU."""
    run_blocks(page, tmp_path, monkeypatch, gpu=True)


def run_blocks(page, tmp_path, monkeypatch, gpu):
    """Runs a page."""
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__doc__"}
    for line, text in blocks(page, gpu):
        if ">>>" in text:
            session = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), line - 1)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            problems: list[str] = []
            runner.run(session, out=problems.append, clear_globs=False)
            assert not runner.failures if hasattr(runner, "failures") else not problems, "".join(problems)
            names.update(session.globs)
        else:
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pointers_lead_somewhere(page):
    """Paths in backquotes and links exist; symbols like ``Op.plan`` in the essays occur in the code."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
    for path in re.findall(r"`((?:minimx|csrc|tests|docs|models|examples|bench)/[\w./*-]+)`", text):
        assert list(ROOT.glob(path.rstrip("/"))), f"{page.name} names {path}, which is not there"
    # `[A-Z]\w*\.\w+` and `name()` are symbols; words of other kinds may be anything
    symbols = set(re.findall(r"`([A-Za-z_]\w+(?:(?:\.|::)\w+)+)(?:\(\))?`", text)) | set(
        re.findall(r"`(\w+)\(\)`", text)
    )
    code = _code()
    for symbol in symbols:
        last = re.split(r"\.|::", symbol)[-1]
        if last not in ("py", "cc", "h", "md", "gelu"):
            assert re.search(rf"\b{re.escape(last)}\b", code), (
                f"{page.name} names {symbol}, which is nowhere in the code"
            )


_text: list[str] = []


def _code() -> str:
    if not _text:
        files = [
            p
            for d in ("minimx", "csrc", "tests", "models", "examples", "bench")
            for p in (ROOT / d).rglob("*")
            if p.suffix in (".py", ".h", ".cc", ".txt") and "__pycache__" not in p.parts
        ]
        _text.append("\n".join(p.read_text(errors="ignore") for p in files))
    return _text[0]


def test_show_prints_a_row():
    """``python -m minimx.ops show gelu``, as the pages say it."""
    import sys

    out = subprocess.run([sys.executable, "-m", "minimx.ops", "show", "gelu"], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    for part in ("gelu", "erf", "Hendrycks", "float", "__global__"):
        assert part in out.stdout
