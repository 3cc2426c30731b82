#!/bin/sh
# `bikeflow` for operators, installed as /usr/local/bin/bikeflow: root runs it as the service's user, with the service's
# configuration, state and secrets, so that nothing of root's is left behind; others run it as themselves.
release=${BIKEFLOW_RELEASE:-/opt/bikeflow/current}
export BIKEFLOW_CONFIG="${BIKEFLOW_CONFIG:-/etc/bikeflow/config.toml}"
if [ "$(id -u)" -ne 0 ] || [ ! -d /run/systemd/system ]; then
    export STATE_DIRECTORY="${STATE_DIRECTORY:-/var/lib/bikeflow}"
    exec "$release/bin/bikeflow" "$@"
fi
exec systemd-run --quiet --wait --collect --pipe --pty --service-type=exec --setenv=BIKEFLOW_CONFIG \
    --property=User=bikeflow --property=Group=bikeflow --property=UMask=0027 \
    --property=StateDirectory=bikeflow --property=StateDirectoryMode=0750 \
    --property=EnvironmentFile=-/etc/bikeflow/environment \
    --property=LoadCredential=s3_access_key_id:bikeflow.s3_access_key_id \
    --property=LoadCredential=s3_secret_access_key:bikeflow.s3_secret_access_key \
    --property=LoadCredential=alert_urls:bikeflow.alert_urls \
    --property=LoadCredential=postgres_dsn:bikeflow.postgres_dsn \
    "$release/bin/bikeflow" "$@"
