from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bikeflow.settings.sections import StorageSettings
from tests.support.road import Road, open_road


@pytest.fixture
async def road(tmp_path: Path) -> AsyncIterator[Road]:
    """The processing road over a local lake."""
    async with open_road(StorageSettings(), tmp_path) as opened:
        yield opened
