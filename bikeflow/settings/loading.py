"""Loads the configuration: from the file, the environment and the command line to one checked `Settings`.

Precedence, lowest first: defaults, `$STATE_DIRECTORY`, the configuration file, the older environment names, systemd
credentials, `BIKEFLOW_SECTION__KEY`, the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError

from bikeflow.core.errors import ConfigError
from bikeflow.settings import sources
from bikeflow.settings.legacy import legacy_environment
from bikeflow.settings.model import FIELDS, SECRETS, Given, Layer, Settings
from bikeflow.settings.problems import invalid_values

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """A checked configuration, the origin of each setting by its flat name, and what the operator should know.

    `path` is the file that was read, or None; `notes` are one-line remarks on what was given and has no effect.
    """

    settings: Settings
    origins: Mapping[str, str]
    path: Path | None = None
    notes: tuple[str, ...] = ()


_ONE = ("feed.url", "storage.prefix")
"""Settings that only the one system of a configuration without `[[systems]]` has."""


def load_settings(
    config: Path | None = None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    files: bool = True,
) -> LoadedSettings:
    """Load and check the configuration; `overrides` are `section.key=value` from the command line.

    `files` says whether a configuration file is looked for. Raises ConfigError with one line for each problem.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    notes: list[str] = []
    path = sources.find_config(config, environ) if files else None
    given: Layer = {
        **sources.service_manager(environ),
        **(sources.toml_file(path, problems) if path else {}),
        **legacy_environment(environ, notes),
        **sources.credentials(environ, problems),
        **sources.environment(environ, problems),
        **sources.command_line(overrides, problems),
    }
    _choose_backend(given, notes)
    settings = _validated(given, problems)
    if settings.systems:
        notes += [
            f"{given[key].origin}: {key} is not used, since there are [[systems]]" for key in _ONE if key in given
        ]
    origins = {key: given[key].origin if key in given else DEFAULT for key in FIELDS}
    return LoadedSettings(settings, origins, path, tuple(notes))


def store_secrets() -> tuple[SecretStr, SecretStr] | None:
    """The store's access key id and secret key, as the environment or credentials alone have them; None: they do not.

    Raises ConfigError.
    """
    problems: list[str] = []
    given: Layer = {
        **legacy_environment(os.environ, []),
        **sources.credentials(os.environ, problems),
        **sources.environment(os.environ, problems),
    }
    if problems:
        raise ConfigError("\n".join(problems))
    both = [str(given[key].value) for key in ("storage.access_key_id", "storage.secret_access_key") if key in given]
    return (SecretStr(both[0]), SecretStr(both[1])) if len(both) == 2 else None


def _choose_backend(given: Layer, notes: list[str]) -> None:
    """Where no backend is set, a bucket means s3: older installations say nothing but the bucket and the keys."""
    if "storage.backend" in given:
        return
    bucket = given.get("storage.bucket")
    if bucket is not None and bucket.value:
        given["storage.backend"] = Given("s3", f"{bucket.origin} (a bucket is named)")
    elif keys := [given[key].origin for key in sorted(SECRETS & given.keys()) if key.startswith("storage.")]:
        notes.append(f"{', '.join(keys)}: not used, since no bucket is named; the lake is a local directory")


def _validated(given: Layer, problems: list[str]) -> Settings:
    top: dict[str, object] = {}
    sections: dict[str, dict[str, object]] = {}
    for key, value in given.items():
        section, _, name = key.rpartition(".")
        (sections.setdefault(section, {}) if section else top)[name] = value.value
    try:
        settings = Settings.model_validate(top | sections)
    except ValidationError as error:
        problems.extend(invalid_values(error, given))
    if problems:
        # raised outside the handler: pydantic's own text, as a context, could show a secret
        raise ConfigError("\n".join(problems))
    return settings
