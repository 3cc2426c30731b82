"""A simulated bike-share city and its feed: what `bikeflow demo` and the tests run on, with no network.

`City` writes the feed's document for any moment; `serve_feed` serves any such document over HTTP on loopback.
"""

from __future__ import annotations

from bikeflow.simulator.city import City
from bikeflow.simulator.oddities import NO_ODDITIES, Oddities
from bikeflow.simulator.rhythm import Area
from bikeflow.simulator.server import serve_feed

__all__ = ["NO_ODDITIES", "Area", "City", "Oddities", "serve_feed"]
