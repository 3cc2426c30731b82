"""`bikeflow check-config`: the effective configuration, and where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator

import typer

from bikeflow.cli.options import Given, Json, grouped
from bikeflow.cli.results import echo_json
from bikeflow.settings import LoadedSettings, public_values


@grouped
def check_config(given: Given, as_json: Json = False) -> None:
    """Show the settings in force, and their origins.

    Exit code 2 where the configuration is wrong. Secrets are shown as (set) or (not set) only.
    """
    loaded = given.load()
    if as_json:
        values = public_values(loaded.settings)
        settings = {key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()}
        path = None if loaded.path is None else str(loaded.path)
        echo_json({"config": path, "notes": list(loaded.notes), "settings": settings}, indent=2)
    else:
        typer.echo(_listing(loaded))


def _listing(loaded: LoadedSettings) -> str:
    """The configuration as a TOML file would say it, each line with its origin as a comment."""
    lines = [f"# configuration file: {loaded.path or 'none'}"]
    lines += [f"# note: {note}" for note in loaded.notes]
    values = public_values(loaded.settings)
    del values["systems"]  # as tables, below
    shown = {key: _setting(key, value) for key, value in values.items()}
    width = max(len(line) for line in shown.values() if len(line) <= 60)
    section = ""
    for key, line in shown.items():
        if (home := key.rpartition(".")[0]) != section:
            section = home
            lines += ["", f"[{section}]"]
        lines.append(f"{line:<{width}}  # {loaded.origins[key]}")
    return "\n".join([*lines, *_systems(loaded)])


def _systems(loaded: LoadedSettings) -> Iterator[str]:
    """Each `[[systems]]` table, complete: with what it takes from `[feed]` and `[rules]`."""
    for number, table in enumerate(loaded.settings.systems):
        system = loaded.settings.all_systems[number]
        own = {"name": system.name, "prefix": system.prefix, **system.feed.model_dump()}
        yield from ("", f"[[systems]]  # {loaded.origins['systems']}")
        for key in type(table).model_fields:
            if key != "rules":
                yield _setting(key, own.get(key, getattr(table, key)))
        yield from ("", "[systems.rules]", *(_setting(key, value) for key, value in system.rules.model_dump().items()))


def _setting(key: str, value: object) -> str:
    name = key.rpartition(".")[2]
    if value is None:
        return f"#{name} ="
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    hidden = value in ("(set)", "(not set)")
    return f"{name} = {value if hidden else json.dumps(value, ensure_ascii=False)}"
