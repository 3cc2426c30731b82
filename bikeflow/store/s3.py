"""The lake in a bucket of any S3-compatible store (Hetzner, Ceph, MinIO, AWS and others), through aiobotocore."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import parse_timestamp

from bikeflow import __version__
from bikeflow.errors import ConfigError, Transient
from bikeflow.model import UTC, ObjectInfo, StoredObject
from bikeflow.settings.sections import StorageSettings
from bikeflow.store.base import PAGE_SIZE, Store
from bikeflow.store.s3_errors import EXPECTED, translated

_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")
_SMALL_ANSWER_BYTES = 1024 * 1024
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
_LARGEST_RAW_BODY_BYTES = 1024 * 1024


@asynccontextmanager
async def open_s3(settings: StorageSettings) -> AsyncIterator[Store]:
    """The store in the configured bucket; one client and its bounded connections serve until the context is left.

    Raises ConfigError where the settings make no client.
    """
    session = AioSession()
    # botocore's own parser takes 0.1 ms a timestamp, which adds up to 0.1 s for one page of a listing.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    creating = session.create_client(
        "s3",
        region_name=settings.region or "us-east-1",
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id.get_secret_value(),
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
        verify=str(settings.ca_bundle) if settings.ca_bundle else None,
        config=_client_config(settings),
    )
    try:
        client = await creating.__aenter__()
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"[storage] can't be used: {error}") from error
    try:
        yield S3Store(client, settings)
    finally:
        await creating.__aexit__(None, None, None)


def _client_config(settings: StorageSettings) -> AioConfig:
    return AioConfig(
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
    )


class S3Store:
    """A bucket as an object store."""

    def __init__(self, client: Any, settings: StorageSettings) -> None:
        self._client = client
        self._bucket = settings.bucket
        self._patience_seconds = settings.connect_timeout_seconds + settings.read_timeout_seconds
        # A place of our own for each connection: waiting for one of the pool must not count against a deadline.
        self._connections = asyncio.Semaphore(settings.max_connections)
        endpoint = urlsplit(settings.endpoint_url or client.meta.endpoint_url)
        self._place = f"s3://{settings.bucket}/{settings.prefix} at {endpoint.scheme}://{endpoint.netloc.split('@')[-1]}"

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """See `Store.pages`; one request a page."""
        position = {"StartAfter": after} if after else {}
        while True:
            async with self._request(f"list {prefix!r}"):
                answer = await self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=prefix, MaxKeys=PAGE_SIZE, **position
                )
                page = [_info(entry["Key"], entry["Size"], entry) for entry in answer.get("Contents", ())]
                token = answer.get("NextContinuationToken") if answer["IsTruncated"] else None
                if (page and page[0].key <= after) or token == position.get("ContinuationToken", ""):
                    # Some servers have been known to ignore their own token: better an error than an endless loop.
                    raise ValueError("the listing does not advance")
            if page:
                yield page
                after = page[-1].key
            if not token:
                return
            position = {"ContinuationToken": token}

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        """See `Store.get`; the length is always verified, and the MD5 where the ETag is one."""
        wanted = {} if last_bytes is None else {"Range": f"bytes=-{last_bytes}"}
        try:
            async with self._request(f"get {key!r}") as deadline:
                answer = await self._client.get_object(Bucket=self._bucket, Key=key, **wanted)
                async with answer["Body"] as body:
                    deadline.reschedule(self._deadline(answer["ContentLength"]))
                    data = await body.read()
                info = _info(key, _whole_size(answer), answer)
        except Transient as error:
            if wanted and _is_unsatisfiable(error.__cause__):
                # No tail of an empty object can be had, and of a small one not everywhere: take the whole of it.
                return await self.get(key)
            raise
        if len(data) != answer["ContentLength"]:
            raise Transient(f"get {key!r} from {self._place}: {len(data)} bytes of {answer['ContentLength']} arrived")
        if len(data) == info.size:
            await self._check_digest(f"get {key!r}", data, answer)
        return StoredObject(info, data if last_bytes is None else data[-last_bytes:])
