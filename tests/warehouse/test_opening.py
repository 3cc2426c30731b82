"""Opening DuckDB without a file descriptor to do it with: an error, where DuckDB itself aborts the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, resource, sys
from pathlib import Path
from bikeflow.warehouse.opening import connect
connect().close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for _ in range(int(sys.argv[2])):
    os.close(held.pop())
try:
    connect(sys.argv[1]).close()
except OSError as error:
    print(error.strerror)
else:
    print("opened")
"""


@pytest.mark.parametrize(("free", "told"), [(0, "Too many open files"), (1, "Too many open files"), (20, "opened")])
def test_it_is_an_error_that_can_be_waited_out(tmp_path: Path, free: int, told: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "a.duckdb"), str(free)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, told), result.stderr
