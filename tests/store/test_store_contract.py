"""What every adapter must do; a new backend is one more parameter of the `opened` fixture."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os

import pytest

from bikeflow.core.errors import NotFound
from bikeflow.core.model import UTC
from bikeflow.settings.sections import StorageSettings
from bikeflow.store import PAGE_SIZE, Store
from tests.store.conftest import Place
from tests.support import s3server

pytestmark = pytest.mark.asyncio(loop_scope="session")

ODD_NAMES = [
    "a b", " leading and trailing ", "a+b", "a%20b", "a%2Fb", "100%", "ż/ó.txt", "zażółć 🚲.txt", "a&b<c>\"d'e",
    "dt=2025-05-31/x@y:z,1;2!3", "(x)*[y]{z}^~`|$#?q=1&", "a\\b", "é", "\uffee", "\U0001f6b2x", "tab\tx",
    "new\nline", "a/b c/d+e", "_", "-", "~", "a.", "a..b", "x" * 200,
]  # fmt: skip
IN_ORDER = [
    "a",
    "a b",
    "a!b",
    "a+b",
    "a-b",
    "a.txt",
    "b.d/x",
    "b/a",
    "b/b/c",
    "b/b0",
    "b0",
    "dt=1/x",
    "dt=10/x",
    "é",
    "🚲",
]


async def test_what_is_put_comes_back(place: Place) -> None:
    for size in (0, 1, 100_000, 3 * 1024 * 1024):
        data = os.urandom(size)
        key = place.key(f"blob-{size}")
        await place.store.put(key, data)
        stored = await place.store.get(key)
        assert stored.data == data
        assert (stored.info.key, stored.info.size) == (key, size)


async def test_what_is_read_local_is_what_can_be_got_and_all_of_it_where_the_store_is_on_this_machine(
    place: Place,
) -> None:
    keys = [place.key(f"at-hand-{number}") for number in range(3)]
    for key in keys:
        await place.store.put(key, key.encode())
    found = await place.store.read_local([*keys, place.key("at-hand-missing"), place.key("..")])
    assert found == {key: await place.store.get(key) for key in found}
    here = place.store.local_path(keys[0]) is not None
    assert list(found) == (keys if here else [])


async def test_all_answers_agree_on_what_an_object_is(place: Place) -> None:
    written = await place.store.put(place.key("x"), b"content")
    got = (await place.store.get(place.key("x"))).info
    head = await place.store.head(place.key("x"))
    assert got == head
    assert await place.listed() == [head]
    assert (written.key, written.size, written.etag) == (head.key, head.size, head.etag)
    assert '"' not in head.etag
    assert abs(written.last_modified - head.last_modified) <= dt.timedelta(seconds=60)


async def test_times_are_whole_seconds_of_utc(place: Place) -> None:
    before = dt.datetime.now(UTC) - dt.timedelta(seconds=2)
    infos = [await place.store.put(place.key("x"), b"content"), await place.store.head(place.key("x"))]
    for info in infos + await place.listed():
        assert info.last_modified.tzinfo is UTC
        assert info.last_modified.microsecond == 0
        assert before <= info.last_modified <= dt.datetime.now(UTC) + dt.timedelta(seconds=2)


async def test_a_second_put_replaces_the_first(place: Place) -> None:
    await place.store.put(place.key("x"), b"a longer content")
    await place.store.put(place.key("x"), b"short")
    assert (await place.store.get(place.key("x"))).data == b"short"
    assert [info.size for info in await place.listed()] == [5]


async def test_what_is_put_as_new_replaces_nothing_where_the_server_knows_conditions(
    place: Place, request: pytest.FixtureRequest
) -> None:
    """rclone knows none and replaces what is there: Ceph is asked by .ci/ceph, and a proxy by test_two_fetchers."""
    knows_conditions = request.node.callspec.params["opened"] == "local" or s3server.from_environment() is not None
    written = await place.store.put_new(place.key("x"), b"first")
    assert written is not None and written.etag == (await place.store.head(place.key("x"))).etag
    again = await place.store.put_new(place.key("x"), b"other")
    assert (again is None) == knows_conditions
    assert (await place.store.get(place.key("x"))).data == (b"first" if knows_conditions else b"other")


async def test_the_etag_changes_with_the_content_even_at_equal_size_and_full_speed(place: Place) -> None:
    etags = [(await place.store.put(place.key("x"), b"%06d" % n)).etag for n in range(30)]
    assert len(set(etags)) == 30
    assert (await place.store.head(place.key("x"))).etag == etags[-1]


@pytest.mark.parametrize("name", ["missing", "no/such/directory/x", "directory", "file/below"])
async def test_what_is_not_there_is_not_found(place: Place, name: str) -> None:
    await place.put("file", "directory/x")
    with pytest.raises(NotFound):
        await place.store.get(place.key(name))
    with pytest.raises(NotFound):
        await place.store.get(place.key(name), last_bytes=8)
    with pytest.raises(NotFound):
        await place.store.head(place.key(name))


async def test_deleting_what_is_not_there_changes_nothing(place: Place) -> None:
    await place.put("file", "directory/x")
    for name in ("missing", "no/such/directory/x", "directory/y"):
        await place.store.delete(place.key(name))
    assert await place.names() == ["directory/x", "file"]


async def test_what_is_deleted_is_gone_and_can_be_deleted_again(place: Place) -> None:
    await place.put("d/x", "d/y")
    await place.store.delete(place.key("d/x"))
    await place.store.delete(place.key("d/x"))
    with pytest.raises(NotFound):
        await place.store.get(place.key("d/x"))
    assert await place.names() == ["d/y"]
    await place.store.delete(place.key("d/y"))
    assert await place.names() == []


async def test_a_deleted_directory_makes_room_for_an_object_of_its_name(place: Place) -> None:
    await place.put("d/e/x")
    await place.store.delete(place.key("d/e/x"))
    await place.put("d")
    assert await place.names() == ["d"]


@pytest.mark.parametrize(("last_bytes", "tail"), [(1, b"9"), (4, b"6789"), (10, b"0123456789"), (5_000, b"0123456789")])
async def test_a_tail_is_read_without_the_rest(place: Place, last_bytes: int, tail: bytes) -> None:
    whole = await place.store.put(place.key("x"), b"0123456789")
    stored = await place.store.get(place.key("x"), last_bytes=last_bytes)
    assert stored.data == tail
    assert (stored.info.size, stored.info.etag) == (10, whole.etag)


async def test_the_tail_of_an_empty_object_is_empty(place: Place) -> None:
    await place.store.put(place.key("x"), b"")
    stored = await place.store.get(place.key("x"), last_bytes=8)
    assert (stored.data, stored.info.size) == (b"", 0)


async def test_odd_keys_are_kept_as_they_are(place: Place) -> None:
    await place.put(*ODD_NAMES)
    assert await place.names() == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert (await place.store.get(place.key(name))).data == name.encode()
        assert (await place.store.head(place.key(name))).key == place.key(name)
        assert (await place.names(name))[0] == name
    for name in ODD_NAMES:
        await place.store.delete(place.key(name))
    assert await place.names() == []


async def test_a_listing_is_in_the_order_of_the_keys_bytes(place: Place) -> None:
    await place.put(*reversed(IN_ORDER))
    names = await place.names()
    assert names == IN_ORDER
    assert names == sorted(names, key=str.encode)


async def test_a_listing_starts_after_any_key_existing_or_not(place: Place) -> None:
    await place.put(*IN_ORDER)
    for after in [
        *IN_ORDER,
        "a/",
        "b",
        "b/",
        "b/b",
        "b/b/",
        "b/b/d",
        "b.",
        "c",
        "dt=1",
        "dt=1/",
        "dt=1/y",
        "zzz",
        "🚲🚲",
    ]:
        assert await place.names(after=after) == [name for name in IN_ORDER if name > after], after


async def test_a_prefix_may_end_in_the_middle_of_a_name(place: Place) -> None:
    await place.put(*IN_ORDER)
    for prefix in ["a", "a ", "b", "b/", "b/b", "b/b/", "dt=1", "dt=1/", "dt=10/x", "nothing", "a/"]:
        for after in ["", "a.", "b/b/", "dt=1"]:
            expected = [name for name in IN_ORDER if name.startswith(prefix) and name > after]
            assert await place.names(prefix, after) == expected, (prefix, after)


async def test_an_empty_listing_has_no_pages(place: Place) -> None:
    assert [page async for page in place.store.pages(place.prefix)] == []


@pytest.mark.parametrize("opened", ["local", "s3"], indirect=True, scope="session")  # pages are the same over https
async def test_a_listing_goes_on_beyond_a_thousand_keys(place: Place) -> None:
    names = [f"dt=2025-05-{1 + n // 900:02}/{n:05}.txt" for n in range(2_500)]
    await asyncio.gather(*(place.persistently(place.store.put, place.key(name), name.encode()) for name in names))
    pages = [page async for page in place.store.pages(place.prefix)]
    # A server may end a page early: Ceph now and then sends 999 keys of 1,000.
    assert len(pages) >= 3
    assert all(0 < len(page) <= PAGE_SIZE for page in pages)
    assert [info.key for info in itertools.chain.from_iterable(pages)] == [place.key(name) for name in names]
    for start in (0, PAGE_SIZE - 1, PAGE_SIZE, 1_500, 2_499):
        assert await place.names(after=names[start]) == names[start + 1 :]


async def test_a_listing_may_be_left_and_taken_up_again(place: Place) -> None:
    await place.put(*IN_ORDER)
    async for page in place.store.pages(place.prefix):
        assert page
        break
    assert await place.names(after=IN_ORDER[4]) == IN_ORDER[5:]


async def test_of_concurrent_puts_of_one_key_a_reader_sees_one_or_the_other_but_never_a_mixture(place: Place) -> None:
    bodies = {bytes([65 + n]) * (20_000 + n) for n in range(8)}
    await place.store.put(place.key("x"), min(bodies))

    async def read() -> None:
        for _ in range(20):
            assert (await place.persistently(place.store.get, place.key("x"))).data in bodies

    puts = (place.persistently(place.store.put, place.key("x"), body) for body in bodies)
    await asyncio.gather(read(), read(), *puts)
    assert (await place.store.get(place.key("x"))).data in bodies
    assert await place.names() == ["x"]


async def test_many_more_operations_than_connections_all_succeed(place: Place) -> None:
    names = [f"{n:03}" for n in range(100)]
    await asyncio.gather(*(place.persistently(place.store.put, place.key(name), name.encode()) for name in names))
    stored = await asyncio.gather(*(place.store.get(place.key(name)) for name in names))
    assert [one.data.decode() for one in stored] == names


async def test_cancelled_operations_leave_the_store_in_working_order(place: Place) -> None:
    data = os.urandom(2_000_000)
    await place.store.put(place.key("x"), data)
    for delay in range(20):
        task = asyncio.create_task(place.store.get(place.key("x")))
        await asyncio.sleep(delay / 2_000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() or task.result().data == data
    assert (await place.store.get(place.key("x"))).data == data


async def test_a_store_says_where_it_is_without_secrets(opened: tuple[Store, StorageSettings]) -> None:
    store, settings = opened
    assert settings.bucket in store.describe()
    for secret in (settings.access_key_id, settings.secret_access_key):
        assert not secret or secret.get_secret_value() not in store.describe()
