"""The feed of Wrocław's city bikes (WRM): one CSV document with all stations and free bikes."""

from __future__ import annotations

from bikeflow.feeds.wrm.text import check_document, decode


class WrmFeed:
    """Documents in the contract's raw format."""

    def document(self, body: bytes, charset: str | None) -> str:
        """The document's text with its encoding repaired; raises `NotAFeed` for anything else."""
        from bikeflow.feeds.wrm.mojibake import repair  # noqa: PLC0415 - only a fetch needs ftfy, which takes 50 ms

        text = decode(body, charset)
        check_document(text)
        return repair(text)
