"""What every engine can do, wherever the work is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bikeflow.ledger.files import SegmentWork
from bikeflow.segments.builder import Built
from bikeflow.settings import Settings
from bikeflow.settings.sections import LogSettings, ProcessingSettings, RetrySettings, StorageSettings
from bikeflow.settings.systems import System


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """All that a worker anywhere needs besides the work itself; `data_dir` is absolute and holds the local lake."""

    data_dir: Path
    systems: tuple[System, ...]
    storage: StorageSettings
    processing: ProcessingSettings
    retry: RetrySettings
    log: LogSettings

    @classmethod
    def of(cls, settings: Settings) -> WorkerConfig:
        """The one that the configuration describes."""
        return cls(
            settings.data_dir.absolute(),
            settings.all_systems,
            settings.storage,
            settings.processing,
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

    def fail_fast(self) -> None:
        """From now on try nothing again: what fails is left to the next run."""
        ...
