"""The options that commands share, in groups, and what a command makes of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from bikeflow.core.errors import ConfigError
from bikeflow.core.scope import Scope
from bikeflow.feeds import check_formats
from bikeflow.runtime import log
from bikeflow.runtime.lock import DEMO_MARK
from bikeflow.settings import LoadedSettings, Settings, load_settings
from bikeflow.settings.systems import System
from bikeflow.store import check_backend

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SystemId = Annotated[
    str | None, typer.Option("--system", metavar="ID", help="Only this system (default: the only one, or all).")
]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer knows it: a parameter that is a dataclass, such as `Given`, is an option for each field."""
    signature = inspect.signature(command, eval_str=True)
    own = dict(signature.parameters)
    groups = {name: own.pop(name).annotation for name in [*own] if dataclasses.is_dataclass(own[name].annotation)}
    parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own.values()]
    for group in groups.values():
        types = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
            )
            for field in dataclasses.fields(group)
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        command(**values)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


@dataclasses.dataclass(frozen=True)
class Given:
    """Where the settings come from."""

    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Configuration file (else $BIKEFLOW_CONFIG, ./config.toml, /etc/bikeflow).",
        ),
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; may be repeated."),
    ] = None
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Where the state lies; short for --set data_dir=DIR."),
    ] = None

    def load(self, *more: str) -> LoadedSettings:
        """The configuration that these options, and `more` overrides, ask for; raises ConfigError.

        A demo's directory has the demo's settings, whatever the configuration says of the real lake: else a command on
        `data/demo` would work on a bucket.
        """
        given, data_dir = [*(self.overrides or ()), *more], self.data_dir
        if data_dir is not None:
            given.append(f"data_dir={data_dir}")
        if data_dir is None or not (data_dir / DEMO_MARK).exists():
            loaded = load_settings(self.config, given)
            check_formats(loaded.settings.all_systems)
            check_backend(loaded.settings.storage)
            data_dir = loaded.settings.data_dir
            if not (data_dir / DEMO_MARK).exists():
                return loaded
        demo = load_settings(None, [*given, f"data_dir={data_dir}"], {}, files=False)
        note = f"{data_dir} belongs to a demo: {self.config} does not hold there"
        return dataclasses.replace(demo, notes=(note,) if self.config else ())

    @property
    def settings(self) -> Settings:
        """The settings, for a command that only shows something; raises ConfigError."""
        return self.load().settings

    def start(self, *more: str) -> Settings:
        """The settings, with logging set up by them, for a command that works; raises ConfigError."""
        loaded = self.load(*more)
        log.configure(loaded.settings.log)
        for note in loaded.notes:
            log.get_logger().warning("setting_without_effect", note=note)
        return loaded.settings


@dataclasses.dataclass(frozen=True)
class Days:
    """A range of days, and the systems that are meant."""

    first: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day (default: the first there is).")
    ] = None
    last: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day, inclusive (default: the last).")
    ] = None
    system: SystemId = None

    def scope(self, settings: Settings) -> Scope:
        """The days and systems that the options name; raises `ConfigError`."""
        systems = frozenset(system.id for system in chosen_systems(settings, self.system))
        wanted = Scope(day_of("--from", self.first) or dt.date.min, day_of("--to", self.last) or dt.date.max, systems)
        if wanted.first > wanted.last:
            raise ConfigError(f"--from {self.first} is after --to {self.last}")
        return wanted


def day_of(option: str, text: str | None) -> dt.date | None:
    """The day that an option names, if it does; raises ConfigError."""
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{option} {text}: not a day; write it as YYYY-MM-DD, for example 2025-06-01") from error


def chosen_systems(settings: Settings, system_id: str | None) -> list[System]:
    """The system that the option names, or all; raises `ConfigError`."""
    found = [system for system in settings.all_systems if system_id in (None, system.id)]
    if not found:
        known = ", ".join(system.id for system in settings.all_systems)
        raise ConfigError(f"--system {system_id}: there is no such system; configured: {known}")
    return found


def start_hint(data_dir: Path) -> str:
    """What to do where `data_dir` holds nothing yet."""
    return demo_beside(data_dir) or "start with `bikeflow run` or `bikeflow demo`"


def demo_beside(data_dir: Path) -> str | None:
    """How to name the demo that lies at its usual place below `data_dir`, or None where there is none."""
    demo = data_dir / "demo"
    if not (demo / DEMO_MARK).exists():
        return None
    return f"found {demo}: add --data-dir {shlex.quote(str(demo))}"
