"""The options that commands share, and how a command gets its settings from them."""

from __future__ import annotations

import shlex
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from bikeflow.settings import LoadedSettings, Settings

Result = TypeVar("Result")
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration file (else $BIKEFLOW_CONFIG, ./config.toml, /etc/bikeflow).",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; may be repeated.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Where the state lies; short for --set data_dir=DIR.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def start_hint(data_dir: Path) -> str:
    """What to do where `data_dir` holds nothing yet."""
    return demo_beside(data_dir) or "start with `bikeflow run` or `bikeflow demo`"


def demo_beside(data_dir: Path) -> str | None:
    """How to name the demo that lies at its usual place below `data_dir`, or None where there is none."""
    from bikeflow.lock import DEMO_MARK

    demo = data_dir / "demo"
    if not (demo / DEMO_MARK).exists():
        return None
    return f"found {demo}: add --data-dir {shlex.quote(str(demo))}"


def complete(work: Coroutine[object, object, Result]) -> Result:
    """Run a command's asynchronous work to its end."""
    import asyncio  # `bikeflow --help` does without

    return asyncio.run(work)


def load(config: Path | None, overrides: list[str] | None, data_dir: Path | None) -> LoadedSettings:
    """The configuration that these options ask for; raises ConfigError.

    A demo's directory has the demo's settings, whatever the configuration says of the real lake: else a command on
    `data/demo` would work on a bucket.
    """
    import dataclasses

    from bikeflow.lock import DEMO_MARK
    from bikeflow.settings import load_settings

    given = [*(overrides or ()), *([] if data_dir is None else [f"data_dir={data_dir}"])]
    if data_dir is None or not (data_dir / DEMO_MARK).exists():
        loaded = load_settings(config, given)
        data_dir = loaded.settings.data_dir
        if not (data_dir / DEMO_MARK).exists():
            return loaded
    demo = load_settings(None, [*given, f"data_dir={data_dir}"], {}, files=False)
    note = f"{data_dir} belongs to a demo: {config} does not hold there"
    return dataclasses.replace(demo, notes=(note,) if config else ())


def start(config: Path | None, overrides: list[str] | None, data_dir: Path | None) -> Settings:
    """Load the configuration and set up logging by it: how a command that works, rather than shows, begins."""
    from bikeflow import log
    from bikeflow.memory import economise

    economise()
    loaded = load(config, overrides, data_dir)
    log.configure(loaded.settings.log)
    for note in loaded.notes:
        log.get_logger().warning("setting_without_effect", note=note)
    return loaded.settings
