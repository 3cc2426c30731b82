"""Asks the running service, as `bikeflow status` and `bikeflow systems` do."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ADDRESS_FILE = "http.address"
"""Below `data_dir`: the URL at which its service answers. One that was killed leaves it behind."""

_PATIENCE_SECONDS = 5.0
_OK = 200


def ask_status(data_dir: Path) -> dict[str, Any] | None:
    """The status of the service that works on `data_dir`, or None where none answers."""
    return _ask(data_dir, "/api/v1/status")


def ask_systems(data_dir: Path) -> list[dict[str, Any]] | None:
    """How each system of that service is doing, the worst first, or None where none answers."""
    document = _ask(data_dir, "/api/v1/systems")
    return None if document is None else list(document["systems"])


def _ask(data_dir: Path, path: str) -> dict[str, Any] | None:
    try:
        address = urlsplit((data_dir / ADDRESS_FILE).read_text(encoding="utf-8").strip())
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_PATIENCE_SECONDS)
        connection.request("GET", path)
        answer = connection.getresponse()
        document: object = json.loads(answer.read())
        connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return None
    # Somebody else may listen at that port by now.
    if answer.status != _OK or not isinstance(document, dict):
        return None
    return document if Path(str(document.get("data_dir"))).resolve() == data_dir.resolve() else None
