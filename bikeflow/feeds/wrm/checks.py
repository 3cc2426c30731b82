"""What a typed line must fulfil: what is impossible is rejected, what is odd passes. A new rule is one `Check` here."""

from __future__ import annotations

from functools import cache

import pandera.pandas as pandera


@cache
def row_checks() -> pandera.DataFrameSchema:
    """The Pandera schema of typed rows."""

    def at_least(low: int) -> pandera.Check:
        return pandera.Check.ge(low, name="range", error=f"must be at least {low}")

    def within(limit: int) -> pandera.Check:
        return pandera.Check.in_range(-limit, limit, name="range", error=f"must lie within -{limit} and {limit}")

    not_empty = pandera.Check(lambda text: text != "", name="required", error="must not be empty")
    return pandera.DataFrameSchema(
        {
            "station_id": pandera.Column(checks=not_empty),
            "name": pandera.Column(checks=not_empty),
            "lat": pandera.Column(float, within(90)),
            "lon": pandera.Column(float, within(180)),
            "bikes": pandera.Column("int64", at_least(0)),
            "spaces": pandera.Column("int64", at_least(0)),
            "total_docks": pandera.Column("int64", at_least(1)),
            "pedelecs": pandera.Column("int64", at_least(0)),
        }
    )
