"""Seeded chance: the same call gives the same numbers on every machine and Python version."""

from __future__ import annotations

import random
import struct
from hashlib import blake2b


def dice(seed: int, what: str) -> random.Random:
    """A generator of its own for each purpose, so that drawing more for one changes nothing for the others."""
    return random.Random(f"{seed}/{what}")  # noqa: S311 - a simulation has to be repeatable, and holds no secret


def draws(seed: int, what: str, number: int) -> tuple[float, ...]:
    """Eight numbers in [0, 1) for the `number`-th occasion: no state, so that any moment can be asked for first."""
    digest = blake2b(f"{seed}/{what}/{number}".encode(), digest_size=32).digest()
    return tuple(word / 2**32 for word in struct.unpack("<8L", digest))
