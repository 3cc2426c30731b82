"""The audit of one system's lake: raw files, dead letters and both Parquet layers against each other."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bikeflow.core.errors import NotFound
from bikeflow.core.layout import LAYERS, Layer
from bikeflow.core.model import ObjectInfo, RawFile
from bikeflow.feeds import format_of, layout_of
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.segments.dead_letters import Letter
from bikeflow.settings.systems import System
from bikeflow.store.base import Store
from bikeflow.verifier.conservation import Case, examine
from bikeflow.verifier.fingerprints import NOTHING
from bikeflow.verifier.layers import Copies, LayerContent, compare_footers, read_layer
from bikeflow.verifier.letters import read_strictly
from bikeflow.verifier.raw_files import list_raw_files
from bikeflow.verifier.report import Days, Progress, Report, concerns

CONCURRENT_REQUESTS = 8
BATCH_FILES, BATCH_BYTES = 64, 8 * 1024 * 1024
"""So much is read and parsed at once."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What was found in a system's lake, for the comparison with the database.

    `facts` are size, MD5 and counts of the raw files, by key.
    """

    report: Report
    enhanced: LayerContent
    facts: Mapping[str, tuple[object, ...]]


class SystemAudit:
    """Audits the lake of one system, one layer after the other.

    `sample` raw files of each day are parsed again, others each time; None: all. So are those with dead letters, and
    the `suspects`. `copies` compares the files of the enhanced layer with their copies on this machine.
    """

    def __init__(
        self, store: Store, system: System, sample: int | None, suspects: Collection[str], copies: Copies | None
    ) -> None:
        self._store = store
        self._layout = layout_of(system)
        self._format = format_of(system)
        self._rules = system.rules
        self._sample = sample
        self._suspects = suspects
        self._copies = copies
        self._seed = secrets.token_bytes(8)

    async def run(self, wanted: Days, tell: Progress) -> Audited:
        """Audit all days that are `wanted`."""
        report = Report()
        raw = await list_raw_files(self._store, self._layout, self._format, wanted, report)
        letters = await self._dead_letters(wanted)
        found = await self._layers(wanted, report)
        parsed_again = self._sampled(raw) | set(self._suspects)
        facts: dict[str, tuple[object, ...]] = {}
        digests: dict[str, str] = {}
        done = 0

        async def check(files: Sequence[RawFile]) -> None:
            nonlocal done
            for case in await self._examined(files, found, letters, parsed_again, report):
                _take_over(case, report)
                facts[case.raw.key] = case.facts
                self._find_double(case, digests, report)
            done += len(files)
            tell(done, len(raw))

        await bounded_map(check, list(_batches(raw)), 2)
        _find_orphans(report, {file.key for file in raw}, found, letters)
        report.findings = [replace(item, system_id=self._layout.system_id) for item in report.findings]
        return Audited(report, found["enhanced"], facts)

    async def _layers(self, wanted: Days, report: Report) -> dict[Layer, LayerContent]:
        contents = await asyncio.gather(
            read_layer(self._store, self._layout, "processed", wanted, report, None),
            read_layer(self._store, self._layout, "enhanced", wanted, report, self._copies),
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
        await asyncio.to_thread(examine, cases, self._format, self._rules)
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

    def _find_double(self, case: Case, digests: dict[str, str], report: Report) -> None:
        """A feed may serve the same twice; but a file of the same content that has no time in its name is a copy."""
        other = digests.setdefault(case.md5, case.raw.key)
        named = [key for key in (case.raw.key, other) if self._layout.snapshot_time(key) is not None]
        if other != case.raw.key and len(named) < 2 and case.lines:
            copy, original = (case.raw.key, other) if case.raw.key not in named else (other, case.raw.key)
            report.find("doubled_raw", copy, f"a copy of {original} under another name: its rows are there twice")


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
