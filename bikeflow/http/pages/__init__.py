"""The pages: each one HTML file that needs nothing else, with a policy that allows exactly its own style and script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from urllib.parse import urlsplit

from bikeflow.settings.sections import MapSettings

_NEVER = ("'none'",)


@dataclass(frozen=True, slots=True)
class Page:
    """A page's HTML, and the Content-Security-Policy that it is to be served with."""

    html: str
    policy: str


@cache
def page(name: str) -> Page:
    """The page in `<name>.html`, which may hold inline style and script elements, but asks nobody else for anything."""
    text = _text(name)
    return Page(text, _policy(text, connect=("'self'",)))


@cache
def map_page(settings: MapSettings) -> Page:
    """The map as the service serves it: it asks `api/v1/map` for what it shows."""
    text = _map(settings, b"null")
    return Page(text.replace("{{policy}}\n", ""), _policy(text, connect=("'self'",), images=_tile_origin(settings)))


def map_file(settings: MapSettings, document: bytes) -> str:
    """The map as a file of its own, with what it shows inside: `document` is the answer of `api/v1/map`."""
    text = _map(settings, document)
    # a page can't forbid by itself to be framed
    policy = _policy(text, images=_tile_origin(settings)).replace("; frame-ancestors 'none'", "")
    element = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy, quote=True)}">'
    return text.replace("{{policy}}", element, 1)


def _map(settings: MapSettings, document: bytes) -> str:
    tiles = {"tile_url": settings.tile_url, "tile_attribution": html.escape(settings.tile_attribution)}
    parts = {
        "leaflet.css": _leaflet("leaflet.css"),
        # the comment at its end sends debuggers after a file that is not there
        "leaflet.js": _leaflet("leaflet.js").partition("//# sourceMappingURL")[0],
        "settings": _inert(json.dumps(tiles)),  # Leaflet takes an attribution for markup
        "document": _inert(document.decode()),
    }
    # in one pass, so that nothing in the data is taken for a mark
    return re.sub(r"\{\{([a-z.]+)\}\}", lambda mark: parts.get(mark[1], mark[0]), _text("map"))


def _inert(text: str) -> str:
    """JSON that can't end the element that it stands in, nor begin one."""
    return text.replace("<", "\\u003c")


def _leaflet(name: str) -> str:
    """A file of the Leaflet library. Its package is only read, since importing it brings nothing."""
    path = metadata.distribution("XStatic-Leaflet").locate_file(f"xstatic/pkg/leaflet/data/{name}")
    return Path(str(path)).read_text(encoding="utf-8")


def _tile_origin(settings: MapSettings) -> tuple[str, ...]:
    found = urlsplit(settings.tile_url)
    return (f"{found.scheme}://{found.netloc}",) if settings.tile_url else ()


def _text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.html").read_text(encoding="utf-8")


def _policy(text: str, *, connect: tuple[str, ...] = _NEVER, images: tuple[str, ...] = ()) -> str:
    directives = {
        "default-src": _NEVER,
        "script-src": _hashes("script", text),
        "style-src": _hashes("style", text),
        "connect-src": connect,
        "img-src": ("data:", *images),
        "base-uri": _NEVER,
        "form-action": _NEVER,
        "frame-ancestors": _NEVER,
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in directives.items())


def _hashes(element: str, text: str) -> list[str]:
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" for body in bodies]
