"""An independent reading of a raw file: plain Python, line by line, sharing no code with bikeflow.

It knows the contract's rules and nothing of columns, batches or caches. Multi-line records are out of its scope: texts
that it judges hold no line break inside quotes.
"""

from __future__ import annotations

import csv
import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_EVEN, Decimal, localcontext

WHOLE_COLUMNS = ("bikes", "spaces", "total_docks", "pedelecs")
BOOLEAN_COLUMNS = ("installed", "locked", "temporary")
EARLIEST_US = -9_223_372_022_400_000_000
"""The first time that DuckDB's timestamps can hold, in microseconds."""


def read(text: str) -> tuple[list[dict[str, object]], list[int]]:
    """Accepted rows (in the order of lines, with `line`) and the numbers of rejected lines."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    header = next(csv.reader([lines[0]]))
    rows: list[dict[str, object]] = []
    rejected: list[int] = []
    seen: set[str] = set()
    for number, line in enumerate(lines[1:], start=2):
        if line == "":
            continue
        row = judge(line, header)
        if row is None or row["station_id"] in seen:
            rejected.append(number)
            continue
        seen.add(str(row["station_id"]))
        rows.append({**row, "line": number})
    return rows, rejected


def judge(line: str, header: list[str]) -> dict[str, object] | None:
    """The row that a line gives, or None where it is rejected."""
    fields = next(csv.reader([line]))
    if len(fields) != len(header):
        return None
    named = dict(zip(header[2:], fields[2:], strict=True))
    packed = fields[1].split("|")
    if len(packed) != 3 or not fields[0] or not named["name"]:
        return None
    row: dict[str, object] = {"station_id": fields[0], "name": named["name"]}
    microseconds, lat, lon = microseconds_of(packed[0]), real(named["lat"]), real(named["lon"])
    differences = [whole(packed[1]), whole(packed[2])]
    if microseconds is None or lat is None or lon is None or None in differences:
        return None
    if abs(lat) > 90 or abs(lon) > 180 or not EARLIEST_US <= microseconds < 2**63 - 1:
        return None
    row["timestamp"] = microseconds
    row["gmt_local_diff_sec"], row["gmt_servertime_diff_sec"] = differences
    row["lat"], row["lon"] = lat, lon
    for column in WHOLE_COLUMNS:
        value = whole(named[column])
        if value is None or value < (1 if column == "total_docks" else 0):
            return None
        row[column] = value
    for column in BOOLEAN_COLUMNS:
        if named[column] not in ("true", "false"):
            return None
        row[column] = named[column] == "true"
    battery = named.get("givesbonus_acceptspedelecs_fbbattlevel", "")
    row["givesbonus_acceptspedelecs_fbbattlevel"] = battery == "true"
    row["battery_level"] = int(battery) if re.fullmatch(r"0*[0-9]{1,3}", battery) and int(battery) <= 100 else None
    return row


def flags(row: dict[str, object], file_us: int) -> list[str]:
    """What is odd about an accepted row by the default rules; `file_us` is its file's time."""
    lat, lon, bikes, docks = (float(str(row[name])) for name in ("lat", "lon", "bikes", "total_docks"))
    seconds = (int(str(row["timestamp"])) - file_us) / 1_000_000
    odd = {
        "outside_service_area": not (51.00 <= lat <= 51.25 and 16.75 <= lon <= 17.25),
        "over_capacity": bikes > docks,
        "future_timestamp": seconds > 300,
        "stale_timestamp": seconds < -86_400,
    }
    return [flag for flag, is_odd in odd.items() if is_odd]


def whole(text: str) -> int | None:
    """A whole number of 64 bits in plain ASCII decimals."""
    match = re.fullmatch(r"([+-]?)0*([0-9]+)", text)
    if match is None or len(match[2]) > 20:
        return None
    value = int(match[1] + match[2])
    return value if -(2**63) <= value < 2**63 else None


def real(text: str) -> float | None:
    """A finite number in plain ASCII decimals, exponent allowed."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return None
    value = float(text)
    return value if abs(value) < float("inf") else None


def microseconds_of(text: str) -> int | None:
    """Seconds as whole microseconds: the decimal text is rounded, half to even, and no float comes near it."""
    if real(text) is None:
        return None
    with localcontext(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN):
        return int((Decimal(text) * 1_000_000).to_integral_value(ROUND_HALF_EVEN))
