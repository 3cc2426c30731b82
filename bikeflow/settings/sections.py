"""What can be configured: one frozen model a section of `config.toml`, each field with unit, default and meaning.

`config.toml` at the top of the project documents the same fields for operators; a test holds the two together.
"""

from __future__ import annotations

import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

MiB = 1024 * 1024
DEFAULT_FEED_URL = "https://gladys.geog.ucl.ac.uk/bikesapi/load.php?scheme=wroclaw"
LogLevel = Literal["debug", "info", "warning", "error"]


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("must not be empty")
    return value


def _without_credentials(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("must not hold a user name or password: URLs are logged and shown")
    return url


def with_slash(prefix: str) -> str:
    """A key prefix as it is used: empty, or with one slash at its end and none at its beginning."""
    prefix = prefix.strip("/")
    return f"{prefix}/" if prefix else ""


def _divides_a_day(minutes: int) -> int:
    if not 1 <= minutes <= 1440 or 1440 % minutes:
        raise ValueError("must divide a day into equal parts: 5, 10, 15, 30, 60, 120, ... 1440")
    return minutes


def _time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('must be a time zone such as "Europe/Warsaw" or "UTC"') from None
    return name


Prefix = Annotated[str, AfterValidator(with_slash)]
UserPath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(Path.expanduser)]
Url = Annotated[
    str,
    Field(pattern=r"^https?://[^/\s]+\S*$", description="a URL that begins with http:// or https://"),
    AfterValidator(_without_credentials),
]
OptionalUrl = Annotated[
    str,
    Field(pattern=r"^(https?://[^/\s]+\S*)?$", description="a URL that begins with http:// or https://, or empty"),
    AfterValidator(_without_credentials),
]
Memory = Annotated[
    str, Field(pattern=r"^\d+(\.\d+)?\s*([KMGT]i?B)$", description='an amount of memory, such as "512MB" or "2GiB"')
]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic would take `workers = true` for 1
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation in (int, float):
            raise ValueError("must be a number, not true or false")
        return value


class FeedSettings(Section):
    """The upstream feed and how it is polled."""

    url: Url = DEFAULT_FEED_URL
    interval_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 20
    max_bytes: Annotated[int, Field(ge=1_000)] = 16 * MiB
    max_records: Annotated[int, Field(ge=1)] = 100_000
    max_ttl_seconds: Annotated[float, Field(ge=0, le=86_400)] = 86_400
    connections_per_host: Annotated[int, Field(ge=1, le=256)] = 8
    spool_max_bytes: Annotated[int, Field(ge=1_000_000)] = 1024 * MiB
    spool_memory_bytes: Annotated[int, Field(ge=0)] = 64 * MiB
    unusable_max_bytes: Annotated[int, Field(ge=0)] = 256 * MiB
    unusable_days: Annotated[int, Field(ge=1, le=3_650)] = 90
    clock_seconds: Annotated[float, Field(ge=0)] = 300
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    breaker_probe_seconds: Annotated[float, Field(gt=0)] = 60


class SystemRules(Section):
    """The rules of one system: what is not set is that of `[rules]`."""

    lat_min: Annotated[float, Field(ge=-90, le=90)] | None = None
    lat_max: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon_min: Annotated[float, Field(ge=-180, le=180)] | None = None
    lon_max: Annotated[float, Field(ge=-180, le=180)] | None = None
    future_seconds: Annotated[float, Field(ge=0)] | None = None
    stale_seconds: Annotated[float, Field(ge=0)] | None = None


class SystemSettings(Section):
    """One `[[systems]]` table: a bike-share system. What is not set is that of `[feed]`."""

    id: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
            description='a short name of a-z, 0-9, "_" and "-" that begins with a letter or digit',
        ),
    ]
    name: str = ""
    format: str = "wrm"
    url: Url
    prefix: Prefix | None = None
    timezone: Annotated[str, AfterValidator(_time_zone)] = "Europe/Warsaw"
    interval_seconds: Annotated[float, Field(ge=1, le=86_400)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] | None = None
    max_bytes: Annotated[int, Field(ge=1_000)] | None = None
    max_records: Annotated[int, Field(ge=1)] | None = None
    max_ttl_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    spool_max_bytes: Annotated[int, Field(ge=1_000_000)] | None = None
    rules: Annotated[SystemRules, Field(description="a table: write [systems.rules], its keys below it")] = (
        SystemRules()
    )


