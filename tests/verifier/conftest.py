from __future__ import annotations

from tests.lake.conftest import road, storage

__all__ = ["road", "storage"]
