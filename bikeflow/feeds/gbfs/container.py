"""The raw object of a snapshot: a zip with every document as it was served, and `snapshot.json` about them.

See README.md for its form. The bytes are a pure function of the documents and of what is told of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from bikeflow.feeds.gbfs.documents import NAMES, NotJson, read_json
from bikeflow.settings.systems import public_url

MANIFEST = "snapshot.json"
FORM = "bikeflow gbfs snapshot 1"
MAX_UNPACKED_BYTES = 1024**3
"""A raw object whose documents are larger is not unpacked: some kilobytes can unfold into all memory."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644 << 16
_UNIX = 3
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, KeyError)
"""What reading a damaged or foreign archive may raise."""


class NotASnapshot(ValueError):
    """The object is no archive of GBFS documents, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a snapshot; `body` is None where it could not be fetched, and `error` says why.

    Times are texts of RFC 3339 in UTC; headers that the answer did not have are empty.
    """

    name: str
    url: str
    body: bytes | None
    fetched_at: str = ""
    checked_at: str = ""
    status: int | None = None
    content_type: str = ""
    etag: str = ""
    last_modified: str = ""
    error: str | None = None


def pack(documents: Iterable[Document]) -> bytes:
    """The raw object of these documents."""
    ordered = sorted(documents, key=lambda document: (NAMES.index(document.name), document.url))
    about = {"form": FORM, "documents": [_entry(document) for document in ordered]}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.writestr(_member(MANIFEST), json.dumps(about, ensure_ascii=False, indent=1).encode())
        for document in ordered:
            if document.body is not None:
                archive.writestr(_member(_file_name(document)), document.body)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The documents in a raw object, by their names in GBFS; raises `NotASnapshot`."""
    with _opened(data) as archive:
        names = set(archive.namelist())
        files = {name: archive.read(f"{name}.json") for name in NAMES if f"{name}.json" in names}
    if not files and MANIFEST not in names:
        raise NotASnapshot("a zip archive without GBFS documents")
    return files


def manifest(data: bytes) -> list[Mapping[str, object]]:
    """What `snapshot.json` tells of each document; empty where there is none. Raises `NotASnapshot`."""
    with _opened(data) as archive:
        about = json.loads(archive.read(MANIFEST)) if MANIFEST in archive.namelist() else {"documents": []}
    documents: list[Mapping[str, object]] = about["documents"]
    return documents


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[zipfile.ZipFile]:
    """The archive in a raw object; what goes wrong while it is read is `NotASnapshot`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise NotASnapshot(f"its documents are larger than {MAX_UNPACKED_BYTES} bytes")
            yield archive
    except NotASnapshot:
        raise
    except _DAMAGE as error:
        raise NotASnapshot(f"no readable zip archive: {str(error) or type(error).__name__}") from error


Lasting = dict[str, tuple[bytes, bytes]]
"""By name, the digest of a document, and that of what lasts in it: all but `last_updated` and `ttl`."""


def fingerprint(data: bytes, known: Lasting | None = None) -> str:
    """The same for two snapshots that differ in nothing but `last_updated` and `ttl` (and in how they were fetched).

    `known` is what the last call has left there: most documents are the same in the next snapshot, and need not be read
    again. Raises `NotASnapshot`.
    """
    digest, known = hashlib.sha256(), {} if known is None else known
    for name, body in unpack(data).items():
        content = hashlib.sha256(body).digest()
        if name not in known or known[name][0] != content:
            known[name] = content, hashlib.sha256(_lasting(body)).digest()
        digest.update(name.encode() + known[name][1])
    return digest.hexdigest()


def _lasting(body: bytes) -> bytes:
    try:
        document = read_json(body)
    except NotJson:
        return body
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key not in ("last_updated", "ttl")}
    return json.dumps(document, sort_keys=True).encode()


def _entry(document: Document) -> dict[str, object]:
    entry: dict[str, object] = asdict(document)
    del entry["body"]
    entry["url"] = public_url(document.url)  # its query may hold a key
    return {**entry, "file": None if document.body is None else _file_name(document)}


def _file_name(document: Document) -> str:
    return f"{document.name}.json"


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = _UNIX  # the same on every machine
    info.external_attr = _FILE_MODE
    return info
