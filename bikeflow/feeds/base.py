"""What the fetcher asks of a feed."""

from __future__ import annotations

from typing import Protocol


class Feed(Protocol):
    """One kind of upstream; it knows what its documents look like."""

    def document(self, body: bytes, charset: str | None) -> str:
        """The text to be stored for a downloaded body; raises `NotAFeed` where it is no document of this feed."""
        ...
