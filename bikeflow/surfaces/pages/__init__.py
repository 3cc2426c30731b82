"""The pages: each one HTML file that needs nothing else, with a policy that allows exactly its own style and script."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Page:
    """A page's HTML, and the Content-Security-Policy that it is to be served with."""

    html: str
    policy: str


@cache
def page(name: str) -> Page:
    """The page in `<name>.html`, which may hold inline style and script elements, but asks nobody else for anything."""
    html = resources.files(__name__).joinpath(f"{name}.html").read_text(encoding="utf-8")
    directives = {
        "default-src": ["'none'"],
        "script-src": _hashes("script", html),
        "style-src": _hashes("style", html),
        "connect-src": ["'self'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return Page(html, "; ".join(f"{name} {' '.join(values)}" for name, values in directives.items()))


def _hashes(element: str, html: str) -> list[str]:
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" for body in bodies]
