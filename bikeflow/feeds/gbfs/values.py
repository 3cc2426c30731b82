"""Values of GBFS records: what they may look like, and when they are null or impossible."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Mapping
from typing import Any

UNKNOWN = -1
"""What some feeds write for a number that they do not know."""

_DECIMAL = re.compile(r"-?\d{1,30}(\.\d{1,30})?", re.ASCII)
_MAX_WHOLE = 2**63 - 1
_UNSET_SECONDS = 86_400
_FIRST_MILLISECONDS = 100_000_000_000
"""Seconds do not come here before the year 5138, and milliseconds were here in 1973."""
_LAST_SECONDS = dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

Record = Mapping[str, Any]


class Rejected(ValueError):
    """A record is impossible; `column` is the feed's name of the field, `check` the kind of fault."""

    def __init__(self, column: str | None, check: str, value: object, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.check = check
        self.value = None if value is None else encodable(str(value))


def identity(record: Record, *names: str) -> str:
    """The id in the first of these fields that the record has; raises `Rejected` where there is none."""
    name, value = _first(record, names)
    if type(value) is str and value and value.isascii():
        return value  # nearly always; the rest is for oddities
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or value == "":
        raise Rejected(name, "required", value, f"{name} must not be empty")
    if not isinstance(value, str) or encodable(value) != value:
        raise Rejected(name, "type", value, f"{name} must be a text")
    return value


def encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can hold and UTF-8 can't."""
    return text.encode(errors="replace").decode()


def whole(record: Record, *names: str) -> int | None:
    """The count in the first of these fields that the record has; raises `Rejected`."""
    name, value = _first(record, names)
    if value is None:
        return None
    if type(value) is int and 0 <= value <= _MAX_WHOLE:
        return value  # nearly always
    number = _number(name, value)
    if number == UNKNOWN:
        return None
    if abs(number) > _MAX_WHOLE or number != int(number):
        raise Rejected(name, "type", value, f"{name} must be a whole number of 64 bits")
    if number < 0:
        raise Rejected(name, "range", value, f"{name} must be at least 0")
    return int(number)


def real(record: Record, name: str) -> float | None:
    """A number that can't be negative; raises `Rejected`."""
    value = record.get(name)
    if value is None:
        return None
    number = float(_number(name, value))
    if number == UNKNOWN:
        return None
    if number < 0:
        raise Rejected(name, "range", value, f"{name} must be at least 0")
    return number


def degrees(record: Record, name: str, limit: int) -> float | None:
    """A latitude or longitude; raises `Rejected`."""
    value = record.get(name)
    if value is None or value == "":
        return None
    number = float(_number(name, value))
    if not -limit <= number <= limit:
        raise Rejected(name, "range", value, f"{name} must lie within -{limit} and {limit}")
    return number


def truth(record: Record, name: str) -> bool | None:
    """A truth value, also written as 0 or 1 (before 2.0); raises `Rejected`."""
    value = record.get(name)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise Rejected(name, "type", value, f"{name} must be true or false")


def moment(record: Record, name: str) -> int | None:
    """A time in microseconds since 1970 (UTC), from seconds, milliseconds or RFC 3339; raises `Rejected`.

    None where it lies within the first day of 1970: the feed never knew it.
    """
    value = record.get(name)
    if value is None:
        return None
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        return _date_time(name, value)
    seconds = _number(name, value)
    if seconds == UNKNOWN or 0 <= seconds <= _UNSET_SECONDS:
        return None
    if seconds >= _FIRST_MILLISECONDS:
        seconds /= 1000
    if not 0 < seconds <= _LAST_SECONDS:
        raise Rejected(name, "range", value, f"{name} is no time that can be")
    return round(seconds * 1_000_000)


def share(value: object) -> int | None:
    """A share from 0 to 1 as a whole percentage; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return round(100 * value)


def _date_time(name: str, value: str) -> int:
    try:
        at = dt.datetime.fromisoformat(value)
        return (at.replace(tzinfo=at.tzinfo or dt.UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise Rejected(name, "type", value, f"{name} must be a time") from error


def _first(record: Record, names: tuple[str, ...]) -> tuple[str, object]:
    for name in names:
        value = record.get(name)
        if value is not None:
            return name, value
    return names[0], None


def _number(name: str, value: object) -> float:
    if type(value) is float and abs(value) <= sys.float_info.max:
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise Rejected(name, "type", value, f"{name} must be a number")
    return value
