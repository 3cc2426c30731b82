"""GBFS recordings: the small ones of the project, and real ones where the machine has them."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from bikeflow.core.model import Partition, RawFile
from bikeflow.feeds.base import RawContent
from bikeflow.feeds.gbfs.container import Document, pack
from bikeflow.feeds.gbfs.documents import NAMES

SMALL = Path(__file__).parents[1] / "data/gbfs"
HARBOUR, HILL, OLD = (SMALL / name for name in ("harbour", "hill", "old"))
VARIABLE = "TEST_GBFS_RECORDINGS"
"""Names a folder `<set>/<version>/*.json` with real recordings, which are not part of the project."""
REAL = Path(os.environ.get(VARIABLE, Path(__file__).parents[3] / "shared/data/gbfs"))
AT = dt.datetime(2025, 5, 31, 13, 50, 5, tzinfo=dt.UTC)


def recordings() -> list[Path]:
    """Folders of GBFS documents that were served."""
    return [HARBOUR, HILL, OLD, *sorted(path for path in REAL.glob("[!_]*/*") if path.is_dir())]


def history(name: str) -> list[tuple[str, bytes]]:
    """The polls of a recorded history: file names and documents; none where there is no such archive."""
    archives = sorted((REAL.parent / "history" / name).glob("*.tar.zst"))
    found = []
    for path in archives:
        with pa.input_stream(path, compression="zstd") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            found += [(item.name, file.read()) for item in archive if (file := archive.extractfile(item)) is not None]
    return found


def malformed() -> list[Path]:
    """Broken documents: some made up, and some that were served."""
    return sorted(SMALL.glob("_malformed/*.json")) + sorted(REAL.glob("_malformed*/*/*.json"))


def documents(folder: Path) -> dict[str, bytes]:
    """The documents of a recording that a snapshot holds, by name."""
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.json")) if path.stem in NAMES}


def packed(bodies: Mapping[str, bytes]) -> bytes:
    """The raw object of these documents."""
    stamp = AT.isoformat().replace("+00:00", "Z")
    return pack(
        Document(name, f"https://feed.example/{name}.json", body, fetched_at=stamp, checked_at=stamp, status=200)
        for name, body in bodies.items()
    )


def raw_content(data: bytes, at: dt.datetime = AT, system_id: str = "harbour") -> RawContent:
    """A raw object as it lies in the lake."""
    key = f"bike-data/{system_id}/raw/dt={at:%Y-%m-%d}/{system_id}_{at:%Y-%m-%d_%H-%M-%S}.zip"
    raw = RawFile(key, Partition(system_id, at.date()), at, len(data), "etag", at)
    return RawContent(raw, hashlib.md5(data, usedforsecurity=False).hexdigest(), data)
