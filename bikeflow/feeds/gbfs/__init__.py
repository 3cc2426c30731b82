"""GBFS (General Bikeshare Feed Specification) of any version: README.md tells how it is read.

`documents` reads documents, `container` packs them into one raw object, `records` maps records to rows with the help
of `values`, `parsing` puts it all together.
"""

from __future__ import annotations

from collections.abc import Sequence

from bikeflow.feeds.base import Ask, ParsedFile, RawContent, RecordCount
from bikeflow.settings.sections import RulesSettings
from bikeflow.settings.systems import System


class GbfsFormat:
    """The format `gbfs`; see `Format`."""

    raw_suffix = ".zip"

    def __init__(self, system: System) -> None:
        self.raw_stem = system.id

    async def snapshot(self, url: str, ask: Ask) -> bytes | None:
        """The documents that `url`, an auto-discovery document, lists."""
        raise NotImplementedError

    def as_text(self, body: bytes, charset: str | None) -> str:
        """A document as UTF-8, which JSON is in."""
        return body.decode(errors="replace")

    def parse(self, files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
        """All records of the files."""
        from bikeflow.feeds.gbfs.parsing import parse_files  # noqa: PLC0415 - pyarrow: for who processes

        return parse_files(files, rules)

    def count_records(self, data: bytes) -> RecordCount:
        """Count the elements of the stations' and vehicles' arrays, and documents that can't be read."""
        from bikeflow.feeds.gbfs.parsing import count_records  # noqa: PLC0415

        return count_records(data)
