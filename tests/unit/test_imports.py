"""What a process does not need it does not import: a start takes time, and what rests takes memory."""

from __future__ import annotations

import datetime as dt
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from bikeflow.core.layout import Layout
from bikeflow.runtime.memory import lasting
from bikeflow.settings.sections import StorageSettings
from bikeflow.simulator import City


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


def test_validation_does_not_import_the_library_of_the_tests(tmp_path: Path) -> None:
    at = dt.datetime(2025, 6, 1, 12, tzinfo=dt.UTC)
    raw = tmp_path / "lake" / Layout(StorageSettings().prefix).raw_key(at)
    raw.parent.mkdir(parents=True)
    raw.write_text(City(7, stations=3, free_bikes=2).snapshot(at))
    imported = imported_by("backfill", "--data-dir", str(tmp_path))
    assert "pandera.backends.pandas.container" in imported
    assert "hypothesis" not in imported


def test_what_is_imported_for_good_is_not_searched_for_garbage() -> None:
    before = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), lasting():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
