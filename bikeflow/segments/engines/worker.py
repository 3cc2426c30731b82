"""What a worker does, be it a process on this machine or one of a cluster: one segment, with a store of its own."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from bikeflow import __version__
from bikeflow.core.errors import Permanent
from bikeflow.core.layout import Layout
from bikeflow.ledger.files import SegmentWork
from bikeflow.segments.builder import Built, SegmentBuilder
from bikeflow.segments.engines.base import Workplace
from bikeflow.settings import store_secrets
from bikeflow.store import ObjectCache, open_store

VERSIONS = f"bikeflow {__version__}, pyarrow {pa.__version__}"
"""What the bytes of a Parquet file depend on besides its raw files."""


async def build_segment(workplace: Workplace, work: SegmentWork) -> Built:
    """Read, parse and write one segment; it can be done again, by anybody, with the same result.

    Raises what `SegmentBuilder.build` raises.
    """
    async with open_store(workplace.storage, workplace.data_dir) as store:
        # Each raw file is read once, and the machine's own cache has one user: the service.
        cache = ObjectCache(store, workplace.data_dir / "cache", max_bytes=0)
        layout = Layout(workplace.storage.prefix)
        return await SegmentBuilder(store, cache, layout, workplace.rules, workplace.retry).build(work)


async def build_elsewhere(workplace: Workplace, work: SegmentWork, versions: str) -> Built:
    """The same on another machine, which has its own secrets; `versions` are those of who asks.

    Raises Permanent where this worker would write other bytes, has no secrets or sees no such local lake.
    """
    if versions != VERSIONS:
        raise Permanent(f"a Dask worker has {VERSIONS}, but the service has {versions}: install the same versions")
    storage = workplace.storage
    if storage.backend == "local":
        if not (workplace.data_dir / "lake").is_dir():
            raise Permanent(
                f"a Dask worker sees no {workplace.data_dir / 'lake'}: workers on other machines need"
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
        workplace = replace(workplace, storage=storage.model_copy(update=own))
    return await build_segment(workplace, work)
