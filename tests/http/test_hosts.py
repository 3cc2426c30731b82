"""A page of another site can't read ours by letting its own name point here (DNS rebinding): the name gives it away."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bikeflow.core.events import Events
from bikeflow.http.site import open_site
from bikeflow.settings.sections import HttpSettings
from tests.http.conftest import client_of, settings_for
from tests.http.test_bulkheads import spoken


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8080", "localhost", "LOCALHOST:8080", "localhost.", "a.localhost", "[::1]", "[::1]:80",
     "192.168.7.7", "203.0.113.9:8080", "[2001:db8::7]", socket.gethostname(), f"{socket.gethostname()}.local:8080"],
)  # fmt: skip
async def test_addresses_and_this_machines_own_names_are_answered(tmp_path: Path, host: str) -> None:
    async with open_site(settings_for(tmp_path), Events()) as site, client_of(site.url) as client:
        assert (await client.ask("/healthz", Host=host)).status == 200


@pytest.mark.parametrize("path", ["/", "/map", "/healthz", "/metrics", "/api/v1/status", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b", "[::1"]
)
async def test_any_other_name_is_refused_with_the_setting_that_allows_it(tmp_path: Path, host: str, path: str) -> None:
    async with open_site(settings_for(tmp_path), Events()) as site, client_of(site.url) as client:
        answer = await client.ask(path, Host=host)
    assert answer.status == 421 and "http.hosts" in answer.json["error"]


async def test_names_can_be_added_and_all_be_allowed(tmp_path: Path) -> None:
    for hosts, host, status in (
        ("bikes.example.org Stats.example.org", "stats.example.org:443", 200),
        ("bikes.example.org", "bikes.example.org", 200),
        ("bikes.example.org", "www.bikes.example.org", 421),
        ("*", "evil.example", 200),
    ):
        http = HttpSettings(listen="127.0.0.1:0", hosts=hosts)
        settings = settings_for(tmp_path).model_copy(update={"http": http})
        async with open_site(settings, Events()) as site, client_of(site.url) as client:
            assert (await client.ask("/healthz", Host=host)).status == status


async def test_a_client_that_names_no_host_is_no_browser(tmp_path: Path) -> None:
    async with open_site(settings_for(tmp_path), Events()) as site:
        assert b" 200 OK" in await spoken(site.url, b"GET /healthz HTTP/1.0")
