"""Which dead letters a command is about, and how it finds them in the lake."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikeflow.cli.days import Days
from bikeflow.errors import BikeflowError, NotFound
from bikeflow.transform.dead_letters import DROPPED, Letter, read_letters

if TYPE_CHECKING:
    from bikeflow.layout import Layout
    from bikeflow.store import Store


@dataclass(frozen=True, slots=True)
class Selection:
    """Dead letters by day, check and raw file; those that were dropped are only in it when asked for by that check."""

    days: Days
    check: str | None = None
    source: str | None = None

    def holds(self, letter: Letter) -> bool:
        """Whether a letter of a file that is in the selection is in it too."""
        return bool(letter["check"] == self.check if self.check else letter["check"] != DROPPED)


@dataclass(frozen=True, slots=True)
class LetterFile:
    """The dead letters of one raw file: all of them, and those that are in the selection."""

    partition: dt.date
    key: str
    raw_key: str
    letters: list[Letter]
    selected: list[Letter]


async def find_letters(
    store: Store, layout: Layout, selection: Selection, *, newest_first: bool = False
) -> AsyncIterator[LetterFile]:
    """The dead-letter files with at least one letter in the selection."""
    infos = [info async for page in store.pages(layout.dead_letters) for info in page]
    for info in sorted(infos, key=lambda item: item.key, reverse=newest_first):
        raw_key, day = layout.raw_key_of(info.key), _day(info.key.removeprefix(layout.dead_letters).split("/")[0])
        if day not in selection.days or (selection.source or "") not in raw_key:
            continue
        try:
            letters = read_letters((await store.get(info.key)).data)
        except NotFound:  # its raw file was mended meanwhile
            continue
        except ValueError as error:
            raise BikeflowError(
                f"{info.key} holds no dead letters; `bikeflow verify --repair` writes it again"
            ) from error
        if selected := [letter for letter in letters if selection.holds(letter)]:
            yield LetterFile(day, info.key, raw_key, letters, selected)


def _day(text: str) -> dt.date:
    """The day of a partition; a folder that is no day belongs to none that can be asked for."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return dt.date.min
