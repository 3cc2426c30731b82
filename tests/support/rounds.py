"""How many rounds a test makes of one kind: few, or many with `--long`, as CI runs them."""

from __future__ import annotations

import os

VARIABLE = "TEST_LONG"
"""Set by `--long`; the workers that run tests in parallel inherit it."""


def rounds(few: int, many: int) -> int:
    """The number of examples, kills, readings and the like."""
    return many if os.environ.get(VARIABLE) else few