class StorageSettings(Section):
    """The object store that holds the lake."""

    backend: str = "local"
    bucket: str = ""
    endpoint_url: OptionalUrl = ""
    region: str = ""
    prefix: Prefix = "bike-data/gen_info/"
    access_key_id: SecretStr = SecretStr("")
    secret_access_key: SecretStr = SecretStr("")
    ca_bundle: UserPath | None = None
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 5
    read_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30
    max_connections: Annotated[int, Field(ge=1, le=256)] = 16
    cache_max_bytes: Annotated[int, Field(ge=0)] = 512 * MiB

    @model_validator(mode="after")
    def _s3_is_complete(self) -> StorageSettings:
        if self.backend == "s3":
            missing = [name for name in ("bucket", "access_key_id", "secret_access_key") if not getattr(self, name)]
            if missing:
                raise ValueError(f'backend = "s3" also needs {", ".join(missing)}')
        return self


class WatcherSettings(Section):
    """How often the store is looked at, and how many raw files may disappear from it without asking anybody."""

    poll_seconds: Annotated[float, Field(gt=0, le=3_600)] = 5
    reconcile_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900
    lists_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 600
    forget_files: Annotated[int, Field(ge=0)] = 10
    forget_percent: Annotated[float, Field(ge=0, le=100)] = 1


class ProcessingSettings(Section):
    """The processors, their queue, and how a day is cut into segments."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    queue_size: Annotated[int, Field(ge=1)] = 64
    segment_minutes: Annotated[int, AfterValidator(_divides_a_day)] = 60
    write_seconds: Annotated[float, Field(ge=0, le=3_600)] = 0
    seal_after_minutes: Annotated[float, Field(ge=0, le=43_200)] = 60
    engine: Literal["inline", "process", "dask"] = "inline"
    scheduler: Annotated[
        str,
        Field(
            pattern=r"^((tcp|tls|ws|wss)://[^/\s]+\S*)?$",
            description='the address of a Dask scheduler, such as "tcp://10.0.0.1:8786", or empty',
        ),
    ] = ""
    memory_limit: Annotated[
        str,
        Field(
            pattern=r"^(auto|\d+(\.\d+)?\s*([KMGT]i?B))$",
            description='an amount of memory, such as "512MB" or "2GiB", or "auto"',
        ),
    ] = "auto"

    @model_validator(mode="after")
    def _a_cluster_is_named(self) -> ProcessingSettings:
        if self.engine == "dask" and not self.scheduler:
            raise ValueError('engine = "dask" also needs scheduler')
        if self.engine != "inline" and self.write_seconds:
            raise ValueError('write_seconds needs engine = "inline": workers elsewhere write what they build')
        return self


class RetrySettings(Section):
    """How transient failures are tried again: exponential backoff with full jitter."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    initial_seconds: Annotated[float, Field(gt=0)] = 0.5
    max_seconds: Annotated[float, Field(gt=0)] = 30


class RulesSettings(Section):
    """When a row is flagged as odd (it is kept all the same)."""

    lat_min: Annotated[float, Field(ge=-90, le=90)] = 51.00
    lat_max: Annotated[float, Field(ge=-90, le=90)] = 51.25
    lon_min: Annotated[float, Field(ge=-180, le=180)] = 16.75
    lon_max: Annotated[float, Field(ge=-180, le=180)] = 17.25
    future_seconds: Annotated[float, Field(ge=0)] = 300
    stale_seconds: Annotated[float, Field(ge=0)] = 86_400

    @model_validator(mode="after")
    def _box_is_not_empty(self) -> RulesSettings:
        if self.lat_min >= self.lat_max or self.lon_min >= self.lon_max:
            raise ValueError("the service area is empty: lat_min must be below lat_max, lon_min below lon_max")
        return self


