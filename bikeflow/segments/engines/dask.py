"""The engine of many machines: each segment is a task of a Dask distributed cluster.

The scheduler gives the tasks of a worker that died to others. Keys and contents follow from the work alone and each PUT
is atomic, so that a task done twice leaves what a task done once does; the ledger stays with the service.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pydantic import SecretStr

from bikeflow import __version__
from bikeflow.core.errors import ConfigError, Permanent, Transient
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime.log import get_logger
from bikeflow.segments.builder import Built
from bikeflow.segments.engines.base import Engine, WorkerConfig, build_segment
from bikeflow.settings import store_secrets

_CLOSE_SECONDS = 5.0
LOOK_SECONDS = 30.0
"""How often it is looked at whether the cluster still has workers; those that restart are back by then."""

VERSIONS = f"bikeflow {__version__}, pyarrow {pa.__version__}"
"""What the bytes of a Parquet file depend on besides its raw files."""

log = get_logger()


class DaskEngine(Engine):
    """Submits segments to a scheduler; connects when there is work, and again when the connection is lost.

    Raises ConfigError where Dask is not installed.
    """

    def __init__(self, config: WorkerConfig) -> None:
        try:
            import distributed  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                'processing.engine = "dask" needs an extra that is not installed: pip install "bikeflow[dask]"'
            ) from error
        self._distributed: Any = distributed
        self._address = config.processing.scheduler
        # The secrets of the store travel on no wire: workers have their own.
        storage = config.storage.model_copy(update={"access_key_id": SecretStr(""), "secret_access_key": SecretStr("")})
        self._worker_config = replace(config, storage=storage)
        self._client: Any = None
        self._connecting = asyncio.Lock()

    async def ready(self) -> None:
        """See `Engine.ready`: the scheduler answers, and has a worker."""
        client = await self._connected()
        if not client.scheduler_info(n_workers=-1)["workers"]:
            log.warning("no_dask_workers", scheduler=self._address)

    async def build(self, work: SegmentWork, parsed: Callable[[int], None]) -> Built:
        """See `Engine.build`; `parsed` is called once the whole segment is done."""
        client = await self._connected()
        # A key of its own for each try: the outcome of an earlier one is not asked for again.
        partition = work.segment.partition
        key = f"bikeflow-{partition.system_id}-{partition.day}-{work.segment.end:%H%M%S}-{uuid.uuid4().hex}"
        future = client.submit(build_elsewhere, self._worker_config, work, VERSIONS, key=key, pure=False)
        try:
            built = await self._outcome(client, future)
        except self._distributed.KilledWorker as error:
            raise Transient("several Dask workers died over it, perhaps of too little memory") from error
        except (CancelledError, OSError) as error:
            await self._disconnect(client)
            raise Transient(f"the Dask scheduler at {self._address} went away: {error}") from error
        except (ImportError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "deserializ" not in str(error):
                raise
            raise Permanent(f"scheduler and workers of the Dask cluster need {VERSIONS} installed") from error
        finally:
            future.release()
        parsed(len(built.parsed))
        return built

    async def close(self) -> None:
        """Leave the cluster, which drops the tasks whose caller is gone."""
        if self._client is not None:
            await self._disconnect(self._client)

    async def _outcome(self, client: Any, future: Any) -> Built:
        """What a task gives, waited for as long as there is anybody to do it; raises Transient, and what it raises."""
        result: asyncio.Future[Built] = asyncio.ensure_future(future.result())
        try:
            while not (await asyncio.wait([result], timeout=LOOK_SECONDS))[0]:
                if not client.scheduler_info(n_workers=-1)["workers"]:
                    raise Transient(f"the Dask cluster at {self._address} has no workers")
            return result.result()
        finally:
            result.cancel()

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                try:
                    self._client = await self._distributed.Client(
                        self._address,
                        asynchronous=True,
                        name="bikeflow",
                        set_as_default=False,
                    )
                except (OSError, TimeoutError, ValueError) as error:
                    raise Transient(
                        f"can't reach the Dask scheduler at {self._address}: is it running there?"
                    ) from error
            return self._client

    async def _disconnect(self, client: Any) -> None:
        if self._client is client:
            self._client = None
            await client.close(timeout=_CLOSE_SECONDS)


async def build_elsewhere(config: WorkerConfig, work: SegmentWork, versions: str) -> Built:
    """Build a segment on another machine, which has its own secrets; `versions` are those of who asks.

    Raises Permanent where this worker would write other bytes, has no secrets or sees no such local lake.
    """
    if versions != VERSIONS:
        raise Permanent(f"a Dask worker has {VERSIONS}, but the service has {versions}: install the same versions")
    storage = config.storage
    if storage.backend == "local":
        if not (config.data_dir / "lake").is_dir():
            raise Permanent(
                f"a Dask worker sees no {config.data_dir / 'lake'}: workers on other machines need"
                ' storage.backend = "s3", or that directory in a shared file system'
            )
    else:
        secrets = store_secrets()
        if secrets is None:
            raise Permanent(
                "a Dask worker has no secrets of the store: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY for it,"
                " or give it systemd credentials"
            )
        own = dict(zip(("access_key_id", "secret_access_key"), secrets, strict=True))
        config = replace(config, storage=storage.model_copy(update=own))
    return await build_segment(config, work)
