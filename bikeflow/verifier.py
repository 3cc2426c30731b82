"""The conservation law, proved from the lake itself: data lines = rows + rejected lines, for every raw file.

It trusts neither the ledger nor the footers: it counts the lines of raw, the rows of both layers and the dead letters.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bikeflow.concurrency import bounded_map
from bikeflow.errors import NotFound
from bikeflow.feeds.text import decode
from bikeflow.layout import LAYERS, Layer, Layout
from bikeflow.model import ObjectInfo, RawFile
from bikeflow.schema import ENHANCED, PROCESSED
from bikeflow.store.base import Store
from bikeflow.transform.dead_letters import read_letters, rejected_lines
from bikeflow.transform.document import Unreadable, count_records, read_document, records
from bikeflow.transform.footer import read_footer

CONCURRENT_REQUESTS = 8
_SCHEMAS: Mapping[Layer, pa.Schema] = {"processed": PROCESSED, "enhanced": ENHANCED}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up: `kind` is stable, for programs; `message` is for people."""

    kind: str
    key: str
    message: str


@dataclass(slots=True)
class Report:
    """What was counted, and what was found."""

    raw_files: int = 0
    lines: int = 0
    rows: int = 0
    rejected: int = 0
    foreign: int = 0
    findings: list[Finding] = field(default_factory=list)

    def find(self, kind: str, key: str, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, key, message))


class Verifier:
    """Audits the lake, one partition after the other."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def verify(
        self, wanted: Callable[[dt.date], bool], on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Report:
        """Count all partitions that are `wanted`; `on_progress` is told of raw files done and in all."""
        report = Report()
        raw = [file for file in await self._raw_files() if wanted(file.partition)]
        letters = await self._dead_letters(wanted)
        rows = {layer: await self._rows(layer, wanted, report) for layer in LAYERS}
        done = 0

        async def check(file: RawFile) -> None:
            nonlocal done
            await self._check(file, rows, letters.get(file.key), report)
            done += 1
            on_progress(done, len(raw))

        await bounded_map(check, raw, CONCURRENT_REQUESTS)
        _find_orphans(report, {file.key for file in raw}, rows, letters)
        report.findings.sort(key=lambda finding: (finding.key, finding.kind))
        return report

    async def _raw_files(self) -> list[RawFile]:
        infos = await self._list(self._layout.raw)
        return [file for info in infos if (file := self._layout.raw_file(info)) is not None]

    async def _dead_letters(self, wanted: Callable[[dt.date], bool]) -> dict[str, ObjectInfo]:
        infos = await self._list(self._layout.dead_letters)
        return {self._layout.raw_key_of(info.key): info for info in infos if wanted(_partition(info.key))}

    async def _rows(self, layer: Layer, wanted: Callable[[dt.date], bool], report: Report) -> Counter[str]:
        """Rows of each raw file in one layer; a predecessor's files are counted as foreign and otherwise left out."""
        rows: Counter[str] = Counter()
        for info in await self._list(self._layout.layer(layer)):
            if not self._layout.is_segment_key(layer, info.key) or not wanted(_partition(info.key)):
                continue
            try:
                data = (await self._store.get(info.key)).data
                counted = await asyncio.to_thread(_count_rows, data, layer)
            except NotFound:
                continue
            except (pa.ArrowInvalid, OSError) as error:
                report.find("unreadable_parquet", info.key, str(error).splitlines()[0])
                continue
            if counted is None:
                report.foreign += 1
                continue
            for message in counted.faults:
                report.find("wrong_parquet", info.key, message)
            rows.update(counted.rows)
        return rows

    async def _check(
        self, file: RawFile, rows: Mapping[Layer, Counter[str]], letters: ObjectInfo | None, report: Report
    ) -> None:
        try:
            lines = await asyncio.to_thread(_count_lines, file, (await self._store.get(file.key)).data)
            rejected = rejected_lines(read_letters((await self._store.get(letters.key)).data), lines) if letters else 0
        except NotFound:
            return
        processed, enhanced = rows["processed"][file.key], rows["enhanced"][file.key]
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

    async def _list(self, prefix: str) -> list[ObjectInfo]:
        return [info async for page in self._store.pages(prefix) for info in page]


@dataclass(frozen=True, slots=True)
class _Counted:
    rows: Counter[str]
    faults: list[str]


def _count_rows(data: bytes, layer: Layer) -> _Counted | None:
    footer = read_footer(data)
    if footer is None:
        return None
    file = pq.ParquetFile(io.BytesIO(data))
    counts = pc.value_counts(file.read(["s3_source_key"])["s3_source_key"])
    rows = Counter({item["values"]: item["counts"] for item in counts.to_pylist()})
    faults = []
    if not file.schema_arrow.remove_metadata().equals(_SCHEMAS[layer]):
        faults.append(f"its schema is not that of the {layer} layer")
    if rows != Counter({record.key: record.rows for record in footer.files if record.rows}):
        faults.append("its rows are not those that its footer names")
    return _Counted(rows, faults)


def _count_lines(file: RawFile, data: bytes) -> int:
    text = decode(data)
    try:
        return sum(1 for _ in records(read_document(file.key, file.time, file.partition, text)))
    except Unreadable:
        return count_records(text)


def _find_orphans(
    report: Report, raw: set[str], rows: Mapping[Layer, Counter[str]], letters: Mapping[str, ObjectInfo]
) -> None:
    for layer, counts in rows.items():
        for key in sorted(counts.keys() - raw):
            report.find("orphan_rows", key, f"{counts[key]} rows in {layer}, but there is no such raw file")
    for key in sorted(letters.keys() - raw):
        report.find("orphan_dead_letters", letters[key].key, f"there is no raw file {key}")


def _partition(key: str) -> dt.date:
    """The day in a key; a folder that is no day belongs to none."""
    try:
        return dt.date.fromisoformat(key.rsplit("/", 2)[-2].removeprefix("dt="))
    except ValueError:
        return dt.date.min
