"""The environment names of installations that bikeflow took over: `S3_…`, `HETZNER_…`, `MINIO_…`, `BUCKET_NAME`,
`POSTGRES_…`.

The three families of S3 are alternatives. One is used as a whole, so that a key is never sent to the endpoint of
another family: the first of S3, HETZNER, MINIO that has both keys, else the first that has anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from bikeflow.settings.model import Given, Layer

SINGLE_NAMES = {
    "BUCKET_NAME": "storage.bucket",
    "S3_REGION_NAME": "storage.region",
    "WRM_STATIONS_S3_PREFIX": "storage.prefix",
}
FAMILIES = ("S3", "HETZNER", "MINIO")
SPELLINGS = {
    "storage.endpoint_url": ("ENDPOINT_URL", "ENDPOINT"),
    "storage.access_key_id": ("ACCESS_KEY_ID", "ACCESS_KEY"),
    "storage.secret_access_key": ("SECRET_ACCESS_KEY", "SECRET_KEY"),
}
KEYS = {"storage.access_key_id", "storage.secret_access_key"}


def legacy_environment(environ: Mapping[str, str], notes: list[str]) -> Layer:
    """The layer that the older names give; an empty variable counts as not set, families left out are noted."""
    layer = {key: Given(environ[name], f"env {name}") for name, key in SINGLE_NAMES.items() if environ.get(name)}
    families = {family: values for family in FAMILIES if (values := _family(family, environ))}
    chosen = next((name for name, values in families.items() if values.keys() >= KEYS), next(iter(families), None))
    layer |= _postgres(environ)
    for family, values in families.items():
        if family == chosen:
            layer |= values
        else:
            ignored = ", ".join(value.origin for value in values.values())
            notes.append(f"{ignored}: not used, since {chosen}_... is set")
    return layer


def _postgres(environ: Mapping[str, str]) -> Layer:
    """Where a host is named, the connection that the variables describe; the others have PostgreSQL's own defaults."""
    host = environ.get("POSTGRES_HOST")
    if not host:
        return {}
    names = {"user": "USER", "password": "PASSWORD", "port": "PORT", "dbname": "DB"}
    values = {"host": host} | {key: environ.get(f"POSTGRES_{name}", "") for key, name in names.items()}
    escaped = {key: value.replace("\\", r"\\").replace("'", r"\'") for key, value in values.items() if value}
    dsn = " ".join(f"{key}='{value}'" for key, value in escaped.items())
    return {"postgres.dsn": Given(dsn, "env POSTGRES_HOST")}


def _family(family: str, environ: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for key, endings in SPELLINGS.items():
        name = next((name for ending in endings if environ.get(name := f"{family}_{ending}")), None)
        if name is not None:
            layer[key] = Given(environ[name], f"env {name}")
    endpoint = layer.get("storage.endpoint_url")
    if endpoint is not None and "://" not in str(endpoint.value):
        # the older pipeline took bare hosts, and spoke plain http to MinIO only
        scheme = "http" if family == "MINIO" else "https"
        layer["storage.endpoint_url"] = Given(f"{scheme}://{endpoint.value}", endpoint.origin)
    return layer
