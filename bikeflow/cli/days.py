"""The options that name a range of days."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated

import typer

from bikeflow.core.errors import ConfigError

First = Annotated[
    str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day (default: the first there is).")
]
Last = Annotated[
    str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day, inclusive (default: the last).")
]


@dataclass(frozen=True, slots=True)
class Days:
    """A range of partitions, both ends included."""

    first: dt.date
    last: dt.date

    def __contains__(self, day: object) -> bool:
        return isinstance(day, dt.date) and self.first <= day <= self.last


def days(first: str | None, last: str | None) -> Days:
    """The range that the options name; raises `ConfigError`."""
    wanted = Days(_day("--from", first) or dt.date.min, _day("--to", last) or dt.date.max)
    if wanted.first > wanted.last:
        raise ConfigError(f"--from {first} is after --to {last}")
    return wanted


def _day(option: str, text: str | None) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{option} {text}: not a day; write it as YYYY-MM-DD, for example 2025-06-01") from error
