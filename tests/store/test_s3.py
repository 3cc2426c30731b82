"""What the S3 adapter makes of servers that refuse, stall, lie or break off; each a real HTTP server."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from bikeflow.errors import BikeflowError, ConfigError, NotFound, Permanent, Transient
from bikeflow.model import UTC
from bikeflow.settings.sections import StorageSettings
from bikeflow.store import Store, open_store, s3
from tests.support.s3server import S3Server

ACCESS_KEY, SECRET_KEY = "AKIDTESTTESTTEST", "sEcReT/sEcReT+sEcReT"
LAST_MODIFIED = "Sat, 31 May 2025 12:00:07 GMT"
OPERATIONS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    "list": lambda store: anext(store.pages("p/")),
    "get": lambda store: store.get("p/x"),
    "tail": lambda store: store.get("p/x", last_bytes=4),
    "put": lambda store: store.put("p/x", b"content"),
    "delete": lambda store: store.delete("p/x"),
    "head": lambda store: store.head("p/x"),
}
pytestmark = pytest.mark.asyncio(loop_scope="session")
EACH_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def settings_for(endpoint: str, **changes: Any) -> StorageSettings:
    values: dict[str, Any] = {
        "backend": "s3",
        "bucket": "b",
        "prefix": "p/",
        "endpoint_url": endpoint,
        "access_key_id": SecretStr(ACCESS_KEY),
        "secret_access_key": SecretStr(SECRET_KEY),
        "connect_timeout_seconds": 10,
        "read_timeout_seconds": 20,
    }
    return StorageSettings(**{**values, **changes})


class ScriptedServer:
    """An HTTP server whose answers a test sets, and which remembers the requests."""

    def __init__(self) -> None:
        self.answer: Handler = error(500)
        self.requests: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.answer(request)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")


@asynccontextmanager
async def store_at(handler: Handler, **changes: Any) -> AsyncIterator[tuple[Store, list[web.Request]]]:
    """A store of its own settings at a server that answers everything by `handler`, and the requests to it."""
    server = ScriptedServer()
    server.answer = handler
    async with server.running() as endpoint, open_store(settings_for(endpoint, **changes), Path()) as store:
        yield store, server.requests


# Making a client takes longer than most tests: those with nothing special about theirs share one.
@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared() -> AsyncIterator[tuple[ScriptedServer, Store]]:
    server = ScriptedServer()
    async with server.running() as endpoint, open_store(settings_for(endpoint), Path()) as store:
        yield server, store


@pytest.fixture
def server(shared: tuple[ScriptedServer, Store]) -> ScriptedServer:
    shared[0].requests.clear()
    return shared[0]


@pytest.fixture
def store(shared: tuple[ScriptedServer, Store]) -> Store:
    return shared[1]


def error(status: int, code: str = "", message: str = "", **headers: str) -> Handler:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else ""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body.encode(), content_type="application/xml", headers=headers)

    return handler


def listing(*keys: str, token: str = "", truncated: bool | None = None) -> web.Response:
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><ETag>&quot;e&quot;</ETag>"
        "<LastModified>2025-05-31T12:00:07.987Z</LastModified></Contents>"
        for key in keys
    )
    flag = str(bool(token) if truncated is None else truncated).lower()
    text = f"<ListBucketResult><IsTruncated>{flag}</IsTruncated>{contents}"
    text += f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return web.Response(text=f"{text}</ListBucketResult>", content_type="application/xml")


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


async def hang(_request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def failure(store: Store, operation: str) -> BikeflowError:
    """What an operation fails with, told in one line that gives nothing away."""
    with pytest.raises(BikeflowError) as raised:
        await OPERATIONS[operation](store)
    text = str(raised.value)
    assert "\n" not in text
    assert ACCESS_KEY not in text
    assert SECRET_KEY not in text
    return raised.value


@EACH_OPERATION
@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (500, "InternalError", Transient, "HTTP 500"),
        (500, "", Transient, "HTTP 500"),
        (502, "", Transient, "HTTP 502"),
        (503, "SlowDown", Transient, "HTTP 503"),
        (429, "TooManyRequests", Transient, "HTTP 429"),
        (409, "OperationAborted", Transient, "HTTP 409"),
        (501, "NotImplemented", Permanent, "HTTP 501"),
        (400, "InvalidRequest", Permanent, "HTTP 400"),
        (403, "AccessDenied", Permanent, "HTTP 403"),
        (405, "MethodNotAllowed", Permanent, "S3 endpoint"),
    ],
)
async def test_error_statuses_are_transient_or_permanent_and_asked_for_once(
    server: ScriptedServer, store: Store, operation: str, status: int, code: str, kind: type[BikeflowError], said: str
) -> None:
    server.answer = error(status, code, "what the server says")
    failed = await failure(store, operation)
    assert type(failed) is kind
    assert said in str(failed)
    assert "p/" in str(failed)
    assert "s3://b/p/ at http://127.0.0.1:" in str(failed)
    # To a HEAD without a body botocore may add a look at the bucket, for its region; nothing is asked for twice.
    assert len({request.path for request in server.requests}) == len(server.requests)


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (403, "SignatureDoesNotMatch", Permanent, "check storage.secret_access_key"),
        (403, "InvalidAccessKeyId", Permanent, "check storage.access_key_id"),
        (403, "AccessDenied", Permanent, "clock and the bucket's policy"),
        (403, "RequestTimeTooSkewed", Transient, "time synchronisation"),
        (403, "QuotaExceeded", Permanent, "quota"),
        (404, "NoSuchBucket", Permanent, "there is no such bucket"),
        (400, "BadDigest", Transient, "BadDigest"),
        (400, "IncompleteBody", Transient, "IncompleteBody"),
        (400, "RequestTimeout", Transient, "RequestTimeout"),
        (400, "AuthorizationHeaderMalformed", Permanent, "check storage.region"),
        (400, "InvalidRequest", Permanent, "what the server says"),
    ],
)
async def test_error_codes_say_what_to_do(
    server: ScriptedServer, store: Store, status: int, code: str, kind: type[BikeflowError], said: str
) -> None:
    server.answer = error(status, code, "what\n  the server says")
    for operation in ("list", "get", "put", "delete"):
        failed = await failure(store, operation)
        assert type(failed) is kind
        assert said in str(failed)


async def test_a_missing_object_is_not_found_but_a_missing_listing_is_permanent(
    server: ScriptedServer, store: Store
) -> None:
    server.answer = error(404, "NoSuchKey")
    for operation in ("get", "tail", "head"):
        assert type(await failure(store, operation)) is NotFound
    await store.delete("p/x")
    assert type(await failure(store, "list")) is Permanent


async def test_retry_after_is_passed_on_in_both_of_its_forms(server: ScriptedServer, store: Store) -> None:
    moment = format_datetime(dt.datetime.now(UTC) + dt.timedelta(seconds=90), usegmt=True)
    for status, header, least, most in ((503, "17", 17, 17), (429, moment, 80, 90)):
        server.answer = error(status, "SlowDown", **{"Retry-After": header})
        failed = await failure(store, "put")
        assert isinstance(failed, Transient)
        assert least <= (failed.retry_after_seconds or 0) <= most


async def test_requests_are_signed_path_style_and_without_trailing_checksums(
    server: ScriptedServer, store: Store
) -> None:
    async def stored(_request: web.Request) -> web.Response:
        return web.Response(headers={"ETag": etag_of(b"content")})

    server.answer = stored
    info = await store.put("p/a b+c%20ż.txt", b"content")
    (request,) = server.requests
    assert request.raw_path == "/b/p/a%20b%2Bc%2520%C5%BC.txt"
    assert request.headers["Content-MD5"] == base64.b64encode(hashlib.md5(b"content").digest()).decode()
    assert request.headers["Authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/")
    assert "bikeflow/" in request.headers["User-Agent"]
    assert not [name for name in request.headers if "checksum" in name.lower() or "trailer" in name.lower()]
    assert info.etag == etag_of(b"content").strip('"')
    assert info.last_modified.microsecond == 0


async def test_only_large_bodies_wait_for_permission_to_be_sent(server: ScriptedServer, store: Store) -> None:
    async def stored(request: web.Request) -> web.Response:
        return web.Response(headers={"ETag": etag_of(await request.read())})

    server.answer = stored
    for size in (0, 1, 100_000, 2_000_000):
        await store.put("p/x", bytes(size))
    assert ["Expect" in request.headers for request in server.requests] == [False, False, False, True]


async def test_buckets_are_named_in_the_path_of_any_host() -> None:
    server = ScriptedServer()
    async with server.running() as endpoint:
        settings = settings_for(endpoint.replace("127.0.0.1", "localhost"), bucket="a-bucket-of-dns-form")
        async with open_store(settings, Path()) as store:
            await failure(store, "head")
    (request,) = server.requests
    assert (request.host.split(":")[0], request.path) == ("localhost", "/a-bucket-of-dns-form/p/x")


@pytest.mark.parametrize("last_bytes", [None, 60])
async def test_a_body_that_breaks_off_is_transient(
    server: ScriptedServer, store: Store, last_bytes: int | None
) -> None:
    async def truncated(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Length": "100", "ETag": '"x-2"', "Last-Modified": LAST_MODIFIED}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(bytes(50))
        assert request.transport
        request.transport.close()
        return response

    server.answer = truncated
    for _ in range(20):  # more than there are connections: none is lost with a broken answer
        with pytest.raises(Transient):
            await store.get("p/x", last_bytes=last_bytes)
    assert len(server.requests) == 20


@pytest.mark.parametrize(
    ("headers", "damaged"),
    [
        ({"ETag": etag_of(b"content")}, False),
        ({"ETag": etag_of(b"c0ntent")}, True),
        ({"ETag": '"d41d8cd98f00b204e9800998ecf8427e-3"'}, False),
        ({"ETag": etag_of(b"c0ntent"), "x-amz-server-side-encryption": "aws:kms"}, False),
        ({"ETag": etag_of(b"c0ntent"), "x-amz-server-side-encryption-customer-algorithm": "AES256"}, False),
        ({"ETag": etag_of(b"c0ntent"), "x-amz-server-side-encryption": "AES256"}, True),
    ],
)
async def test_content_whose_md5_is_not_its_etag_is_transient(
    server: ScriptedServer, store: Store, headers: dict[str, str], damaged: bool
) -> None:
    async def answer(request: web.Request) -> web.Response:
        body = b"content" if request.method == "GET" else b""
        return web.Response(body=body, headers={**headers, "Last-Modified": LAST_MODIFIED})

    server.answer = answer
    for operation in ("get", "put"):
        if damaged:
            failed = await failure(store, operation)
            assert type(failed) is Transient
            assert "damaged" in str(failed)
        else:
            await OPERATIONS[operation](store)


async def test_a_tail_is_had_from_servers_that_know_no_ranges_or_refuse_those_beyond_the_object(
    server: ScriptedServer, store: Store
) -> None:
    async def ignoring(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"content", headers={"ETag": '"x-2"', "Last-Modified": LAST_MODIFIED})

    async def refusing(request: web.Request) -> web.StreamResponse:
        return await (error(416, "InvalidRange") if "Range" in request.headers else ignoring)(request)

    for server.answer in (ignoring, refusing):
        assert (await store.get("p/x", last_bytes=4)).data == b"tent"
        assert (await store.get("p/x", last_bytes=400)).data == b"content"


async def test_a_server_that_never_answers_costs_the_read_timeout() -> None:
    async with store_at(hang, read_timeout_seconds=0.2) as (store, requests):
        for operation in OPERATIONS:
            started = time.monotonic()
            assert type(await failure(store, operation)) is Transient
            assert time.monotonic() - started < 20
        assert len(requests) == len(OPERATIONS)


async def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "SLOWEST_BYTES_PER_SECOND", 1024 * 1024)

    async def trickle(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Length": "1000", "ETag": '"x-2"', "Last-Modified": LAST_MODIFIED}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(1_000):  # 50 s in all
                await response.write(b"x")
                await asyncio.sleep(0.05)
        return response

    started = time.monotonic()
    async with store_at(trickle, connect_timeout_seconds=0.3, read_timeout_seconds=0.3) as (store, _):
        failed = await failure(store, "get")
    assert type(failed) is Transient
    assert "no answer in time" in str(failed)
    assert time.monotonic() - started < 25


async def test_an_upload_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "SLOWEST_BYTES_PER_SECOND", 64 * 1024 * 1024)
    done = asyncio.Event()

    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"100-continue" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await done.wait()
        writer.close()

    listener = await asyncio.start_server(take_nothing, "127.0.0.1", 0, limit=4096)
    port = listener.sockets[0].getsockname()[1]
    settings = settings_for(f"http://127.0.0.1:{port}", connect_timeout_seconds=0.3, read_timeout_seconds=0.3)
    started = time.monotonic()
    async with listener, open_store(settings, Path()) as store:
        with pytest.raises(Transient, match="no answer in time"):
            await store.put("p/x", bytes(32 * 1024 * 1024))
        done.set()
    assert time.monotonic() - started < 25


async def test_a_server_that_hangs_up_is_transient(server: ScriptedServer, store: Store) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.close()
        return web.Response()

    server.answer = hang_up
    for operation in OPERATIONS:
        assert type(await failure(store, operation)) is Transient


async def test_a_server_that_is_not_there_is_transient() -> None:
    async with open_store(settings_for("http://127.0.0.1:1"), Path()) as store:
        for operation in OPERATIONS:
            failed = await failure(store, operation)
            assert type(failed) is Transient
            assert "Cannot connect" in str(failed)


async def test_an_answer_that_is_not_of_s3_is_transient_and_told_as_such(server: ScriptedServer, store: Store) -> None:
    async def web_page(_request: web.Request) -> web.Response:
        return web.Response(text="<!DOCTYPE html><p>Log in first & pay", content_type="text/html")

    server.answer = web_page
    for operation in ("get", "tail", "head"):
        failed = await failure(store, operation)
        assert type(failed) is Transient
        assert "is this an S3 endpoint?" in str(failed)
    for operation in ("list", "put"):  # botocore itself makes a 500 of these
        assert type(await failure(store, operation)) is Transient


async def test_a_listing_follows_its_tokens_and_times_are_cut_to_seconds(server: ScriptedServer, store: Store) -> None:
    pages: dict[str | None, Callable[[], web.Response]] = {
        None: lambda: listing("p/b", "p/c", token="t+1/="),
        "t+1/=": lambda: listing(token="t2"),  # a server may filter a page empty, and it is not the last for that
        "t2": lambda: listing("p/d"),
    }

    async def answer(request: web.Request) -> web.Response:
        return pages[request.query.get("continuation-token")]()

    server.answer = answer
    listed = [page async for page in store.pages("p/", after="p/a")]
    assert [[info.key for info in page] for page in listed] == [["p/b", "p/c"], ["p/d"]]
    assert {info.last_modified for page in listed for info in page} == {dt.datetime(2025, 5, 31, 12, 0, 7, tzinfo=UTC)}
    assert [request.query.get("start-after") for request in server.requests] == ["p/a", None, None]


@pytest.mark.parametrize(
    "pages",
    [
        [("p/b", "same"), ("p/c", "same")],
        [("p/b", "t1"), ("p/b", "t2")],
        [("p/a", ""), ("p/a", "")],  # StartAfter ignored
        [("p/b", "none")],
    ],
)
async def test_a_listing_that_does_not_advance_is_an_error_and_no_endless_loop(
    server: ScriptedServer, store: Store, pages: list[tuple[str, str]]
) -> None:
    answers = iter(pages)

    async def answer(_request: web.Request) -> web.Response:
        key, token = next(answers)
        return listing(key, truncated=True) if token == "none" else listing(key, token=token)

    server.answer = answer
    with pytest.raises(Transient, match=r"does not advance|NextContinuationToken"):
        assert [page async for page in store.pages("p/", after="p/a")] == []


async def test_a_cancelled_request_is_cancelled_and_nothing_else() -> None:
    reached = asyncio.Event()

    async def announce_and_hang(request: web.Request) -> web.Response:
        reached.set()
        return await hang(request)

    async with store_at(announce_and_hang, max_connections=1) as (store, _):
        for operation in OPERATIONS.values():
            task = asyncio.ensure_future(operation(store))
            await reached.wait()
            reached.clear()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_waiting_for_a_free_connection_counts_against_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "SLOWEST_BYTES_PER_SECOND", 1024**3)

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.6)
        return web.Response(headers={"ETag": '"x"', "Last-Modified": LAST_MODIFIED, "Content-Length": "0"})

    # The last of the five waits 2.4 s for its turn, and each may take 2.3 s on the way.
    changes = {"connect_timeout_seconds": 0.3, "read_timeout_seconds": 2, "max_connections": 1}
    async with store_at(slow, **changes) as (store, requests):
        await asyncio.gather(*(store.head("p/x") for _ in range(5)))
        assert len(requests) == 5


async def test_a_wrong_secret_and_a_missing_bucket_are_permanent_on_a_real_server(s3_server: S3Server) -> None:
    async with open_store(s3_server.settings(secret_access_key=SecretStr("wrong")), Path()) as store:
        for operation in OPERATIONS.values():
            with pytest.raises(Permanent, match="HTTP 403"):
                await operation(store)
    async with open_store(s3_server.settings(bucket="no-such-bucket-anywhere"), Path()) as store:
        for name in ("list", "get", "put", "delete"):
            with pytest.raises(Permanent, match="there is no such bucket"):
                await OPERATIONS[name](store)


async def test_https_needs_a_certificate_of_a_known_authority(
    s3_tls_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    settings = s3_tls_server.settings()
    key = f"{settings.prefix}x"
    without = settings.model_copy(update={"ca_bundle": None})
    async with open_store(without, Path()) as store:
        with pytest.raises(Permanent, match=r"certificate verify failed.*check storage.ca_bundle"):
            await store.put(key, b"x")
    async with open_store(settings, Path()) as store:
        await store.put(key, b"x")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(settings.ca_bundle))
    async with open_store(without, Path()) as store:
        assert (await store.get(key)).data == b"x"


async def test_settings_that_make_no_client_are_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "no-certificates.pem").write_text("nothing")
    cases: list[dict[str, Any]] = [
        {"endpoint_url": "http://-bad_host-"},
        {"ca_bundle": tmp_path / "missing.pem"},
        {"ca_bundle": tmp_path / "no-certificates.pem"},
    ]
    for changes in cases:
        with pytest.raises(ConfigError, match=r"\[storage\].*(bad_host|missing.pem: No such file|no-certificates.pem)"):
            async with open_store(settings_for("https://127.0.0.1:1", **changes), Path()):
                pass
