"""Dead-letter files: reading them, and dropping letters without losing count of them.

The conservation law must stay provable after letters were dropped: one summary line in the raw file's dead-letter file
tells how many rejected lines it stands for. It has the fields of a dead letter, `check` is `dropped`, and `dropped` is
the number. When the raw file is processed again, its dead letters are written again without the summary.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from bikeflow.feeds.base import DeadLetter

Letter = dict[str, Any]
DROPPED = "dropped"


def dead_letter_lines(letters: Iterable[DeadLetter], rejected_at: dt.datetime) -> bytes:
    """The content of a dead-letter file: one JSON object a line."""
    return _lines(_stamped(letter, rejected_at) for letter in letters)


def read_letters(data: bytes) -> list[Letter]:
    """The letters of one file, a summary of dropped ones among them."""
    return [json.loads(line) for line in data.splitlines()]


def is_of_whole_file(letter: Letter) -> bool:
    """Whether the letter stands for a file that can't be read at all."""
    return letter["line_number"] is None and letter["check"] != DROPPED


def rejected_lines(letters: Iterable[Letter], lines: int) -> int:
    """How many rejected lines the letters of one raw file stand for; `lines` are its data lines, all of which the
    letter without a line number stands for that tells of a file that can't be read."""
    letters = list(letters)
    if any(map(is_of_whole_file, letters)):
        return lines
    return sum(letter.get(DROPPED, 1) for letter in letters)


def drop(letters: Iterable[Letter], unwanted: Callable[[Letter], bool], lines: int, at: dt.datetime) -> bytes | None:
    """What the dead-letter file holds once the `unwanted` letters are dropped; None where there is none of them.

    `lines` as for `rejected_lines`; letters that were dropped before stay in the count.
    """
    letters = list(letters)
    going = [letter for letter in letters if letter["check"] != DROPPED and unwanted(letter)]
    if not going:
        return None
    gone = [*going, *(letter for letter in letters if letter["check"] == DROPPED)]
    staying = [letter for letter in letters if letter not in gone]
    count = rejected_lines(gone, lines)
    message = f"{count} rejected lines were dropped on the operator's command"
    summary = DeadLetter(str(going[0]["source_key"]), None, "", None, DROPPED, None, message)
    return _lines([*staying, {**_stamped(summary, at), DROPPED: count}])


def _stamped(letter: DeadLetter, at: dt.datetime) -> Letter:
    return {**asdict(letter), "rejected_at": at.isoformat(timespec="seconds").replace("+00:00", "Z")}


def _lines(letters: Iterable[Letter]) -> bytes:
    return b"".join(json.dumps(letter, ensure_ascii=False).encode() + b"\n" for letter in letters)
