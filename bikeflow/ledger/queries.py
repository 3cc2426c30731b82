"""The ledger's SQL, which lies in `queries.sql`: each query by its name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_BEGIN = re.compile(r"^-- (\w+) --\n", re.MULTILINE)


def query(name: str) -> str:
    """The statement of this name."""
    return all_queries()[name]


@cache
def all_queries() -> dict[str, str]:
    """Every statement by its name."""
    text = resources.files("bikeflow.ledger").joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = _BEGIN.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))
