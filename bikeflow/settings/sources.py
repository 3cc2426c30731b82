"""Where settings come from: each function reads one source into a layer and adds what is wrong to `problems`."""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from bikeflow.core.errors import ConfigError
from bikeflow.settings.model import (
    CONFIG_VARIABLE,
    CREDENTIALS,
    ENV_PREFIX,
    ENVIRONMENT,
    FIELDS,
    FILE_ONLY,
    SECRETS,
    Given,
    Layer,
)
from bikeflow.settings.problems import nearest, nearest_key, shown, ways_to_give_secret

SEARCHED = (Path("config.toml"), Path("/etc/bikeflow/config.toml"))


def find_config(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file to read: the one asked for, which must exist, else the first that is found, else None."""
    asked = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    candidates = [asked.expanduser()] if asked else SEARCHED
    try:
        found = next((path for path in candidates if path.is_file()), None)
    except OSError as error:
        raise ConfigError(f"{error.filename}: can't be read: {error.strerror}") from None
    if asked and found is None:
        raise ConfigError(f"{asked}: no such file (named by {'--config' if config else CONFIG_VARIABLE})")
    return found


def toml_file(path: Path, problems: list[str]) -> Layer:
    """The settings in a TOML file; a file that can't be read raises ConfigError with the line and column."""
    try:
        text = path.read_text(encoding="utf-8")
        data, lines = tomllib.loads(text), _key_lines(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        where = f"{path}:{at[1]}:{at[2]}" if at else str(path)
        raise ConfigError(f"{where}: not valid TOML: {str(error)[: at.start()] if at else error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None

    layer: Layer = {}
    for key, value in _flat(data, path, problems):
        origin = f"{path}:{lines[key]}" if key in lines else str(path)
        if key in SECRETS:
            problems.append(f"{origin}: {key} is a secret and must not stand in a file; {ways_to_give_secret(key)}")
        elif key in FIELDS:
            layer[key] = Given(value, origin)
        else:
            problems.append(f"{origin}: unknown key {shown(key)}{nearest_key(key)}")
    return layer


def _flat(data: Mapping[str, object], path: Path, problems: list[str]) -> Iterable[tuple[str, object]]:
    sections = {key.partition(".")[0] for key in FIELDS if "." in key}
    for name, value in data.items():
        is_list = isinstance(value, list) and all(isinstance(item, dict) for item in value)
        if name in FILE_ONLY and not is_list:
            problems.append(f"{path}: {name} is a list of tables: write [[{name}]] on a line of its own for each")
        elif isinstance(value, dict) and name in sections:
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        elif isinstance(value, dict):
            problems.append(f"{path}: unknown section {shown(name)}{nearest(name, sections)}")
        elif name in sections:
            problems.append(f"{path}: {name} is a section: write [{name}] on a line of its own, its keys below it")
        else:
            yield name, value


def _key_lines(text: str) -> dict[str, int]:
    """On which line each key stands; keys in a form that this does not know (inline tables) are left out."""
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w-]+)\s*\]", line):
            section = f"{header[1]}."
        elif key := re.match(r"\s*([\w-]+(?:\.[\w-]+)?)\s*=", line):
            lines.setdefault(section + key[1], number)
    return lines


def service_manager(environ: Mapping[str, str]) -> Layer:
    """The state directory that systemd made for the service (the first, where it made several)."""
    directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return {"data_dir": Given(directory, "env STATE_DIRECTORY")} if directory else {}


def credentials(environ: Mapping[str, str], problems: list[str]) -> Layer:
    """The secrets in systemd's `$CREDENTIALS_DIRECTORY`; other files there are not ours."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    layer: Layer = {}
    for name, key in CREDENTIALS.items() if directory else ():
        file = Path(directory or "", name)
        try:
            text, mode = file.read_text(encoding="utf-8").strip(), file.stat().st_mode
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"credential {name}: can't be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}")
            continue
        if not text:
            problems.append(f"credential {name}: the file is empty")
        elif mode & stat.S_IROTH:
            problems.append(f"credential {name}: every user of this machine can read it; chmod o-r {file}")
        else:
            layer[key] = Given(text, f"credential {name}")
    return layer


def environment(environ: Mapping[str, str], problems: list[str]) -> Layer:
    """The variables `BIKEFLOW_SECTION__KEY`; one that names no setting is a problem."""
    layer: Layer = {}
    for name, value in environ.items():
        if name in ENVIRONMENT:
            layer[ENVIRONMENT[name]] = Given(value, f"env {name}")
        elif name.startswith(ENV_PREFIX) and name != CONFIG_VARIABLE:
            problems.append(f"env {name}: unknown variable{nearest(name.upper(), [*ENVIRONMENT, CONFIG_VARIABLE])}")
    return layer


def command_line(overrides: Iterable[str], problems: list[str]) -> Layer:
    """The `section.key=value` of the command line; the last of the same key counts."""
    layer: Layer = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        key = key.strip()
        if not equals:
            problems.append(f'--set {shown(override)}: must have the form "section.key=value"')
        elif key in FILE_ONLY:
            problems.append(f"--set {key}: only a configuration file can hold [[{key}]]")
        elif key in SECRETS:
            problems.append(f"--set {key}: a secret would be seen in the process list; {ways_to_give_secret(key)}")
        elif key in FIELDS:
            layer[key] = Given(value, f"--set {key}")
        else:
            problems.append(f"--set: unknown key {shown(key)}{nearest_key(key)}")
    return layer
