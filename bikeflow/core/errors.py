"""Every error that bikeflow raises on purpose, below one root.

Adapters translate their libraries' errors into `Transient` or `Permanent`; roles decide what to do by these two
alone. Anything else that escapes is a bug and ends the process loudly.
"""

from __future__ import annotations


class BikeflowError(Exception):
    """Root of all expected errors; its text is fit for people: one line that says what to do.

    Of a download that failed, `reason` is a word for programs, and `status` the HTTP status of the answer, if any.
    """

    reason: str = ""
    status: int | None = None


class ConfigError(BikeflowError):
    """The configuration is wrong; the text names the file, the key and what is allowed (exit code 2)."""


class InUse(BikeflowError):
    """Another bikeflow process works on the same `data_dir`."""


class Transient(BikeflowError):
    """It may work when tried again.

    `retry_after_seconds` is the wait that the other side asked for, or None.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Permanent(BikeflowError):
    """Trying again will not help until somebody changes something."""


class NotFound(Permanent):
    """The store holds no object under this key."""


class NotAFeed(Permanent):
    """The upstream answered, but with something that is no feed document; `body` is what it sent.

    `raw` is the raw object that it would have become (empty: the body), for when the format understands it.
    """

    def __init__(self, message: str, *, body: bytes = b"", raw: bytes = b"") -> None:
        super().__init__(message)
        self.body = body
        self.raw = raw
