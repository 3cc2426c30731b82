"""What can go wrong, and what people are told of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["problem", "reminder", "recovery", "test"]
Alert = Literal[
    "feed_silent", "feed_frozen", "clock_wrong", "storage_unreachable", "spool_filling", "raw_files_missing",
    "runs_failing", "dead_letters", "refresh_stuck", "disk_low", "schema_drift",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Meaning:
    """The titles of an alert and of its recovery, and the first thing to do."""

    problem: str
    recovery: str
    advice: str


@dataclass(frozen=True, slots=True)
class Message:
    """What one message says; a channel decides how it looks."""

    kind: Kind
    title: str
    body: str


MEANINGS: Mapping[Alert, Meaning] = {
    "feed_silent": Meaning(
        "no snapshots come in",
        "snapshots come in again",
        "bikeflow goes on asking. Open feed.url in a browser: if it answers there, look at this machine's network.",
    ),
    "feed_frozen": Meaning(
        "the feed stands still",
        "the feed moves again",
        "The feed answers, but always the same. Nothing can be done here; tell its operator.",
    ),
    "clock_wrong": Meaning(
        "snapshots get wrong times",
        "snapshots get the right times again",
        "Look at this machine's clock (`timedatectl`). Nothing is lost, but what has a wrong time keeps it.",
    ),
    "storage_unreachable": Meaning(
        "the object store does not work",
        "the object store works again",
        "Snapshots are safe on the local disk and go out by themselves. Look at the store's status page, keys, bucket.",
    ),
    "spool_filling": Meaning(
        "snapshots pile up on the local disk",
        "no more snapshots pile up",
        "When feed.spool_max_bytes is reached, new snapshots are lost: bring the store back, or raise it.",
    ),
    "raw_files_missing": Meaning(
        "raw files are missing from the store",
        "no raw files are missing any more",
        "What was made of them is kept. Look for a lifecycle rule or a wrong sync, and bring them back; if they are to"
        " be gone, `bikeflow forget` removes it.",
    ),
    "runs_failing": Meaning(
        "processing fails",
        "processing works again",
        "Failed days are tried again by themselves. `bikeflow status` shows which and why.",
    ),
    "dead_letters": Meaning(
        "too many lines are rejected",
        "few lines are rejected again",
        "The feed may have changed its format. `bikeflow dlq show` shows the lines; none is lost.",
    ),
    "refresh_stuck": Meaning(
        "the database is not refreshed",
        "the database is refreshed again",
        "Readers see the last good database. Look for refresh_failed in the log: disk space, warehouse.memory_limit.",
    ),
    "disk_low": Meaning(
        "the disk is almost full",
        "the disk has room again",
        "Make room below data_dir's file system, before snapshots can't be kept any more.",
    ),
    "schema_drift": Meaning(
        "the feed has unknown columns",
        "the feed has no unknown columns any more",
        "They are kept in the raw files and ignored otherwise: nothing breaks.",
    ),
}


def problem(alert: Alert, reason: str, since: dt.datetime, *, reminder: bool) -> Message:
    """Something is wrong, or still is."""
    meaning = MEANINGS[alert]
    title = f"still: {meaning.problem}" if reminder else meaning.problem
    return Message("reminder" if reminder else "problem", title, f"{reason}\nSince {_stamp(since)}.\n{meaning.advice}")


def recovery(alert: Alert, reason: str, since: dt.datetime, until: dt.datetime) -> Message:
    """It works again."""
    body = f"It was so from {_stamp(since)} to {_stamp(until)}: {reason}"
    return Message("recovery", MEANINGS[alert].recovery, body)


def trial() -> Message:
    """What `bikeflow alerts test` sends."""
    return Message("test", "this is a test", "Nothing is wrong: alerts of bikeflow arrive here.")


def _stamp(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
