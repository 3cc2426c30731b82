"""Asks the running service, as `bikeflow status` does."""

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
    try:
        address = urlsplit((data_dir / ADDRESS_FILE).read_text(encoding="utf-8").strip())
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_PATIENCE_SECONDS)
        connection.request("GET", "/api/v1/status")
        answer = connection.getresponse()
        document: object = json.loads(answer.read())
        connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return None
    # Somebody else may listen at that port by now.
    if answer.status != _OK or not isinstance(document, dict):
        return None
    return document if Path(str(document.get("data_dir"))).resolve() == data_dir.resolve() else None