class WarehouseSettings(Section):
    """The analytics database."""

    path: UserPath | None = None
    wrm_system: str = ""
    mode: Literal["local", "s3", "hybrid"] = "local"
    upload_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60
    memory_limit: Memory = "512MB"
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    debounce_seconds: Annotated[float, Field(ge=0, le=60)] = 0.1
    forecast: bool = True

    @model_validator(mode="after")
    def _a_path_is_used(self) -> WarehouseSettings:
        if self.path is not None and self.mode == "s3":
            raise ValueError('mode = "s3" publishes in the bucket only: set no path, or mode = "hybrid"')
        return self


class PostgresSettings(Section):
    """A PostgreSQL that the latest tables and the hourly statistics are copied to, where one is named."""

    dsn: SecretStr = SecretStr("")
    schema_name: Annotated[str, Field(min_length=1, max_length=63)] = "bikeflow"


class HttpSettings(Section):
    """Where the dashboard, health, metrics and API are served, and under which names besides this machine's own.

    An empty `listen` turns them off.
    """

    listen: Annotated[
        str,
        Field(
            pattern=r"^(|(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):\d{1,5})$",
            description='a host and a port, such as "127.0.0.1:8080" or "[::1]:8080", or empty',
        ),
    ] = "127.0.0.1:8080"
    hosts: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._* -]*$", description='names such as "bikes.example.org", with spaces between'),
    ] = ""

    @field_validator("listen")
    @classmethod
    def _is_a_port(cls, value: str) -> str:
        if int(value.rpartition(":")[2] or 0) > 65_535:
            raise ValueError("the port must be at most 65535")
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host (without brackets) and port, or None where nothing is served."""
        host, colon, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if colon else None


class MapSettings(Section):
    """The map: from where it loads tiles, if it may load anything at all, and whom it names for them."""

    tile_url: Annotated[
        str,
        Field(
            pattern=r"^(https?://[^/\s{}]+/\S*\{z\}\S*|)$",
            description="a URL that begins with https:// and has {z}, {x} and {y} in its path, or empty",
        ),
        AfterValidator(_without_credentials),
    ] = ""
    tile_attribution: str = ""

    @model_validator(mode="after")
    def _tiles_are_attributed(self) -> MapSettings:
        if self.tile_url and not self.tile_attribution:
            raise ValueError("tile_url also needs tile_attribution: whoever draws the tiles wants to be named")
        if self.tile_url and not all(name in self.tile_url for name in ("{x}", "{y}")):
            raise ValueError("tile_url needs {z}, {x} and {y}")
        return self


class LogSettings(Section):
    """What is logged, and in which form (`auto`: console on a terminal, else logfmt)."""

    level: LogLevel = "info"
    format: Literal["auto", "console", "logfmt", "json"] = "auto"


class AlertsSettings(Section):
    """Whom to tell when something is wrong, and when.

    `urls` are those of Apprise, one a line or with spaces between; many hold a key or password, so all are secret.
    """

    urls: SecretStr = SecretStr("")
    cooldown_seconds: Annotated[float, Field(ge=60)] = 14_400
    grace_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300
    frozen_seconds: Annotated[float, Field(gt=0)] = 3_600
    spool_percent: Annotated[float, Field(gt=0, le=100)] = 50
    dead_letter_percent: Annotated[float, Field(ge=0, le=100)] = 5
    disk_free_bytes: Annotated[int, Field(ge=0)] = 1024 * MiB
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 30

    @field_validator("urls")
    @classmethod
    def _are_urls(cls, value: SecretStr) -> SecretStr:
        if not all(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", url) for url in value.get_secret_value().split()):
            raise ValueError("must be URLs of Apprise, such as ntfys://ntfy.sh/topic, one a line")
        return value

    @property
    def targets(self) -> list[str]:
        """The URLs, one by one; nothing of them may be shown but their schemes."""
        return self.urls.get_secret_value().split()


class DaemonSettings(Section):
    """How the service ends: work in hand gets this long after SIGTERM."""

    shutdown_seconds: Annotated[float, Field(gt=0, le=3_600)] = 20
