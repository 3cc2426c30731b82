"""Content codings, undone piece by piece, so that a small body can't unfold into all memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

CHUNK_BYTES = 64 * 1024
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_GZIP_MAGIC = b"\x1f"
_BARE_DEFLATE = -zlib.MAX_WBITS


class BadEncoding(ValueError):
    """The body is not what its Content-Encoding says, or it ends too early."""


class Unpacker:
    """Unpacks one body with the content coding gzip, deflate or none, in pieces of at most `CHUNK_BYTES`."""

    def __init__(self, coding: str) -> None:
        coding = coding.strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise BadEncoding(f"the body has the content encoding {coding!r}, which was not asked for")
        self._packed = coding not in ("", "identity")
        self._deflate = coding == "deflate"
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that `data` adds to the body; take all of them before feeding more."""
        if not self._packed:
            yield data
            return
        try:
            yield from self._inflate(data)
        except zlib.error as error:
            raise BadEncoding(f"the body can't be unpacked ({error})") from error

    def finish(self) -> None:
        """Raise `BadEncoding` where the body has ended too early."""
        if self._packed and not self._inflater.eof:
            raise BadEncoding("the packed body ends too early")

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        if not self._started and data:
            self._started = True
            # "deflate" should come in a zlib wrapper, but some servers leave it out (RFC 9110, 8.4.1.2).
            if self._deflate and data[0] & 0x0F != zlib.DEFLATED:
                self._inflater = zlib.decompressobj(_BARE_DEFLATE)
        while True:
            if self._inflater.eof:
                # gzip allows several members in a row; what else follows the last one is padding
                if self._deflate or not data.startswith(_GZIP_MAGIC):
                    return
                self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
            piece = self._inflater.decompress(data, CHUNK_BYTES)
            data = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < CHUNK_BYTES:  # a full piece may have left more inside of zlib
                return
