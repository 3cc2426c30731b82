"""Where a feed may send us, by a redirect or by naming further documents.

A feed is not trusted, and this machine may reach what others don't: its own services, the router, a cloud's metadata.

A feed whose configured address is not public itself may lead to others that are not.
"""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from bikeflow.core.errors import Permanent
from bikeflow.settings.systems import public_url

NOT_PUBLIC = "an address that is not public"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether the internet reaches this address; one of IPv6 that stands for one of IPv4 is judged as that."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def check_redirect(before: URL, after: URL) -> None:
    """Raise `Permanent` where a redirect would give something away: by plain HTTP, or with credentials of its own."""
    place = public_url(str(before))
    if after.scheme not in ("http", "https"):
        raise Permanent(f"{place} leads to an address that can't be fetched ({after.scheme}:)")
    if (before.scheme, after.scheme) == ("https", "http"):
        raise Permanent(f"{place} redirects from https to plain HTTP, which is not followed")


class Destinations(AbstractResolver):
    """Finds the addresses of hosts: of all of them where `anywhere`, else the public ones only."""

    def __init__(self, *, anywhere: bool) -> None:
        self._anywhere = anywhere
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """The addresses of a name; raises OSError."""
        found = await self._resolver.resolve(host, port, family)  # type: ignore[arg-type] # aiohttp's own is narrower
        allowed = [one for one in found if self._anywhere or is_public(one["host"])]
        if found and not allowed:
            raise OSError(None, f"{host} has {NOT_PUBLIC}, and the feed's own is public")
        return allowed

    async def close(self) -> None:
        """Nothing is open."""
        await self._resolver.close()

    def check(self, url: URL) -> None:
        """Raise `Permanent` for a URL with credentials, or with an address instead of a name that is not public."""
        place = public_url(str(url))
        if url.user is not None or url.password is not None:
            raise Permanent(f"{place} is named with a user name or password, which is not sent")
        if not self._anywhere and url.host is not None and _is_private(url.host):
            raise Permanent(f"{place} has {NOT_PUBLIC}, and the feed's own is public")

    def tracing(self) -> aiohttp.TraceConfig:
        """What looks at each request, and at each redirect before it is followed."""

        async def starts(
            _session: aiohttp.ClientSession, _context: SimpleNamespace, told: aiohttp.TraceRequestStartParams
        ) -> None:
            self.check(told.url)

        async def redirected(
            _session: aiohttp.ClientSession, _context: SimpleNamespace, told: aiohttp.TraceRequestRedirectParams
        ) -> None:
            try:
                after = told.url.join(URL(told.response.headers.get(hdrs.LOCATION, "")))
            except ValueError:
                return  # aiohttp says so
            check_redirect(told.url, after)
            self.check(after)

        config = aiohttp.TraceConfig()
        config.on_request_start.append(starts)
        config.on_request_redirect.append(redirected)
        return config


async def has_private_address(host: str) -> bool:
    """Whether this name or address leads to what the internet does not reach; raises OSError where it leads nowhere."""
    if _is_private(host):
        return True
    found = await aiohttp.ThreadedResolver().resolve(host)
    return not all(is_public(one["host"]) for one in found)


def _is_private(host: str) -> bool:
    """Whether this is an address that is not public; what a name stands for is unknown here."""
    try:
        return not is_public(host)
    except ValueError:
        return False
