"""The dead letters in the lake: found, counted and dropped."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from bikeflow.core.errors import BikeflowError
from bikeflow.core.layout import day_of
from bikeflow.core.model import Partition
from bikeflow.core.scope import Scope
from bikeflow.feeds import format_of, layout_of
from bikeflow.segments import dead_letters
from bikeflow.segments.dead_letters import DROPPED, Letter, is_of_whole_file, read_letters
from bikeflow.settings.systems import System
from bikeflow.store.base import Store, if_found


@dataclass(frozen=True, slots=True)
class Selection:
    """Dead letters by scope, check and raw file; those that were dropped are in it only when asked for by that check.

    `source` is a part of the raw file's key.
    """

    scope: Scope
    check: str | None = None
    source: str = ""

    def holds(self, letter: Letter) -> bool:
        """Whether a letter of a file that is in the selection is in it too."""
        return bool(letter["check"] == self.check if self.check else letter["check"] != DROPPED)


@dataclass(frozen=True, slots=True)
class LetterFile:
    """The dead letters of one raw file: all of them, and those that are in the selection."""

    system: System
    partition: Partition
    key: str
    raw_key: str
    letters: list[Letter]
    selected: list[Letter]


@dataclass(slots=True)
class Counts:
    """How many dead letters, of how many files, of how many files that can't be read at all."""

    dead_letters: int = 0
    files: int = 0
    unreadable_files: int = 0


async def find(
    store: Store, systems: Iterable[System], selection: Selection, *, newest_first: bool = False
) -> AsyncIterator[LetterFile]:
    """The dead-letter files with at least one letter in the selection, system by system."""
    for system in systems:
        layout = layout_of(system)
        if not selection.scope.has(system.id):
            continue
        infos = [info async for page in store.pages(layout.dead_letters) for info in page]
        for info in sorted(infos, key=lambda item: item.key, reverse=newest_first):
            raw_key, partition = layout.raw_key_of(info.key), Partition(system.id, day_of(info.key))
            if partition not in selection.scope or selection.source not in raw_key:
                continue
            stored = await if_found(store.get(info.key))
            if stored is None:  # its raw file was mended meanwhile
                continue
            try:
                letters = read_letters(stored.data)
            except ValueError as error:
                raise BikeflowError(
                    f"{info.key} holds no dead letters; `bikeflow verify --repair` writes it again"
                ) from error
            if selected := [letter for letter in letters if selection.holds(letter)]:
                yield LetterFile(system, partition, info.key, raw_key, letters, selected)


async def count(
    store: Store, systems: Iterable[System], selection: Selection
) -> dict[tuple[Partition, str, str], Counts]:
    """The selected letters by partition, check and column ("-": none)."""
    counts: defaultdict[tuple[Partition, str, str], Counts] = defaultdict(Counts)
    async for file in find(store, systems, selection):
        groups = set()
        for letter in file.selected:
            group = (file.partition, letter["check"], letter["column"] or "-")
            counts[group].dead_letters += letter.get(DROPPED, 1)
            counts[group].unreadable_files += is_of_whole_file(letter)
            groups.add(group)
        for group in groups:
            counts[group].files += 1
    return dict(counts)


async def newest(store: Store, systems: Iterable[System], selection: Selection, limit: int) -> list[Letter]:
    """Up to `limit` of the selected letters, those of the newest files first."""
    found: list[Letter] = []
    async for file in find(store, systems, selection, newest_first=True):
        found += file.selected
        if len(found) >= limit:
            break
    return found[:limit]


async def drop(store: Store, systems: Iterable[System], selection: Selection) -> tuple[int, int]:
    """Replace the selected letters by summaries; returns the numbers of files and of letters.

    It needs no lock: each file is replaced by one PUT, and a service that writes the same file writes a right one too.
    """
    files = letters = 0
    async for file in find(store, systems, selection):
        records = await _records(store, file)
        content = dead_letters.drop(file.letters, selection.holds, records, dt.datetime.now(dt.UTC))
        if content is not None:
            await store.put(file.key, content)
            files, letters = files + 1, letters + len(file.selected)
    return files, letters


async def _records(store: Store, file: LetterFile) -> int:
    """The records of a raw file that can't be read at all; 0 where that need not be known."""
    if not any(map(is_of_whole_file, file.selected)):
        return 0
    stored = await if_found(store.get(file.raw_key))  # if it is gone, the next reconciliation removes its dead letters
    return 0 if stored is None else format_of(file.system).count_records(stored.data).records
