"""The conservation law, proved from the lake itself: data lines = rows + rejected lines, for every raw file.

It trusts neither the ledger nor the footers: it counts the lines of raw, the rows of both layers and the dead letters,
parses raw files again and compares their rows, and compares the lake's with those of the published database.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import secrets
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow.core.errors import NotFound
from bikeflow.core.layout import LAYERS, Layer, Layout
from bikeflow.core.model import ObjectInfo, RawFile, Segment, SegmentObject
from bikeflow.feeds.wrm.document import Unreadable, count_records, read_document, records
from bikeflow.feeds.wrm.parsing import RawText, parse_files
from bikeflow.feeds.wrm.text import as_utf8
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.segments.dead_letters import read_letters, rejected_lines
from bikeflow.segments.footer import read_footer
from bikeflow.settings.sections import RulesSettings
from bikeflow.store.base import Store
from bikeflow.verifier.fingerprints import NOTHING, SCHEMAS, Fingerprint, Fingerprints, merged, of_table
from bikeflow.verifier.published import PublishedDatabase
from bikeflow.verifier.report import NO_DAY, Days, Finding, Progress, Report, partition_of

CONCURRENT_REQUESTS = 8
SETTLE_SECONDS = 2.0
"""What is being written just now looks wrong for a moment: a finding counts if it is still there after this time."""


def _silent(_done: int, _total: int) -> None:
    """Nobody wants to know."""


class Verifier:
    """Audits the lake, one layer after the other, and the published database where one is given.

    `sample` raw files of each day are parsed again, others each time; None: all.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        rules: RulesSettings | None = None,
        *,
        sample: int | None = 0,
        database: PublishedDatabase | None = None,
    ) -> None:
        self._store = store
        self._layout = layout
        self._rules = rules or RulesSettings()
        self._sample = sample
        self._database = database
        self._seed = secrets.token_bytes(8)

    async def verify(self, wanted: Days, on_progress: Progress = _silent) -> Report:
        """Audit all partitions that are `wanted`; what is found is looked at twice, as a service may be at work."""
        report = await self._audit(wanted, on_progress)
        if report.findings:
            seen = {(finding.kind, finding.key) for finding in report.findings}
            await asyncio.sleep(SETTLE_SECONDS)
            # What is found only now has had no time to settle either: the next audit will find it, if it stays.
            report.findings = [item for item in await self.again(report.findings) if (item.kind, item.key) in seen]
        return report

    async def again(self, findings: Collection[Finding]) -> list[Finding]:
        """What is found now in the partitions of earlier findings, whose raw files are surely parsed again."""
        days = {finding.partition for finding in findings}

        def wanted(day: dt.date) -> bool:
            return day in days or NO_DAY in days  # what belongs to no day concerns them all

        return (await self._audit(wanted, _silent, {finding.key for finding in findings})).findings

    async def _audit(self, wanted: Days, on_progress: Progress, suspects: Collection[str] = ()) -> Report:
        report = Report()
        raw = [file for file in await self._raw_files() if wanted(file.partition)]
        letters = await self._dead_letters(wanted)
        found = {layer: await self._rows(layer, wanted, report) for layer in LAYERS}
        parsed_again = self._sampled(raw) | set(suspects)
        done = 0

        async def check(file: RawFile) -> None:
            nonlocal done
            await self._check(file, found, letters.get(file.key), report, again=file.key in parsed_again)
            done += 1
            on_progress(done, len(raw))

        await bounded_map(check, raw, CONCURRENT_REQUESTS)
        _find_orphans(report, {file.key for file in raw}, found, letters)
        if self._database is not None:
            await asyncio.to_thread(self._database.compare, found["enhanced"], wanted, report)
        report.findings.sort(key=lambda finding: (finding.key, finding.kind))
        return report

    def _sampled(self, raw: Iterable[RawFile]) -> set[str]:
        """So many raw files of each day as were asked for, chosen by lot."""
        days: defaultdict[object, list[str]] = defaultdict(list)
        for file in raw:
            days[file.partition].append(file.key)
        return {key for keys in days.values() for key in sorted(keys, key=self._lot)[: self._sample]}

    def _lot(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._seed, digest_size=8).digest()

    async def _raw_files(self) -> list[RawFile]:
        infos = await self._list(self._layout.raw)
        return [file for info in infos if (file := self._layout.raw_file(info)) is not None]

    async def _dead_letters(self, wanted: Days) -> dict[str, ObjectInfo]:
        infos = await self._list(self._layout.dead_letters)
        return {self._layout.raw_key_of(info.key): info for info in infos if wanted(partition_of(info.key))}

    async def _rows(self, layer: Layer, wanted: Days, report: Report) -> Fingerprints:
        """The rows of each raw file in one layer; a predecessor's files are counted as foreign and else left out."""
        found: Fingerprints = {}
        for info in await self._list(self._layout.layer(layer)):
            if not self._layout.is_segment_key(layer, info.key) or not wanted(partition_of(info.key)):
                continue
            try:
                stored = await self._store.get(info.key)
                looked_at = await asyncio.to_thread(_look_at, stored.data, layer)
            except NotFound:
                continue
            except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
                report.find("unreadable_parquet", info.key, str(error).splitlines()[0])
                continue
            if looked_at is None:
                report.foreign += 1
                continue
            if self._layout.segment_key(layer, looked_at.segment) != info.key:
                report.find(
                    "misplaced_parquet", info.key, "a copy of another segment's file: globs count its rows twice"
                )
                continue
            for message in looked_at.faults:
                report.find("wrong_parquet", info.key, message)
            merged(found, looked_at.rows)
            if layer == "enhanced" and self._database is not None:
                segment = SegmentObject(info.key, partition_of(info.key), stored.info.etag, stored.info.size)
                await asyncio.to_thread(self._database.compare_copy, segment, stored.data, report)
        return found

    async def _check(
        self,
        file: RawFile,
        found: Mapping[Layer, Fingerprints],
        letters: ObjectInfo | None,
        report: Report,
        *,
        again: bool,
    ) -> None:
        try:
            data = (await self._store.get(file.key)).data
            lines = await asyncio.to_thread(_count_lines, file, data)
            rejected = await self._rejected(letters, lines, report)
        except NotFound:
            return
        processed, enhanced = (found[layer].get(file.key, NOTHING).rows for layer in ("processed", "enhanced"))
        report.raw_files += 1
        report.lines += lines
        report.rows += enhanced
        report.rejected += rejected
        if processed == enhanced == 0 and rejected == 0 and lines:
            report.find("not_processed", file.key, f"{lines} lines, but no row and no dead letter")
        elif processed != enhanced:
            report.find("layers_differ", file.key, f"{processed} rows in processed, {enhanced} in enhanced")
        elif lines != enhanced + rejected:
            report.find("not_conserved", file.key, f"{lines} lines, but {enhanced} rows and {rejected} rejected")
        elif again:
            report.parsed_again += 1
            fresh = await asyncio.to_thread(self._parse, file, data)
            for layer in LAYERS:
                if found[layer].get(file.key, NOTHING) != fresh[layer]:
                    report.find("rows_differ", file.key, f"its rows in {layer} are not those of a fresh parse")

    async def _rejected(self, letters: ObjectInfo | None, lines: int, report: Report) -> int:
        if letters is None:
            return 0
        try:
            return rejected_lines(read_letters((await self._store.get(letters.key)).data), lines)
        except (ValueError, TypeError, KeyError) as error:
            report.find("unreadable_dead_letters", letters.key, f"{type(error).__name__}: {error}")
            return 0

    def _parse(self, file: RawFile, data: bytes) -> dict[Layer, Fingerprint]:
        (parsed,) = parse_files([RawText(file, "", as_utf8(data))], self._rules)
        return {layer: of_table(parsed.table, layer).get(file.key, NOTHING) for layer in LAYERS}

    async def _list(self, prefix: str) -> list[ObjectInfo]:
        return [info async for page in self._store.pages(prefix) for info in page]


