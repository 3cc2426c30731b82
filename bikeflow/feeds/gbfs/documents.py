"""GBFS documents as JSON: their arrays, their `ttl`, and what the auto-discovery document lists."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

DISCOVERY = "gbfs"
INFORMATION = "station_information"
STATIONS = "station_status"
VEHICLES = ("vehicle_status", "free_bike_status")
"""The document of vehicles, by its name since version 3.0 and before."""
TYPES = "vehicle_types"
SYSTEM = "system_information"
NAMES = (DISCOVERY, SYSTEM, INFORMATION, TYPES, STATIONS, *VEHICLES)
"""The documents that a snapshot holds, in their order in it."""

LONGEST_TTL_SECONDS = 86_400.0
PREFERRED_LANGUAGE = "en"

ARRAYS = {
    INFORMATION: ("stations",),
    STATIONS: ("stations",),
    TYPES: ("vehicle_types",),
    "vehicle_status": ("vehicles", "bikes"),
    "free_bike_status": ("bikes", "vehicles"),
}
"""Where each document has its records: the first of these names that it has."""


class NotJson(ValueError):
    """The document is no JSON."""


class NoArray(ValueError):
    """The document has no array of records."""


def read_json(body: bytes) -> Any:
    """The JSON in a document, in UTF-8, -16 or -32 with or without byte order mark; raises `NotJson`."""
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8: byte {error.object[error.start]:#04x} at {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise NotJson(f"not JSON: {str(error) or type(error).__name__}") from error


def array_of(name: str, document: Any) -> list[Any]:
    """The records of a document; raises `NoArray`."""
    data = document.get("data") if isinstance(document, dict) else None
    for key in ARRAYS[name]:
        found = data.get(key) if isinstance(data, dict) else None
        if isinstance(found, list):
            return found
    raise NoArray(f"no array data.{ARRAYS[name][0]}")


def read_array(name: str, body: bytes) -> list[Any]:
    """The records of a document; raises `NotJson`, `NoArray`."""
    return array_of(name, read_json(body))


def ttl_seconds(document: Any) -> float:
    """For how long a document says that it stays as it is; 0 where it does not say so."""
    ttl = document.get("ttl") if isinstance(document, dict) else None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not ttl > 0:
        return 0.0
    return float(min(ttl, sys.float_info.max))


def chosen_language(languages: Iterable[str]) -> str | None:
    """The language to take: English where it is offered, else the first in alphabetical order, else None."""
    offered = sorted(languages)
    return next((one for one in offered if one.lower().split("-")[0] == PREFERRED_LANGUAGE), next(iter(offered), None))


def listed_documents(discovery: Any, base: str) -> dict[str, str]:
    """The addresses of the documents that an auto-discovery document lists, by name; of one named twice, the first.

    `base` is its own address. Versions before 3.0 list them by language, later ones only once. Raises `NoArray`.
    """
    data = discovery.get("data") if isinstance(discovery, dict) else None
    if isinstance(data, dict) and "feeds" not in data:
        languages = {key: value for key, value in data.items() if isinstance(value, dict) and "feeds" in value}
        language = chosen_language(languages)
        data = languages[language] if language is not None else None
    feeds = data.get("feeds") if isinstance(data, dict) else None
    if not isinstance(feeds, list):
        raise NoArray("no list of feeds: not an auto-discovery document (gbfs.json)")
    found: dict[str, str] = {}
    for feed in feeds:
        name, url = (feed.get("name"), feed.get("url")) if isinstance(feed, dict) else (None, None)
        if isinstance(name, str) and isinstance(url, str):
            found.setdefault(name.removesuffix(".json"), absolute(url.strip(), base))
    return found


def absolute(url: str, base: str) -> str:
    """A listed address as one that can be asked; some feeds leave out the scheme, or all but the path."""
    if "://" in url:
        return url
    host = url.split("/", maxsplit=1)[0]
    if "." in host and not host.startswith(".") and "/" in url:
        return f"{urlsplit(base).scheme}://{url}"
    return urljoin(base, url)


def localized(value: object) -> str | None:
    """A text, or of a list of texts by language (since 3.0) the chosen one; None where there is none."""
    if isinstance(value, list):
        texts: Mapping[str, object] = {
            item["language"]: item.get("text")
            for item in reversed(value)
            if isinstance(item, dict) and isinstance(item.get("language"), str)
        }
        language = chosen_language(texts)
        value = None if language is None else texts[language]
    return value.encode(errors="replace").decode() if isinstance(value, str) and value.strip() else None
