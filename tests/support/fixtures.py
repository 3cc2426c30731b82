"""Fixtures for all tests: `pytest_plugins = ["tests.support.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from tests.support import s3server
from tests.support.s3server import S3Server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server: the one that the environment names, else rclone's over http."""
    named = s3server.from_environment()
    if named:
        yield named
        named.remove_places()
        return
    with s3server.rclone(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """rclone's S3 server over https, with a certificate of a CA that nobody knows."""
    if s3server.from_environment():
        pytest.skip("the server that the environment names is tested instead")
    directory = tmp_path_factory.mktemp("s3-tls")
    ca, certificate, key = (directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(ca))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    with s3server.rclone(directory, certificate=(certificate, key), ca_bundle=ca) as server:
        yield server
