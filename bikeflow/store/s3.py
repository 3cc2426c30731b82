"""The lake in a bucket of any S3-compatible store (Hetzner, Ceph, MinIO, AWS and others), through aiobotocore."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import io
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from bikeflow import __version__
from bikeflow.core.errors import ConfigError, NotFound
from bikeflow.core.model import UTC, ObjectInfo, StoredObject
from bikeflow.settings.sections import StorageSettings
from bikeflow.store.base import Store
from bikeflow.store.s3_errors import EXPECTED, BadAnswer, Exists, translated

_MD5 = re.compile(r"[0-9a-f]{32}")
_SMALL_BODY_BYTES = 1024 * 1024
SLOWEST_BYTES_PER_SECOND = 64 * 1024


@asynccontextmanager
async def open_s3(settings: StorageSettings) -> AsyncIterator[Store]:
    """The store in the configured bucket; one client and its bounded connections serve until the context is left.

    Raises ConfigError where the settings make no client.
    """
    async with AsyncExitStack() as stack:
        try:
            await asyncio.to_thread(_check_certificates, settings.ca_bundle)
            client = await stack.enter_async_context(_client(settings))
        except (BotoCoreError, OSError, ValueError) as error:
            raise ConfigError(f"[storage] makes no S3 client: {error}") from error
        client.meta.events.register_last("before-call.s3", _expect_no_permission)
        yield S3Store(client, settings)


def _client(settings: StorageSettings) -> AbstractAsyncContextManager[Any]:
    session = AioSession()
    # botocore's own parser of timestamps would hold up the loop for 60 ms a page of 1,000 keys instead of 20.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    client: AbstractAsyncContextManager[Any] = session.create_client(
        "s3",
        region_name=settings.region or "us-east-1",
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id.get_secret_value(),
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
        verify=str(settings.ca_bundle) if settings.ca_bundle else None,
        config=AioConfig(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            max_pool_connections=settings.max_connections,
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            # The roles' one retry policy is enough: two of them multiply.
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Ceph and rclone answer 411 over https to the trailing checksums that the SDK sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
            user_agent_extra=f"bikeflow/{__version__}",
            # Reads the service model in a thread: it takes 0.2 s.
            warm_up_loader_caches=True,
        ),
    )
    return client


def _check_certificates(ca_bundle: Path | None) -> None:
    """Raise OSError now for a bundle that can't be read: otherwise every request would fail of it."""
    if ca_bundle:
        try:
            ssl.create_default_context(cafile=ca_bundle)
        except OSError as error:
            raise OSError(f"ca_bundle {ca_bundle}: {error.strerror or error}") from error


def _expect_no_permission(params: dict[str, Any], **_: object) -> None:
    """Send small bodies at once: botocore would first wait a round trip for `100 Continue`."""
    body = params.get("body")
    if isinstance(body, io.BytesIO) and len(body.getbuffer()) <= _SMALL_BODY_BYTES:
        params["headers"].pop("Expect", None)


