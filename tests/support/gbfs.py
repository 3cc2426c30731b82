"""GBFS recordings: the small ones of the project, and real ones where they are at hand."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

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


def malformed() -> list[Path]:
    """Broken documents that were served."""
    return sorted(REAL.glob("_malformed*/*/*.json"))


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
