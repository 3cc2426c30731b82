"""The dead letters of one raw file against those that a fresh parse gives."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields

from bikeflow.transform.dead_letters import DROPPED, Letter, is_of_whole_file
from bikeflow.transform.parsing import DeadLetter

_FIELDS = tuple(field.name for field in fields(DeadLetter))
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def read_strictly(data: bytes) -> list[Letter]:
    """The letters of a file; raises ValueError where they are not what we write."""
    letters = [json.loads(line) for line in data.decode().split("\n")[:-1]]
    if not letters or not data.endswith(b"\n"):
        raise ValueError("it is empty, or its last line has no end")
    for number, letter in enumerate(letters, start=1):
        if not isinstance(letter, dict):
            raise ValueError(f"line {number} is no object")
        wanted = {*_FIELDS, "rejected_at"} | ({DROPPED} if letter.get("check") == DROPPED else set())
        if letter.keys() != wanted:
            raise ValueError(f"line {number} does not have the fields of a dead letter")
        if not _is_time(letter["rejected_at"]):
            raise ValueError(f"line {number}: rejected_at is no time")
    return letters


def letters_fault(
    letters: Sequence[Letter], fresh: Sequence[DeadLetter], lines: int, *, same_words: bool
) -> str | None:
    """What is wrong with a raw file's letters; None where each is as it should be, or was dropped and counted.

    `fresh` are those of a fresh parse, `lines` the file's data lines. `same_words` is false where another version may
    have written them, with other words in their messages.
    """
    ignored = set() if same_words else {"message"}
    expected = [{name: value for name, value in asdict(letter).items() if name not in ignored} for letter in fresh]
    found = [
        {name: letter[name] for name in _FIELDS if name not in ignored}
        for letter in letters
        if letter["check"] != DROPPED
    ]
    remaining = iter(expected)
    for letter in found:
        if letter not in remaining:  # an iterator: letters keep their order, and each is used once
            return f"the letter of line {letter['line_number'] or 'none'} is not that of a fresh parse"
    summaries = [letter for letter in letters if letter["check"] == DROPPED]
    missing = [letter for letter in expected if letter not in found]
    dropped = sum(lines if is_of_whole_file(letter) else 1 for letter in missing)
    if dropped != sum(letter[DROPPED] for letter in summaries) or bool(missing) != bool(summaries):
        return f"{len(missing)} dead letters are missing, and not dropped"
    return None


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(_STAMP.fullmatch(text)) and bool(dt.datetime.fromisoformat(text))
    except ValueError:
        return False
