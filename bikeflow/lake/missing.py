"""Raw files that have disappeared from the store: followed where they are few, told of and held where they are many."""

from __future__ import annotations

from collections.abc import Collection

from bikeflow.ledger import SystemIndex
from bikeflow.runtime.log import get_logger

log = get_logger()


def judge_missing(index: SystemIndex, keys: Collection[str]) -> int:
    """What was made of these goes, or is held; gives the number of those that went."""
    known = index.missing.held()
    gone, held = index.missing.judge(keys)
    if gone:
        log.warning("raw_files_vanished", count=len(gone), first=gone[0], last=gone[-1])
        index.files.forget(gone)
    if new := sorted(set(held) - known):
        log.error(
            "raw_files_missing",
            count=len(new),
            first=new[0],
            last=new[-1],
            hint="bring them back, or `bikeflow forget`",
        )
    return len(gone)
