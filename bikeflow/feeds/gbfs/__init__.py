"""GBFS (General Bikeshare Feed Specification) of any version: README.md tells how it is read.

`polling` fetches documents, `documents` reads them, `container` packs them into one raw object, `records` maps records
to rows with the help of `values`, `parsing` puts it all together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bikeflow.core.errors import NotAFeed
from bikeflow.feeds.base import Ask, ParsedFile, RawContent, RecordCount
from bikeflow.feeds.gbfs.container import Lasting, NotASnapshot, fingerprint, unpack
from bikeflow.feeds.gbfs.documents import NoArray, NotJson
from bikeflow.feeds.gbfs.polling import Poller, check_status
from bikeflow.settings.sections import RulesSettings
from bikeflow.settings.systems import System

PATIENCE_SECONDS = 30.0
"""A poll waits so long at most for the `ttl` of a status to be over."""


class GbfsFormat:
    """The format `gbfs`; see `Format`."""

    raw_suffix = ".zip"

    def __init__(self, system: System) -> None:
        self.raw_stem = system.id
        self._lasting: Lasting = {}
        feed = system.feed
        patience_seconds = min(feed.interval_seconds / 2, PATIENCE_SECONDS)
        self._poller = Poller(patience_seconds, feed.max_ttl_seconds, max_records=feed.max_records)

    async def snapshot(self, url: str, ask: Ask, *, whole: bool = False) -> bytes | None:
        """The documents that `url`, an auto-discovery document, lists."""
        return await self._poller.poll(url, ask, whole=whole)

    def reconsider(self, raw: bytes, charset: str | None) -> bytes:
        """The archive as it is, where the status in it can be read."""
        try:
            check_status(unpack(raw))
        except (NotASnapshot, NotJson, NoArray) as error:
            raise NotAFeed(f"it holds no usable status: {error}", body=raw) from error
        return raw

    def fingerprint(self, data: bytes) -> str:
        """The same as long as documents differ in `last_updated` and `ttl` only."""
        try:
            return fingerprint(data, self._lasting)
        except NotASnapshot:
            return hashlib.sha256(data).hexdigest()

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
