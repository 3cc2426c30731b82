"""The audit of one system's lake: raw files, dead letters and both Parquet layers against each other."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import secrets
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

from bikeflow.core.layout import day_of
from bikeflow.core.model import UTC, FileRecord, ObjectInfo, RawFile
from bikeflow.feeds import format_of, layout_of
from bikeflow.feeds.recipe import recipe_of
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.segments.builder import batches
from bikeflow.segments.dead_letters import Letter, rejected_lines
from bikeflow.settings.systems import System
from bikeflow.store.base import CONCURRENT_REQUESTS, Store, if_found, read_all
from bikeflow.verifier.conservation import Case, Parsed, faults, parse_again, read_strictly
from bikeflow.verifier.fingerprints import NOTHING
from bikeflow.verifier.layers import Copies, LayerAudit
from bikeflow.verifier.polls import PollAudit
from bikeflow.verifier.report import Days, Progress, Report, concerns

BATCH_FILES, BATCH_BYTES = 64, 8 * 1024 * 1024
"""How many raw files are read and parsed at once."""
TOLERANCE = dt.timedelta(hours=3)
"""How far the time in a name may lie outside the folder's day: about midnight, or where names are in local time."""
LARGEST_BYTES = 16 * 1024 * 1024
"""A larger object is no snapshot."""


