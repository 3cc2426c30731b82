"""The columns of the WRM's CSV, in the names of its header."""

from __future__ import annotations

PACKED = "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"
BATTERY = "givesbonus_acceptspedelecs_fbbattlevel"
WHOLE = ("bikes", "spaces", "total_docks", "pedelecs")
REAL = ("lat", "lon")
BOOLEAN = ("installed", "locked", "temporary")
REQUIRED = ("name", *REAL, "bikes", "spaces", *BOOLEAN, "total_docks", "pedelecs")
"""The columns that a header must name after the id and the packed column; `BATTERY` is optional."""
