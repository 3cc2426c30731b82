"""What the service tells systemd of itself: sd_notify(3), the protocol of units with Type=notify."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_SEND_SECONDS = 1.0
_STATUS_BYTES = 1_000


class Notifier:
    """Sends to the service manager; every call does nothing where there is none.

    `address` is that of the manager's datagram socket, "@" for an abstract one; `watchdog_seconds` is after how long
    without `watchdog()` it takes the process for stuck, or None where it does not look.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._last_status = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """The notifier for the manager that $NOTIFY_SOCKET and $WATCHDOG_USEC name, if they do."""
        given = os.environ if environ is None else environ
        microseconds = given.get("WATCHDOG_USEC", "")
        # The variable may be meant for another process, such as a wrapper that is the unit's main one.
        meant = given.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        seconds = int(microseconds) / 1e6 if meant and microseconds.isdigit() and int(microseconds) else None
        return cls(given.get("NOTIFY_SOCKET") or None, seconds)

    def ready(self) -> None:
        """The start, or a reload, is over: all works."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready()` has to follow, whether it succeeds or not."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The service has made progress."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One sentence for `systemctl status`; the same one again is not sent."""
        line = " ".join(text.split()).encode()[:_STATUS_BYTES].decode(errors="ignore")
        if line != self._last_status:
            self._last_status = line
            self._send(f"STATUS={line}")

    def extend_timeout(self, seconds: float) -> None:
        """The start, reload or stop at hand may take this long from now on, whatever the unit says."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        # A manager that is gone or busy must not take the service with it.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(_SEND_SECONDS)
            channel.sendto("\n".join(assignments).encode(), self._address)
