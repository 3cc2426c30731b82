"""A full run with secrets that are easy to find: none of them is found anywhere."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.http.conftest import client_of
from tests.service.test_reload import Operator, bikeflow, give_credentials, values_for
from tests.support import oracle, webhook
from tests.support.s3server import S3Server
from tests.support.service import configure, running

PATHS = ("/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/stations", "/api/v1/bikes", "/api/v1/runs")
CANARY, TOKEN, KEY = "canary-secret-key", "canary-alert-token", "canary-feed-key"


def found(secrets: set[str], outputs: dict[str, bytes]) -> list[str]:
    """Which secret stands where."""
    return [f"{secret} in {name}" for name, data in outputs.items() for secret in secrets if secret.encode() in data]


async def test_no_secret_is_in_any_output_of_a_full_run(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data_dir, directory = tmp_path / "config.toml", tmp_path / "data", tmp_path / "secrets"
    directory.mkdir()
    give_credentials(directory, s3_server)
    storage = s3_server.settings()
    secrets = {s3_server.access_key_id, s3_server.secret_access_key, CANARY, TOKEN}
    outputs: dict[str, bytes] = {}
    async with webhook.listening() as hook, oracle.serving() as feed:
        (directory / "alert_urls").write_text(f"{hook.url(TOKEN)} jsons://me:{TOKEN}@127.0.0.1:9/ nowhere://{TOKEN}")
        (directory / "alert_urls").chmod(0o400)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
        settings = {
            "storage.backend": "s3", "storage.bucket": storage.bucket, "storage.region": storage.region,
            "storage.endpoint_url": storage.endpoint_url, "log.level": "debug", "alerts.grace_seconds": 0,
            "alerts.disk_free_bytes": 2**62,
        }  # fmt: skip
        values = values_for(data_dir, f"{feed.url}?key={KEY}") | settings
        async with running(data_dir, str(values["feed.url"]), config=config, settings=settings) as service:
            await service.told("refreshed", 2)
            await service.logged("event=alert_sent")
            outputs["arguments"] = await asyncio.to_thread(Path(f"/proc/{service.process.pid}/cmdline").read_bytes)
            async with client_of(await service.url()) as client:
                for path in PATHS:
                    outputs[path] = (await client.ask(path)).text.encode()
            for command in (("check-config",), ("check-config", "--json"), ("status",), ("alerts", "test")):
                _, out, err = await bikeflow(*command, "--config", str(config), cwd=tmp_path)
                outputs[" ".join(command)] = (out + err).encode()
            configure(config, values | {"storage.secret_access_key": CANARY})
            outputs["secret in the file"] = "".join((await bikeflow("check-config", cwd=tmp_path))[1:]).encode()
            operator = Operator(service, config, dict(values))
            (directory / "s3_secret_access_key").chmod(0o600)
            (directory / "s3_secret_access_key").write_text(CANARY)
            await operator.is_refused(lambda file: configure(file, values))
            monkeypatch.setenv("S3_SECRET_ACCESS_KEY", CANARY)
            _, out, err = await bikeflow("verify", "--config", str(config), cwd=tmp_path)
            outputs["verify with a wrong key"] = (out + err).encode()
            assert await service.stop() == 0
        outputs["log"] = service.log().encode()
        outputs["alerts"] = str(hook.messages).encode()
    outputs |= {str(file): file.read_bytes() for file in data_dir.rglob("*") if file.is_file()}
    assert found(secrets, outputs) == []
    # the operator's own configuration is shown to the operator
    assert found({KEY}, {name: data for name, data in outputs.items() if not name.startswith("check-config")}) == []
    assert len(outputs) > 20 and b"(set)" in outputs["check-config"] and b"alert_refused" in outputs["log"]
    assert b"is a secret and must not stand in a file" in outputs["secret in the file"]
    assert re.search(rb"event=reload_refused .*storage", outputs["log"])


async def test_state_can_be_read_by_the_group_at_most_whatever_the_umask(tmp_path: Path) -> None:
    async with oracle.serving() as feed:
        former = os.umask(0)
        try:
            async with running(tmp_path / "data", feed.url) as service:
                await service.told("refreshed", 2)
                assert await service.stop() == 0
        finally:
            os.umask(former)
    modes = {path: path.stat().st_mode & 0o027 for path in (tmp_path / "data").rglob("*")}
    assert [path for path, mode in modes.items() if mode] == [] and len(modes) > 10


async def test_a_credential_that_everybody_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s3_access_key_id").write_text(CANARY)
    (tmp_path / "s3_access_key_id").chmod(0o644)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    code, out, err = await bikeflow("check-config", cwd=tmp_path)
    assert code == 2 and out == "" and CANARY not in err
    assert err == (
        "error: credential s3_access_key_id: every user of this machine can read it; "
        f"chmod o-r {tmp_path / 's3_access_key_id'}\n"
    )
    (tmp_path / "s3_access_key_id").chmod(0o640)
    assert (await bikeflow("check-config", cwd=tmp_path))[0] == 0
