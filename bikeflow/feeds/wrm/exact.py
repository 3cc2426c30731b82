"""The exact reading of one line: the contract's rules for fields, types and numbers, in plain Python.

This is the reference. The columnar path takes only what it is sure about and leaves everything else to this one;
property tests hold the two together.
"""

from __future__ import annotations

import math
import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal

from bikeflow.feeds.wrm.document import BATTERY, BOOLEAN, PACKED, REAL, WHOLE, Header, Record, Rejected

_WHOLE = re.compile(r"([+-]?)0*([0-9]{1,19})")
_REAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BATTERY = re.compile(r"0*([0-9]{1,3})")
_INT64 = range(-(2**63), 2**63)
# DuckDB's times begin with 22 December 290309 BC; it keeps the end of the range for infinity.
MICROSECONDS = range(-9_223_372_022_400_000_000, 2**63 - 1)
MICRO = 1_000_000
_UNROUNDED = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def typed(record: Record, header: Header) -> dict[str, object]:
    """Split and type one line: a row in the columns of `columnar.TYPED`, but for its document.

    Raises `Rejected` with the first rule that it breaks. Ranges are Pandera's to check.
    """
    fields = record.fields
    if len(fields) != header.width:
        raise Rejected(f"{len(fields)} fields instead of {header.width}", check="field_count", value=str(len(fields)))
    served = {name: fields[position] for name, position in header.positions}
    for column, text in (("station_id", fields[0]), ("name", served["name"])):
        if not text:
            raise _wrong_type(text, column, "text")
    timestamp, local, server = _packed(fields[1])
    return {
        "station_id": fields[0],
        "name": served["name"],
        "timestamp": timestamp,
        "gmt_local_diff_sec": local,
        "gmt_servertime_diff_sec": server,
        **{column: _real(served[column], column) for column in REAL},
        **{column: _whole(served[column], column) for column in WHOLE},
        **{column: _boolean(served[column], column) for column in BOOLEAN},
        BATTERY: served.get(BATTERY),
        "line": record.line_number,
    }


def battery_level(served: str | None) -> int | None:
    """The battery percentage that the shared column holds: a whole number from 0 to 100, else None."""
    match = _BATTERY.fullmatch(served or "")
    return int(match[1]) if match and int(match[1]) <= 100 else None


def _packed(text: str) -> tuple[int, int, int]:
    try:
        exact, *differences = text.split("|")
        seconds = _real(exact, PACKED)
        local, server = (_whole(difference, PACKED) for difference in differences)
    except ValueError as error:  # too few, too many, or one is no number
        raise Rejected("must be three numbers joined by |", check="packed", column=PACKED, value=text) from error
    microseconds = _microseconds(exact, seconds)
    if microseconds not in MICROSECONDS:
        raise Rejected("is no time that a timestamp can hold", check="packed", column=PACKED, value=text)
    return microseconds, local, server


def _microseconds(text: str, seconds: float) -> int:
    """The text's seconds as microseconds, rounded half to even; `seconds` is about the same.

    A float holds seven or more decimals of today's times only roughly, so the text itself is rounded.
    """
    if abs(seconds) * MICRO < 0.1:  # its exponent may be more than Decimal takes
        return 0
    return round(Decimal(text).scaleb(6, _UNROUNDED))


def _whole(text: str, column: str) -> int:
    # Python refuses to convert thousands of digits; leading zeros aside, 19 are enough for 64 bits.
    if (match := _WHOLE.fullmatch(text)) and (value := int(match[1] + match[2])) in _INT64:
        return value
    raise _wrong_type(text, column, "a whole number of 64 bits")


def _real(text: str, column: str) -> float:
    if _REAL.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    raise _wrong_type(text, column, "a finite number")


def _boolean(text: str, column: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise _wrong_type(text, column, "true or false")


def _wrong_type(text: str, column: str, wanted: str) -> Rejected:
    if not text:
        return Rejected(f"{column} must not be empty", check="required", column=column, value=text)
    return Rejected(f"{column} must be {wanted}", check="type", column=column, value=text)