class SystemAudit:
    """Audits the lake of one system, one layer after the other.

    `sample` raw files of each day are parsed again, others each time; None: all. So are those with dead letters, and
    the `suspects`. `copies` compares the files of the enhanced layer with their copies on this machine. Raw files that
    came after `written_until` need not be in a Parquet file yet: those that are not are named in `unwritten`. `known`
    are the raw files that the ledger knows, asked for before they are listed.

    Afterwards `facts` has what was counted of the raw files, by key, for the comparison with the database, and
    `missing` has those that the ledger or a footer knows and the store has not.
    """

    def __init__(
        self,
        store: Store,
        system: System,
        sample: int | None,
        suspects: Collection[str],
        copies: Copies | None,
        written_until: dt.datetime | None = None,
        known: Collection[str] = (),
    ) -> None:
        self._store = store
        self._layout = layout_of(system)
        self._format = format_of(system)
        self._rules = system.rules
        self._sample = sample
        self._suspects = suspects
        self._written_until = written_until
        self._known = known
        self.missing: set[str] = set()
        self._letters: dict[str, ObjectInfo] = {}
        self._digests: dict[str, str] = {}
        self.report = Report()
        self.processed = LayerAudit(store, self._layout, "processed", self.report)
        self.enhanced = LayerAudit(store, self._layout, "enhanced", self.report, copies)
        self.facts: dict[str, FileRecord] = {}
        self.unwritten: set[str] = set()

    async def run(self, wanted: Days, tell: Progress) -> None:
        """Audit all days that are `wanted`; `tell` is called with numbers of raw files."""
        polls = PollAudit(self._store, self._layout, self.report)
        await polls.read(wanted)  # first: the raw files that they name are there before them
        raw = await self._raw_files(wanted)
        polls.compare({file.key for file in raw})
        infos = [info async for page in self._store.pages(self._layout.dead_letters) for info in page]
        self._letters = {self._layout.raw_key_of(info.key): info for info in infos if concerns(wanted, info.key)}
        await asyncio.gather(self.processed.read(wanted), self.enhanced.read(wanted))
        self.enhanced.compare_footers(self.processed)
        chosen = self._sampled(raw) | set(self._suspects)

        async def check(files: Sequence[RawFile]) -> None:
            await self._check(files, chosen)
            tell(self.report.raw_files, len(raw))

        await bounded_map(check, batches(raw, BATCH_BYTES, BATCH_FILES), 2)
        self._find_missing({file.key for file in raw}, wanted)
        self._find_orphans({file.key for file in raw} | self.missing)

    async def _raw_files(self, wanted: Days) -> list[RawFile]:
        """The raw files that are wanted. What else looks like a snapshot is found, all other objects are named."""
        files: list[RawFile] = []
        async for page in self._store.pages(self._layout.raw):
            for info in page:
                if not concerns(wanted, info.key):
                    continue
                if (file := self._layout.raw_file(info)) is not None:
                    files.append(file)
                elif await self._is_snapshot(info):
                    place = f"raw/dt=YYYY-MM-DD/*{self._layout.raw_suffix}"
                    message = f"a snapshot that is not processed: it belongs in {place}"
                    self.report.find("misplaced_raw", info.key, message)
                else:
                    self.report.other_objects.append(info.key)
        self._find_misplaced(files)
        return files

    async def _is_snapshot(self, info: ObjectInfo) -> bool:
        """Whether an object that is not processed has a snapshot's name or content."""
        stem = self._layout.raw_stem
        if _name(info.key).lower().startswith((f"{stem}_", f"{stem}-")):
            return True
        stored = await if_found(self._store.get(info.key)) if 0 < info.size <= LARGEST_BYTES else None
        return stored is not None and (await asyncio.to_thread(self._format.count_records, stored.data)).readable

    def _find_misplaced(self, files: Sequence[RawFile]) -> None:
        """Snapshots in another day's folder, and those of one name in several."""
        names = Counter(_name(file.key) for file in files)
        for file in files:
            if (time := self._layout.snapshot_time(file.key)) is None:
                continue
            since_midnight = time - dt.datetime.combine(file.partition.day, dt.time(), UTC)
            if not -TOLERANCE <= since_midnight < dt.timedelta(days=1) + TOLERANCE:
                self.report.find("misplaced_raw", file.key, f"a snapshot of {time.date()} in the folder of another day")
            if names[_name(file.key)] > 1 and time.date() != file.partition.day:
                self.report.find("doubled_raw", file.key, "the snapshot of this name lies in another folder too")

    def _sampled(self, raw: Iterable[RawFile]) -> set[str]:
        """Some raw files of each day, chosen at random: as many as were asked for."""
        days: defaultdict[object, list[str]] = defaultdict(list)
        for file in raw:
            days[file.partition].append(file.key)
        lot, most = secrets.SystemRandom(), self._sample
        return {
            key for keys in days.values() for key in (keys if most is None else lot.sample(keys, min(most, len(keys))))
        }

    async def _check(self, files: Sequence[RawFile], chosen: Collection[str]) -> None:
        """Look at a batch of raw files; those that have vanished are left out."""
        contents = await read_all(self._store, [file.key for file in files])
        files = [file for file in files if file.key in contents]
        letters = dict(await bounded_map(self._read_letters, [file.key for file in files], CONCURRENT_REQUESTS))

        def examined() -> list[tuple[Case, Parsed | None, list[tuple[str, str]]]]:
            cases = [self._case(file, contents[file.key].data, letters[file.key], file.key in chosen) for file in files]
            parsed = parse_again(cases, self._format, self._rules)
            return [(case, fresh := parsed.get(case.raw.key), list(faults(case, fresh))) for case in cases]

        for case, parsed, found in await asyncio.to_thread(examined):
            if found and self._may_be_unwritten(case.raw):
                self.unwritten.add(case.raw.key)
                self.report.unwritten += 1
                continue
            self._count(case)
            self.report.parsed_again += parsed is not None
            for kind, message in found:
                self.report.find(kind, case.raw.key, message)

    def _may_be_unwritten(self, raw: RawFile) -> bool:
        return self._written_until is not None and raw.last_modified > self._written_until

    def _case(self, raw: RawFile, data: bytes, letters: Sequence[Letter] | None, chosen: bool) -> Case:
        rows = {layer.name: layer.rows.get(raw.key, NOTHING) for layer in (self.processed, self.enhanced)}
        records = self.enhanced.records.get(raw.key, [])
        unnamed = not records and self.enhanced.should_name(raw)
        md5, count = hashlib.md5(data, usedforsecurity=False).hexdigest(), self._format.count_records(data)
        rejected = rejected_lines(letters or (), count.records)
        fact = FileRecord(raw.key, len(data), md5, count.records, rows["enhanced"].rows, rejected)
        return Case(raw, data, fact, count.readable, rows, records, unnamed, letters, chosen)

    async def _read_letters(self, raw_key: str) -> tuple[str, list[Letter] | None]:
        """A raw file's dead letters; None where it has none that can be read."""
        info = self._letters.get(raw_key)
        stored = None if info is None else await if_found(self._store.get(info.key))
        try:
            return raw_key, None if stored is None else read_strictly(stored.data)
        except ValueError as error:
            self.report.find("unreadable_dead_letters", self._layout.dead_letter_key(raw_key), str(error))
            return raw_key, None

    def _count(self, case: Case) -> None:
        key, report = case.raw.key, self.report
        fact = self.facts[key] = case.fact
        report.raw_files += 1
        report.lines += fact.lines
        report.rows += fact.rows
        report.rejected += fact.rejected
        report.unreadable_files += not case.readable
        report.other_rules += bool(fact.rows) and case.recipe != recipe_of(self._rules)
        # A feed may serve the same twice; but a file of the same content that has no time in its name is a copy.
        other = self._digests.setdefault(fact.md5, key)
        named = [name for name in (key, other) if self._layout.snapshot_time(name) is not None]
        if other != key and len(named) < 2 and fact.lines:
            copy, original = (key, other) if key not in named else (other, key)
            report.find("doubled_raw", copy, f"a copy of {original} under another name: its rows are there twice")

    def _find_missing(self, raw: set[str], wanted: Days) -> None:
        """Raw files that the ledger or a footer knows: one finding for each day."""
        named = {*self._known, *self.processed.records, *self.enhanced.records} - raw
        days: defaultdict[dt.date, list[str]] = defaultdict(list)
        for key in sorted(named):
            if self._layout.is_raw_key(key) and wanted(day_of(key)):
                days[day_of(key)].append(key)
        for day, keys in days.items():
            self.missing.update(keys)
            files = "1 raw file" if len(keys) == 1 else f"{len(keys)} raw files"
            self.report.find(
                "missing_raw", keys[0], f"{files} of {day} known, but missing from the store, up to {keys[-1]}"
            )

    def _find_orphans(self, raw: set[str]) -> None:
        find = self.report.find
        for layer in (self.processed, self.enhanced):
            for key in sorted(layer.rows.keys() - raw):
                rows = layer.rows[key].rows
                find("orphan_rows", key, f"{rows} rows in {layer.name}, but there is no such raw file")
        for key in sorted(self.enhanced.records.keys() - raw - self.enhanced.rows.keys()):
            find("wrong_footer", key, "a footer names it, but there is no such raw file")
        for key in sorted(self._letters.keys() - raw):
            find("orphan_dead_letters", self._letters[key].key, f"there is no raw file {key}")


def _name(key: str) -> str:
    return key.rpartition("/")[2]
