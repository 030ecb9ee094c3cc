"""What only the compiler needed is given back, and comes again where it is called for."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = r"""
import re
from edge_monitor.onboard.compiler_memory import give_back

def resident():
    return int(re.search(r"RssFile:\s+(\d+)", open("/proc/self/status").read()).group(1))

import llvmlite.binding as llvm
llvm.parse_assembly("")
before = resident()
given = give_back()
after = resident()
llvm.parse_assembly("define i64 @f() { ret i64 1 }").verify()
print(given, before, after)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: a list of the process's mappings")
def test_the_compilers_code_is_given_back_and_works_on() -> None:
    """Megabytes of its code leave the process's memory, and the compiler still compiles afterwards."""
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    given, before, after = map(int, told.stdout.split())
    assert given > 10 << 20 and before - after > 10_000, told.stdout
