"""Runs minimx.ops.emit before minimx can be imported: `python cmake/emit.py OUTDIR` or `--list`.

`minimx/__init__` needs the very extension that is being built, so a bare package stands in for it here; the operator
table and all it imports (minimx.errors, minimx.config, minimx.ops) keep to the standard library for this reason.
"""

import runpy
import sys
import types
from pathlib import Path

package = types.ModuleType("minimx")
package.__path__ = [str(Path(__file__).resolve().parents[1] / "minimx")]
sys.modules["minimx"] = package
sys.dont_write_bytecode = True
runpy.run_module("minimx.ops.emit", run_name="__main__", alter_sys=True)
