"""Raw files for tests, written by hand."""

from __future__ import annotations

HEADER = (
    "#id,timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec,name,lat,lon,bikes,spaces,installed,locked,temporary,"
    "total_docks,givesbonus_acceptspedelecs_fbbattlevel,pedelecs"
)
PACKED = "1748699405.471106|-7200|-3600"


def station(number: int = 15001, **changes: str) -> str:
    """A good station line; any field can be replaced by its name (`id` and `packed` too)."""
    fields = {
        "id": str(number),
        "packed": PACKED,
        "name": f"Plac {number}",
        "lat": "51.108004",
        "lon": "17.039528",
        "bikes": "5",
        "spaces": "11",
        "installed": "true",
        "locked": "false",
        "temporary": "false",
        "total_docks": "16",
        "battery": "false",
        "pedelecs": "0",
    }
    fields.update(changes)
    return ",".join(fields.values())


def bike(number: int = 603472, **changes: str) -> str:
    """A good line of a free-floating bike."""
    common = {"id": f"fb{number}", "name": f"BIKE {number}", "bikes": "1", "spaces": "0", "total_docks": "1"}
    return station(number, **{**common, "temporary": "true", "battery": "-1", **changes})


def raw_file(*lines: str, header: str = HEADER) -> str:
    """A raw file of these lines."""
    return "".join(f"{line}\n" for line in (header, *lines))
