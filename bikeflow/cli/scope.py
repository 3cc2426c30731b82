"""The options that name systems and a range of days."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from bikeflow.core.errors import ConfigError

if TYPE_CHECKING:
    from bikeflow.core.scope import Scope
    from bikeflow.settings import Settings
    from bikeflow.settings.systems import System

First = Annotated[
    str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day (default: the first there is).")
]
Last = Annotated[
    str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day, inclusive (default: the last).")
]
SystemId = Annotated[
    str | None, typer.Option("--system", metavar="ID", help="Only this system (default: the only one, or all).")
]


def chosen_systems(settings: Settings, system_id: str | None) -> list[System]:
    """The system that the option names, or all; raises `ConfigError`."""
    found = [system for system in settings.all_systems if system_id in (None, system.id)]
    if not found:
        known = ", ".join(system.id for system in settings.all_systems)
        raise ConfigError(f"--system {system_id}: there is no such system; configured: {known}")
    return found


def chosen_id(settings: Settings, system_id: str | None) -> str | None:
    """The id that the option names, or None where it names none; raises `ConfigError` for an unknown one."""
    if system_id is not None:
        chosen_systems(settings, system_id)
    return system_id


def chosen_scope(settings: Settings, first: str | None, last: str | None, system_id: str | None) -> Scope:
    """The days and systems that the options name; raises `ConfigError`."""
    from bikeflow.core.scope import Scope

    systems = frozenset(system.id for system in chosen_systems(settings, system_id))
    wanted = Scope(_day("--from", first) or dt.date.min, _day("--to", last) or dt.date.max, systems)
    if wanted.first > wanted.last:
        raise ConfigError(f"--from {first} is after --to {last}")
    return wanted


def _day(option: str, text: str | None) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{option} {text}: not a day; write it as YYYY-MM-DD, for example 2025-06-01") from error
