"""The raw object: verbatim, deterministic, readable by others."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bikeflow.feeds.gbfs import container
from bikeflow.feeds.gbfs.container import Document, Lasting, NotASnapshot, fingerprint, manifest, pack, unpack
from tests.support.gbfs import HARBOUR, documents, packed, recordings

STATUS = b'{"last_updated": 1, "ttl": 60, "data": {"stations": [{"station_id": "a", "num_bikes_available": 3}]}}'


def test_every_document_is_kept_byte_for_byte_whatever_it_is() -> None:
    bodies = {"station_status": STATUS, "station_information": b"\xef\xbb\xbf{\xc0\x00", "system_information": b""}
    assert unpack(packed(bodies)) == bodies


def test_the_same_documents_in_any_order_give_the_same_bytes() -> None:
    bodies = documents(HARBOUR)
    assert packed(bodies) == packed(dict(reversed(bodies.items())))


def test_a_standard_tool_opens_it(tmp_path: Path) -> None:
    (tmp_path / "one.zip").write_bytes(packed(documents(HARBOUR)))
    subprocess.run([sys.executable, "-m", "zipfile", "-e", "one.zip", "out"], cwd=tmp_path, check=True)
    for path in HARBOUR.glob("*.json"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_it_tells_where_each_document_comes_from_and_why_one_is_missing() -> None:
    documents = [
        Document("station_status", "https://a/s", STATUS, "2025-05-31T13:50:05Z", "2025-05-31T13:51:05Z", 200,
                 "application/json", '"e"', "Sat, 31 May 2025 13:50:05 GMT"),
        Document("vehicle_types", "https://a/t", None, error="https://a/t answers 500"),
    ]  # fmt: skip
    told = {str(entry["name"]): entry for entry in manifest(pack(documents))}
    assert told["station_status"] == {
        "name": "station_status",
        "url": "https://a/s",
        "file": "station_status.json",
        "fetched_at": "2025-05-31T13:50:05Z",
        "checked_at": "2025-05-31T13:51:05Z",
        "status": 200,
        "content_type": "application/json",
        "etag": '"e"',
        "last_modified": "Sat, 31 May 2025 13:50:05 GMT",
        "error": None,
    }
    assert (told["vehicle_types"]["file"], told["vehicle_types"]["error"]) == (None, "https://a/t answers 500")
    assert unpack(pack(documents)) == {"station_status": STATUS}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (STATUS.replace(b'"last_updated": 1, "ttl": 60', b'"ttl": 15, "last_updated": 2'), True),
        (STATUS.replace(b": 3", b": 4"), False),
        (STATUS.replace(b'"ttl": 60, ', b'"version": "2.3", '), False),
        (b"no JSON", False),
    ],
)
def test_last_updated_and_ttl_alone_make_no_other_snapshot(other: bytes, same: bool) -> None:
    found = fingerprint(packed({"station_status": other}))
    assert (found == fingerprint(packed({"station_status": STATUS}))) is same


def test_when_and_how_a_document_was_fetched_makes_no_other_snapshot() -> None:
    one = pack([Document("station_status", "https://a/s", STATUS, "2025-05-31T13:50:05Z", etag='"1"')])
    other = pack([Document("station_status", "https://b/s", STATUS, "2025-05-31T13:51:05Z", error="no answer")])
    assert one != other
    assert fingerprint(one) == fingerprint(other)


def test_documents_that_somebody_zipped_by_hand_are_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("station_status.json", STATUS)
        archive.writestr("readme.txt", "hello")
    assert unpack(buffer.getvalue()) == {"station_status": STATUS}
    assert manifest(buffer.getvalue()) == []


def test_what_is_no_snapshot_is_told_apart() -> None:
    whole = packed({"station_status": STATUS})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.json", json.dumps({}))
    damaged = bytearray(whole)
    damaged[whole.index(b"station_status.json") + 30] ^= 0xFF
    for data in (b"", b"hello", whole[:-30], whole[: len(whole) // 2], bytes(damaged), buffer.getvalue()):
        with pytest.raises(NotASnapshot):
            unpack(data)


def test_what_would_unfold_into_all_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed({"station_status": b" " * 1_000_000, "system_information": b""})
    assert len(data) < 3_000 and len(unpack(data)["station_status"]) == 1_000_000
    monkeypatch.setattr(container, "MAX_UNPACKED_BYTES", 1_000_000)  # snapshot.json is in it, too
    for read in (unpack, manifest, fingerprint):
        with pytest.raises(NotASnapshot, match="larger than 1000000 bytes"):
            read(data)


def test_the_query_of_an_address_is_not_kept() -> None:
    data = pack([Document("gbfs", "https://me:secret@a.example/gbfs.json?key=secret", b"{}")])
    (entry,) = manifest(data)
    assert entry["url"] == "https://a.example/gbfs.json" and b"secret" not in data


@pytest.mark.parametrize("folder", recordings(), ids=lambda path: path.parent.name)
def test_what_is_known_of_the_last_snapshot_changes_no_fingerprint(folder: Path) -> None:
    bodies, known = documents(folder), Lasting()
    for change in (b"", b" ", b"\n"):
        changed = {name: body + change if name.endswith("status") else body for name, body in bodies.items()}
        assert fingerprint(packed(changed), known) == fingerprint(packed(changed))
    assert known.keys() == bodies.keys()
