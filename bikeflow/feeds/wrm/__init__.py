"""Wrocław's city bikes (WRM): one CSV document with all stations and free bikes, from bytes to rows.

`text` decodes documents, `mojibake` repairs them, `document` finds the lines, `columnar` and `exact` type them, `rows`
checks, classifies and flags them, `parsing` puts it all together.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from bikeflow.feeds.base import Ask, ParsedFile, RawContent, RecordCount
from bikeflow.settings.sections import RulesSettings
from bikeflow.settings.systems import System


class WrmFormat:
    """The format `wrm`, in the contract's raw format; see `Format`."""

    raw_stem = "wrm_stations"
    raw_suffix = ".txt"

    def __init__(self, system: System) -> None:
        self._system = system

    async def snapshot(self, url: str, ask: Ask, *, whole: bool = False) -> bytes | None:
        """The one document, its encoding repaired."""
        answer = await ask(url, ("", "") if whole else None)
        if answer.body is None:
            return None
        return (await asyncio.to_thread(self.document, answer.body, answer.charset)).encode()

    def document(self, body: bytes, charset: str | None) -> str:
        """The document's text with its encoding repaired; raises `NotAFeed` for anything else."""
        from bikeflow.feeds.wrm.mojibake import repair  # noqa: PLC0415 - only a fetch needs ftfy, which takes 50 ms
        from bikeflow.feeds.wrm.text import check_document, decode  # noqa: PLC0415

        text = decode(body, charset)
        check_document(text)
        return repair(text)

    def reconsider(self, raw: bytes, charset: str | None) -> bytes:
        """The document, its encoding repaired."""
        return self.document(raw, charset).encode()

    def fingerprint(self, data: bytes) -> str:
        """The SHA-256 of the bytes."""
        return hashlib.sha256(data).hexdigest()

    def as_text(self, body: bytes, charset: str | None) -> str:
        """Any body as text."""
        from bikeflow.feeds.wrm.text import decode  # noqa: PLC0415

        return decode(body, charset)

    def parse(self, files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
        """All lines of the files."""
        from bikeflow.feeds.wrm.parsing import parse_files  # noqa: PLC0415 - numpy, pandas: for who processes

        return parse_files(files, rules)

    def count_records(self, data: bytes) -> RecordCount:
        """Count the data lines; of a file whose header can't be used, its lines but the first."""
        from bikeflow.feeds.wrm.parsing import count_lines  # noqa: PLC0415

        return count_lines(data)
