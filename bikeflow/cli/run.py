"""`bikeflow run`: the service."""

from __future__ import annotations

import asyncio

from bikeflow.cli.options import Given, grouped
from bikeflow.service.daemon import serve


@grouped
def run(given: Given) -> None:
    """Run the service until SIGTERM or Ctrl-C. It fetches, stores, processes and publishes."""
    asyncio.run(serve(given.start(), given.load))
