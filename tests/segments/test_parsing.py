"""A raw file that takes more memory than there is costs that file, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bikeflow.feeds.base import ParsedFile, RawContent
from bikeflow.feeds.wrm import WrmFormat
from bikeflow.settings.sections import RulesSettings, StorageSettings
from tests.support.lines import raw_file, station
from tests.support.road import open_road

DAY = "dt=2025-06-01/wrm_stations_2025-06-01_18-{:02}-00.txt"


async def test_it_gives_a_dead_letter_and_is_tried_again_by_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, parsed = WrmFormat.parse, list[int]()

    def with_little_memory(self: WrmFormat, files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
        parsed.append(len(files))
        if any(b"huge" in file.data for file in files):
            raise MemoryError
        return parse(self, files, rules)

    async with open_road(StorageSettings(), tmp_path) as road:
        keys = [
            await road.put_raw(DAY.format(minute), raw_file(station(1, name=name), station(2)))
            for minute, name in enumerate(["one", "huge", "two"])
        ]
        with monkeypatch.context() as poor:
            poor.setattr(WrmFormat, "parse", with_little_memory)
            (run,) = await road.process()
        assert parsed == [3, 1, 1, 1]
        assert (run.outcome, run.rows, run.rejected) == ("done", 4, 2)
        assert set(await road.row_counts()) == {Path(keys[0]).name, Path(keys[2]).name}
        ((key, letter),) = (await road.objects("dlq/dt=")).items()
        assert Path(key).stem == Path(keys[1]).stem and b'"check": "memory"' in letter
        road.index.files.process_again([keys[1]])
        (run,) = await road.process()
        assert (run.rows, run.rejected) == (2, 0) and not await road.keys("dlq/")
        assert (await road.verify()).findings == []
