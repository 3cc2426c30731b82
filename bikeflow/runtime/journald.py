"""The journal's native protocol: a log line together with its fields, so that `journalctl TRACE_ID=...` finds it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "bikeflow"
_SEND_SECONDS = 1.0
# PRIORITY says the same as the level, and nobody's field may pass for the line itself.
_OUR_OWN = {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LEVEL"}


class Journal:
    """Sends to the journal's socket; the caller has another way for what does not get through."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)

    def send(self, message: str, priority: int, fields: Mapping[str, object]) -> bool:
        """Send a line with its syslog priority and its fields; False where the journal did not take it.

        Fields become journal fields of the same names in capitals; a list becomes one field for each of its items.
        """
        ours = [("MESSAGE", message), ("PRIORITY", str(priority)), ("SYSLOG_IDENTIFIER", IDENTIFIER)]
        data = b"".join(_encoded(name, value) for name, value in [*ours, *_named(fields)])
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_SEND_SECONDS)
                channel.sendto(data, self._path)
        except OSError:  # no journal here, it is being restarted, or the line is too long for a datagram
            return False
        return True


def _named(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in fields.items():
        name = re.sub("[^A-Z0-9_]", "_", key.upper()).lstrip("_0123456789")[:64]
        if not name or name in _OUR_OWN or value is None:
            continue
        many = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        for item in value if many and isinstance(value, Iterable) else [value]:
            yield name, str(item).lower() if isinstance(item, bool) else str(item)


def _encoded(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
    return b"%s=%s\n" % (name.encode(), data)
