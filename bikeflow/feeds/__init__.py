"""The formats of upstreams that bikeflow reads. A new one is one folder here and one line in `_FORMATS`.

It imports `settings` and `core`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bikeflow.core.errors import ConfigError
from bikeflow.core.layout import Layout
from bikeflow.feeds.base import Format
from bikeflow.feeds.gbfs import GbfsFormat
from bikeflow.feeds.wrm import WrmFormat
from bikeflow.settings.systems import System

_FORMATS: Mapping[str, Callable[[System], Format]] = {
    "wrm": WrmFormat,
    "gbfs": GbfsFormat,
}

__all__ = ["Format", "check_formats", "format_of", "layout_of"]


def format_of(system: System) -> Format:
    """A new instance of the system's format; raises ConfigError where there is none of that name."""
    check_formats([system])
    return _FORMATS[system.format](system)


def layout_of(system: System) -> Layout:
    """Where the system's objects lie; raises ConfigError as `format_of` does."""
    found = format_of(system)
    return Layout(system.id, system.prefix, found.raw_stem, found.raw_suffix)


def check_formats(systems: Iterable[System]) -> None:
    """Raise ConfigError where a system has a format that does not exist."""
    known = ", ".join(f'"{name}"' for name in _FORMATS)
    wrong = [system for system in systems if system.format not in _FORMATS]
    if wrong:
        lines = [f'system "{one.id}": format = "{one.format}": must be one of {known}' for one in wrong]
        raise ConfigError("\n".join(lines))
