"""The four real WRM snapshots that are part of the project."""

from __future__ import annotations

from pathlib import Path

REAL = Path(__file__).parents[1] / "data/wrm"
"""Holds dt=YYYY-MM-DD/wrm_stations_….txt, bytes as the predecessor's public repository has them."""
SNAPSHOTS = tuple(sorted(REAL.rglob("*.txt")))
