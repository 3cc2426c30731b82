"""Under which names the pages answer: a page of another site whose own name points here is refused (DNS rebinding)."""

from __future__ import annotations

import ipaddress
import re
import socket

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from bikeflow.settings.sections import HttpSettings

MISDIRECTED = 421
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:\d*)?")


def only_known_hosts(settings: HttpSettings) -> Middleware:
    """Refuses requests whose header `Host` names neither an address nor this machine nor one of `http.hosts`."""
    names = _names(settings)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get(hdrs.HOST)
        if host is None or _is_known(host, names):  # only a browser can be deceived, and it always tells
            return await handler(request)
        return web.json_response(
            {"error": "this name is not known here; if it is right, add it to http.hosts in config.toml"},
            status=MISDIRECTED,
        )

    return check


def _names(settings: HttpSettings) -> set[str]:
    own = socket.gethostname().lower()
    listening = (settings.address or ("", 0))[0].lower()
    return {"localhost", own, f"{own}.local", listening, *settings.hosts.lower().split()}


def _is_known(host: str, names: set[str]) -> bool:
    if "*" in names:
        return True
    match = _HOST.fullmatch(host)
    name = match[1].strip("[]").lower().rstrip(".") if match else ""
    return bool(name) and (name in names or name.endswith(".localhost") or _is_address(name))


def _is_address(name: str) -> bool:
    """An address can't be made to point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
