"""The record of polls: every poll of a feed and what it came to, on this disk at once and in the lake within minutes.

A poll is one scheduled request for a system's snapshot, of however many documents. A row stands for one poll, or for
several that did not happen for the same reason (`polls` tells how many). Each row names the poll that was due before
it, so that a lost row shows: polls that were due = polls recorded.

`log.PollLog` is a SQLite file of its own, `polls.sqlite` in `data_dir`: the ledger is deleted whenever its schema
changes, and can't be rebuilt of polls. `recorder.Recorder` makes the rows, `archive.PollArchive` brings them to
`polls/dt=<day>/` in the lake: one object for each day of a system, replaced whole every five minutes while the day
lasts (`uploader`). So a thousand systems are a thousand objects a day, however often they poll.
"""

from __future__ import annotations

from bikeflow.polls.archive import PollArchive
from bikeflow.polls.log import PollLog
from bikeflow.polls.poll import Poll
from bikeflow.polls.recorder import Recorder
from bikeflow.polls.uploader import PollUploader

__all__ = ["Poll", "PollArchive", "PollLog", "PollUploader", "Recorder"]
