"""The audit of the whole lake, and of the database that was published from it."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from bikeflow.concurrency import bounded_map
from bikeflow.errors import NotFound
from bikeflow.layout import LAYERS, Layer, Layout, snapshot_time
from bikeflow.model import ObjectInfo, RawFile
from bikeflow.settings.sections import RulesSettings
from bikeflow.store.base import Store
from bikeflow.transform.dead_letters import Letter
from bikeflow.verifier.conservation import Case, examine
from bikeflow.verifier.fingerprints import NOTHING
from bikeflow.verifier.layers import LayerContent, compare_footers, read_layer
from bikeflow.verifier.letters import read_strictly
from bikeflow.verifier.published import PublishedDatabase
from bikeflow.verifier.raw_files import list_raw_files
from bikeflow.verifier.report import NO_DAY, Days, Finding, Progress, Report, concerns

CONCURRENT_REQUESTS = 8
BATCH_FILES, BATCH_BYTES = 64, 8 * 1024 * 1024
"""So much is read and parsed at once."""
SETTLE_SECONDS = 2.0
"""What is being written just now looks wrong for a moment: a finding counts if it is still there after this time."""


def _silent(_done: int, _total: int) -> None:
    """Nobody wants to know."""


class Verifier:
    """Audits the lake, one layer after the other, and the published database where one is given.

    `sample` raw files of each day are parsed again, others each time; None: all. So are those with dead letters.
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
        raw = await list_raw_files(self._store, self._layout, wanted, report)
        letters = await self._dead_letters(wanted)
        found = await self._layers(wanted, report)
        parsed_again = self._sampled(raw) | set(suspects)
        facts: dict[str, tuple[object, ...]] = {}
        digests: dict[str, str] = {}
        done = 0

        async def check(files: Sequence[RawFile]) -> None:
            nonlocal done
            for case in await self._examined(files, found, letters, parsed_again, report):
                _take_over(case, report)
                facts[case.raw.key] = case.facts
                _find_double(case, digests, report)
            done += len(files)
            on_progress(done, len(raw))

        await bounded_map(check, list(_batches(raw)), 2)
        _find_orphans(report, {file.key for file in raw}, found, letters)
        if self._database is not None:
            await asyncio.to_thread(self._database.compare, found["enhanced"], facts, wanted, report)
        report.findings.sort(key=lambda finding: (finding.key, finding.kind))
        return report

    async def _layers(self, wanted: Days, report: Report) -> dict[Layer, LayerContent]:
        copies = self._database.compare_copy if self._database is not None else None
        contents = await asyncio.gather(
            read_layer(self._store, self._layout, "processed", wanted, report, None),
            read_layer(self._store, self._layout, "enhanced", wanted, report, copies),
        )
        found: dict[Layer, LayerContent] = dict(zip(LAYERS, contents, strict=True))
        compare_footers(self._layout, found, report)
        return found

    def _sampled(self, raw: Iterable[RawFile]) -> set[str]:
        """So many raw files of each day as were asked for, chosen by lot."""
        days: defaultdict[object, list[str]] = defaultdict(list)
        for file in raw:
            days[file.partition].append(file.key)
        return {key for keys in days.values() for key in sorted(keys, key=self._lot)[: self._sample]}

    def _lot(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._seed, digest_size=8).digest()

    async def _dead_letters(self, wanted: Days) -> dict[str, ObjectInfo]:
        infos = [info async for page in self._store.pages(self._layout.dead_letters) for info in page]
        return {self._layout.raw_key_of(info.key): info for info in infos if concerns(wanted, info.key)}

    async def _examined(
        self,
        files: Sequence[RawFile],
        found: Mapping[Layer, LayerContent],
        letters: Mapping[str, ObjectInfo],
        parsed_again: Collection[str],
        report: Report,
    ) -> list[Case]:
        """What a batch of raw files comes to; those that have vanished are left out."""
        contents = await self._contents([file.key for file in files])
        lettered = [file.key for file in files if file.key in letters and file.key in contents]
        read = dict(
            zip(
                lettered,
                await bounded_map(lambda key: self._letters(letters[key], report), lettered, CONCURRENT_REQUESTS),
                strict=True,
            )
        )
        enhanced = found["enhanced"]
        cases = [
            Case(
                raw,
                contents[raw.key],
                {layer: found[layer].rows.get(raw.key, NOTHING) for layer in LAYERS},
                records := enhanced.records.get(raw.key, []),
                not records and enhanced.should_name(raw),
                read.get(raw.key),
                raw.key in parsed_again,
            )
            for raw in files
            if raw.key in contents
        ]
        await asyncio.to_thread(examine, cases, self._rules)
        return cases

    async def _contents(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = {key: stored.data for key, stored in (await self._store.at_hand(keys)).items()}

        async def read(key: str) -> None:
            try:
                found[key] = (await self._store.get(key)).data
            except NotFound:
                return

        await bounded_map(read, [key for key in keys if key not in found], CONCURRENT_REQUESTS)
        return found

    async def _letters(self, info: ObjectInfo, report: Report) -> list[Letter] | None:
        try:
            return read_strictly((await self._store.get(info.key)).data)
        except NotFound:
            return None
        except ValueError as error:
            report.find("unreadable_dead_letters", info.key, str(error))
            return None


def _batches(files: Sequence[RawFile]) -> Iterator[list[RawFile]]:
    batch: list[RawFile] = []
    size = 0
    for raw in files:
        if batch and (len(batch) == BATCH_FILES or size + raw.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += raw.size
    if batch:
        yield batch


def _take_over(case: Case, report: Report) -> None:
    report.raw_files += 1
    report.lines += case.lines
    report.rows += case.rows["enhanced"].rows
    report.rejected += case.rejected
    report.unreadable_files += not case.readable
    report.other_rules += case.other_rules
    report.parsed_again += bool(case.fresh)
    for kind, message in case.findings:
        report.find(kind, case.raw.key, message)


def _find_double(case: Case, digests: dict[str, str], report: Report) -> None:
    """A feed may serve the same twice; but a file of the same content that has no time in its name is a copy."""
    other = digests.setdefault(case.md5, case.raw.key)
    named = [key for key in (case.raw.key, other) if snapshot_time(key) is not None]
    if other != case.raw.key and len(named) < 2 and case.lines:
        copy, original = (case.raw.key, other) if case.raw.key not in named else (other, case.raw.key)
        report.find("doubled_raw", copy, f"a copy of {original} under another name: its rows are there twice")


def _find_orphans(
    report: Report, raw: set[str], found: Mapping[Layer, LayerContent], letters: Mapping[str, ObjectInfo]
) -> None:
    for layer, content in found.items():
        for key in sorted(content.rows.keys() - raw):
            report.find("orphan_rows", key, f"{content.rows[key].rows} rows in {layer}, but there is no such raw file")
    for key in sorted(found["enhanced"].records.keys() - raw - found["enhanced"].rows.keys()):
        report.find("wrong_footer", key, "a footer names it, but there is no such raw file")
    for key in sorted(letters.keys() - raw):
        report.find("orphan_dead_letters", letters[key].key, f"there is no raw file {key}")
