"""What a process does not need it does not import: a start takes time, and what rests takes memory."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from bikeflow.runtime.memory import freeze_gc


def imported_by(*arguments: str) -> set[str]:
    """The modules that the command line has imported by its end."""
    program = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from bikeflow.cli.app import main; main()"
    )
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return set(ended.stdout.split())


def test_a_backfill_of_a_local_lake_imports_neither_clients_nor_servers(tmp_path: Path) -> None:
    imported = imported_by("backfill", "--data-dir", str(tmp_path))
    assert "bikeflow.service.pipeline" in imported
    assert not imported & {"aiobotocore", "aiohttp", "apprise", "botocore", "distributed", "ftfy", "psycopg"}


def test_what_is_imported_for_good_is_not_searched_for_garbage() -> None:
    before = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), freeze_gc():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