class S3Store(Store):
    """A bucket as an object store."""

    def __init__(self, client: Any, settings: StorageSettings) -> None:
        self._client = client
        self._bucket = settings.bucket
        self._patience_seconds = settings.connect_timeout_seconds + settings.read_timeout_seconds
        # A place of our own for each connection, as waiting for one of the pool must not count against a deadline.
        self._connections = asyncio.Semaphore(settings.max_connections)
        endpoint = urlsplit(client.meta.endpoint_url)
        self._place = (
            f"s3://{settings.bucket}/{settings.prefix} at {endpoint.scheme}://{endpoint.netloc.split('@')[-1]}"
        )

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """See `Store.pages`; each page is one request, made when it is asked for."""
        position = {"StartAfter": after} if after else {}
        while True:
            async with self._request(f"list {prefix!r}"):
                answer = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **position)
                page = [_info(entry["Key"], entry["Size"], entry) for entry in answer.get("Contents", ())]
                following = {"ContinuationToken": answer["NextContinuationToken"]} if answer["IsTruncated"] else {}
                if following == (position or None) or (page and page[0].key <= after):
                    raise BadAnswer("the listing does not advance")
            if page:
                yield page
                after = page[-1].key
            if not following:
                return
            position = following

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        """See `Store.get`; the length is always verified, and the MD5 where the ETag is one."""
        async with self._request(f"get {key!r}") as deadline:
            answer = await self._get_object(key, last_bytes)
            async with answer["Body"] as body:
                deadline.reschedule(self._deadline(answer["ContentLength"]))
                data: bytes = await body.read()
            info = _info(key, _whole_size(answer), answer)
            if len(data) == info.size:
                _check_digest(await _md5(data), answer)
        return StoredObject(info, data if last_bytes is None else data[-last_bytes:])

    async def read_local(self, keys: Sequence[str]) -> dict[str, StoredObject]:
        """See `Store.read_local`: nothing is."""
        return {}

    async def _get_object(self, key: str, last_bytes: int | None) -> Any:
        if last_bytes is not None:
            try:
                return await self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=-{last_bytes}")
            except ClientError as error:
                # An empty object has no last bytes; a few servers also say so of one smaller than what is asked for.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise
        return await self._client.get_object(Bucket=self._bucket, Key=key)

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """See `Store.put`; the server refuses what arrives damaged. `last_modified` is the server's clock just then."""
        return await self._put(key, data, {})

    async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
        """See `Store.put_new`; Ceph and AWS honour the condition, rclone does not know it."""
        try:
            return await self._put(key, data, {"IfNoneMatch": "*"})
        except Exists:
            return None

    async def _put(self, key: str, data: bytes, condition: Mapping[str, str]) -> ObjectInfo:
        digest = await _md5(data)
        async with self._request(f"put {key!r}", len(data)):
            answer = await self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, ContentMD5=base64.b64encode(digest).decode(), **condition
            )
            _check_digest(digest, answer)
            now = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            return _info(key, len(data), {**answer, "LastModified": _timestamp(now) if now else dt.datetime.now(UTC)})

    async def delete(self, key: str) -> None:
        with suppress(NotFound):
            async with self._request(f"delete {key!r}"):
                await self._client.delete_object(Bucket=self._bucket, Key=key)

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`; a bucket that doesn't exist can't be told from an object that doesn't."""
        async with self._request(f"head {key!r}"):
            answer = await self._client.head_object(Bucket=self._bucket, Key=key)
            return _info(key, answer["ContentLength"], answer)

    def describe(self) -> str:
        """Bucket, prefix and endpoint."""
        return self._place

    def local_path(self, key: str) -> Path | None:
        """Nothing of a bucket lies on this machine."""
        return None

    @asynccontextmanager
    async def _request(self, doing: str, size: int = _SMALL_BODY_BYTES) -> AsyncIterator[asyncio.Timeout]:
        """The bounds of one request: a free connection, a deadline, errors in our own terms.

        The deadline is there because the read timeout covers neither the sending of a body nor an answer that trickles.
        """
        async with self._connections:
            try:
                async with asyncio.timeout_at(self._deadline(size)) as deadline:
                    yield deadline
            except EXPECTED as error:
                raise translated(error, f"{doing} at {self._place}") from error

    def _deadline(self, size: int) -> float:
        """The loop's time at which a transfer of `size` bytes, begun now, is given up."""
        return asyncio.get_running_loop().time() + self._patience_seconds + size / SLOWEST_BYTES_PER_SECOND


def _info(key: str, size: int, answer: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(key, size, answer["ETag"].strip('"'), answer["LastModified"].replace(microsecond=0))


def _whole_size(answer: Mapping[str, Any]) -> int:
    """The size of the object of which the answer has all or a part (`ContentRange` = bytes first-last/size)."""
    return int(answer["ContentRange"].rpartition("/")[2] if "ContentRange" in answer else answer["ContentLength"])


def _timestamp(text: str) -> dt.datetime:
    """A time as S3 writes it in XML (ISO 8601) or in a header (RFC 9110)."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


async def _md5(data: bytes) -> bytes:
    digest = await asyncio.to_thread(hashlib.md5, data, usedforsecurity=False)
    return digest.digest()


def _check_digest(digest: bytes, answer: Mapping[str, Any]) -> None:
    """Compare the content's MD5 with the ETag, where that is one: not of multipart uploads or with KMS encryption."""
    etag = answer["ETag"].strip('"')
    encrypted = str(answer.get("ServerSideEncryption", "")).startswith("aws:") or "SSECustomerAlgorithm" in answer
    if _MD5.fullmatch(etag) and not encrypted and etag != digest.hex():
        raise BadAnswer("the content is damaged: its MD5 is not the ETag")
