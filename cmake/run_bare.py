"""Runs a module of minimx before minimx itself can be imported: `python cmake/run_bare.py minimx.ops.emit --list`.

`minimx/__init__` needs the very extension that is being built, so a bare package stands in for it here. The modules
that the build runs keep to the standard library for this reason: the operator table (minimx.ops) and minimx.libraries.
"""

import runpy
import sys
import types
from pathlib import Path

package = types.ModuleType("minimx")
package.__path__ = [str(Path(__file__).resolve().parents[1] / "minimx")]
sys.modules["minimx"] = package
sys.dont_write_bytecode = True
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
