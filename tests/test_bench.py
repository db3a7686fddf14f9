"""The plumbing of bench: rows of peers.py are processes, one that fails is told and left behind, and lines say what is
better; launch.py launches through the driver. What the figures are is for a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import idle  # noqa: E402
import launch  # noqa: E402
import peers  # noqa: E402

import minimx as mx  # noqa: E402
from minimx.rtc.compiler import find_compiler  # noqa: E402

DRIVER = """
#include <cstring>
extern "C" {
int launched, waited, refuse;
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* device, int number) { *device = number; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int) { *context = &launched; return 0; }
int cuCtxSetCurrent(void* context) { return context != &launched; }
int cuModuleLoadData(void** module, const void* image) { *module = &waited; return std::memcmp(image, "a\\0b", 3); }
int cuModuleGetFunction(void** f, void* module, const char* name) {
  *f = &refuse;
  return module != &waited || std::strcmp(name, "empty");
}
int cuLaunchKernel(void* f, unsigned x, unsigned y, unsigned z, unsigned a, unsigned b, unsigned c, unsigned shared,
                   void* stream, void** params, void** extra) {
  launched += 1;
  return refuse || f != &refuse || x * y * z * a * b * c != 1 || shared || stream != (void*)5 || params || extra;
}
int cuStreamSynchronize(void* stream) { waited += 1; return stream != (void*)5; }
}
"""


def test_a_row_that_fails_is_left_behind(monkeypatch, capsys, tmp_path):
    rows = {
        "fails": peers.Row("no such type", "bert.py --dtype none --compile"),
        "bert": peers.Row("a small BERT", "bert.py --dtype float32 --compile default"),
    }
    monkeypatch.setattr(peers, "ROWS", rows)
    monkeypatch.setattr(peers.signal, "signal", lambda *_: None)
    path = tmp_path / "runs" / "peers.json"
    peers.run(argparse.Namespace(device="cpu", tiny=True, rounds=1, threads=1, rows="", json=path))
    out, err = capsys.readouterr()
    assert "exit status 2" in err and "invalid choice: 'none'" in err
    assert "| no such type: failed" in out and "| a small BERT | " in out and "\n2 rows in " in out
    found = json.loads(path.read_text())["rows"]
    assert "error" in found["fails"] and set(found["bert"]["rows"][0]["peak"]) >= {"minimx step", "minimx imperative"}


def test_lines_of_a_row():
    seconds = {"minimx step": 1.0, "minimx imperative": 2.0, "PyTorch channels_last": 4.0, "torch.compile default": 1.6}
    peak = {"minimx step": 3_000_000_000, "PyTorch channels_last": 6_000_000_000, "torch.compile default": None}
    training = {"name": "training step", "seconds": seconds, "items": 2560, "peak": peak, "first": dict(seconds)}
    states = [{"name": s, "seconds": {"minimx step": t}} for s, t in (("cold", 0.8), ("warm", 0.4))]
    held = {"name": "idle", "megabytes": {"minimx": 400, "PyTorch": 500, "CUDA context": 300}}
    found = {
        "fp16": {"took": 90.4, "rows": [training]},
        "first": {"took": 20.0, "rows": states},
        "idle": {"took": 9.0, "rows": [held]},
    }
    cells = [
        [cell.strip() for cell in text.strip("|").split("|")][1:] for key in found for text in peers.lines(key, found)
    ]
    assert cells == [
        ["2,560", "", "1,280", "640", "1,600", "", "", "1.60x", "90"],
        ["3.00", "", "", "6.00", "", "", "", "2.00x", ""],
        ["", "", "", "", "1.6", "", "", "", ""],
        ["0.8", "", "", "", "1.6", "", "", "2.00x", ""],
        ["0.4", "", "", "", "", "", "", "", "20"],
        ["", "", "400", "500", "", "", "", "1.25x", "9"],
    ]


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_raw_launches(monkeypatch, tmp_path):
    """The loop goes to the driver, here one that counts, on minimx's stream; what the driver refuses is raised."""
    (tmp_path / "driver.cc").write_text(DRIVER)
    assert not find_compiler().run(tmp_path / "driver.cc", tmp_path / "driver.so")
    library = ctypes.CDLL(str(tmp_path / "driver.so"))
    for module in (idle, launch):
        monkeypatch.setattr(module, "driver", lambda: library)
    monkeypatch.setattr(launch, "cubin", lambda number: b"a\0b")
    monkeypatch.setattr(launch, "cuda", lambda: SimpleNamespace(stream=lambda number, kind: 5))
    monkeypatch.setattr(mx, "gpu", mx.cpu)
    run = launch.launches(0)
    run()
    count = [ctypes.c_int.in_dll(library, name) for name in ("launched", "waited", "refuse")]
    assert (count[0].value, count[1].value) == (launch.CALLS, 1)
    count[2].value = 1
    with pytest.raises(RuntimeError, match="CUresult 1"):
        run()
    assert count[0].value == launch.CALLS + 1
