"""What every engine can do, wherever the work is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bikeflow.core.model import SegmentObject
from bikeflow.ledger.files import SegmentWork
from bikeflow.segments.builder import Built
from bikeflow.segments.table import SegmentTable
from bikeflow.settings import Settings
from bikeflow.settings.sections import LogSettings, ProcessingSettings, RetrySettings, RulesSettings, StorageSettings


@dataclass(frozen=True, slots=True)
class Workplace:
    """All that a worker anywhere needs besides the work itself; `data_dir` is absolute and holds the local lake."""

    data_dir: Path
    storage: StorageSettings
    processing: ProcessingSettings
    rules: RulesSettings
    retry: RetrySettings
    log: LogSettings

    @classmethod
    def of(cls, settings: Settings) -> Workplace:
        """The one that the configuration describes."""
        return cls(
            settings.data_dir.absolute(),
            settings.storage,
            settings.processing,
            settings.rules,
            settings.retry,
            settings.log,
        )


class Engine(Protocol):
    """Builds segments somewhere; the bytes are the same wherever that is."""

    async def ready(self) -> None:
        """Find out now, not with the first segment, whether work can be done; raises Transient, Permanent."""
        ...

    async def build(self, work: SegmentWork, parsed: Callable[[int], None]) -> Built:
        """Bring a segment's files and dead letters in the store up to date; `parsed` is told of raw files done.

        Can be called any number of times at once; the engine has its own bounds. Raises Transient, Permanent and
        RawFileChanged.
        """
        ...

    def recent(self, source: SegmentObject) -> SegmentTable | None:
        """The rows of this version of a segment's file, where they are still in this process's memory."""
        ...

    def hurry(self) -> None:
        """From now on try nothing again: what fails is left to the next run."""
        ...