@dataclass(frozen=True, slots=True)
class _LookedAt:
    segment: Segment
    rows: Fingerprints
    faults: list[str]


def _look_at(data: bytes, layer: Layer) -> _LookedAt | None:
    footer = read_footer(data)
    if footer is None:
        return None
    file = pq.ParquetFile(pa.BufferReader(data))
    faults = []
    if not file.schema_arrow.remove_metadata().equals(SCHEMAS[layer]):
        faults.append(f"its schema is not that of the {layer} layer")
        keys = Counter(file.read(["s3_source_key"])["s3_source_key"].to_pylist())
        return _LookedAt(footer.segment, {key: Fingerprint(rows, 0) for key, rows in keys.items()}, faults)
    rows = of_table(file.read(), layer)
    if {key: item.rows for key, item in rows.items()} != {item.key: item.rows for item in footer.files if item.rows}:
        faults.append("its rows are not those that its footer names")
    return _LookedAt(footer.segment, rows, faults)


def _count_lines(file: RawFile, data: bytes) -> int:
    text = as_utf8(data)
    try:
        return sum(1 for _ in records(read_document(file.key, file.time, file.partition, text)))
    except Unreadable:
        return count_records(text.decode())


def _find_orphans(
    report: Report, raw: set[str], found: Mapping[Layer, Fingerprints], letters: Mapping[str, ObjectInfo]
) -> None:
    for layer, rows in found.items():
        for key in sorted(rows.keys() - raw):
            report.find("orphan_rows", key, f"{rows[key].rows} rows in {layer}, but there is no such raw file")
    for key in sorted(letters.keys() - raw):
        report.find("orphan_dead_letters", letters[key].key, f"there is no raw file {key}")
