#!/usr/bin/env bash
# Start a real one-node Ceph (mon + osd [+ mgr]) and its Object Gateway (radosgw, S3) by hand, on
# 127.0.0.1 only, from Debian 12's packages (ceph 16.2.15). Run as root. No systemd needed.
#   RGW_STORE=bluestore|memstore  (default bluestore on a sparse plain file)   RGW_MGR=0|1 (default 0)
#   RGW_BLOCK_GIB=10   RGW_BASE=/var/tmp/ceph-rgw   RGW_PORT=7480   RGW_TLS_PORT=7443   RGW_BUCKET=bikeflow
#   RGW_ACCESS_KEY / RGW_SECRET_KEY
# It prints endpoint/access/secret and leaves them in $RGW_BASE/run/env. Stop with stop-rgw.sh.
set -euo pipefail
BASE=${RGW_BASE:-/var/tmp/ceph-rgw}; RUN=$BASE/run; CONF=$RUN/ceph.conf
STORE=${RGW_STORE:-bluestore}; MGR=${RGW_MGR:-0}; BLOCK_GIB=${RGW_BLOCK_GIB:-10}
PORT=${RGW_PORT:-7480}; TLS_PORT=${RGW_TLS_PORT:-7443}; BUCKET=${RGW_BUCKET:-bikeflow}
ACCESS=${RGW_ACCESS_KEY:-BIKEFLOWACCESSKEY001}; SECRET=${RGW_SECRET_KEY:-bikeflowSecretKey0123456789abcdefghijklm}
MON_PORT=${RGW_MON_PORT:-3300}
say() { printf '[%6.1fs] %s\n' "$(awk -v a="$EPOCHREALTIME" -v b="$T0" 'BEGIN{print a-b}')" "$*" >&2; }
T0=$EPOCHREALTIME
[ "$(id -u)" = 0 ] || { echo "must run as root" >&2; exit 1; }
if compgen -G "$RUN/*.pid" >/dev/null; then echo "pid files in $RUN: run stop-rgw.sh first" >&2; exit 1; fi

# ---- packages -------------------------------------------------------------------------------
pkgs=(ceph-mon ceph-osd radosgw ceph-base ceph-common curl openssl uuid-runtime)
[ "$MGR" = 1 ] && pkgs+=(ceph-mgr)
missing=()
for p in "${pkgs[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)" = installed ] || missing+=("$p")
done
mkdir -p "$BASE"
if [ ${#missing[@]} -gt 0 ]; then
  say "installing: ${missing[*]}"
  # keep the packages' maintainer scripts from starting anything (there may be no systemd anyway)
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y -o DPkg::Lock::Timeout=600 \
      --no-install-recommends "${missing[@]}"; } \
    </dev/null >"$BASE/apt.log" 2>&1 || { tail -20 "$BASE/apt.log" >&2; exit 1; }
  say "packages installed"
fi
export PATH=/usr/sbin:/usr/bin:/sbin:/bin   # `ceph` must run under Debian's python3, not a pyenv shim

# ---- configuration --------------------------------------------------------------------------
rm -rf "$RUN"; mkdir -p "$RUN"/{mon,osd,mgr,rgw,log,sock}; chmod 700 "$RUN"
FSID=$(uuidgen); OSD_UUID=$(uuidgen)
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1,DNS:localhost \
  -keyout "$RUN/tls.key" -out "$RUN/tls.crt" 2>/dev/null
cat >"$CONF" <<CONF
[global]
fsid = $FSID
mon host = v2:127.0.0.1:$MON_PORT
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv4 = true
ms bind ipv6 = false
# one machine, loopback only: no cephx
auth cluster required = none
auth service required = none
auth client required = none
keyring = $RUN/keyring
run dir = $RUN/sock
admin socket = $RUN/sock/\$cluster-\$name.asok
log file = $RUN/log/\$name.log
log to stderr = false
err to stderr = true
crash dir = $RUN/log
fatal signal handlers = false
# one copy of everything
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
# radosgw asks for a "secure" mon connection by default, which needs cephx: without this line it hangs 300 s
ms mon client mode = crc
client mount timeout = 60
# publish map changes at once: seven pools otherwise cost two seconds each
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail warn = 1
mon data avail crit = 1
auth allow insecure global id reclaim = false
[mon]
mon data = $RUN/mon
mon cluster log file = $RUN/log/cluster.log
[mgr]
mgr data = $RUN/mgr
[osd]
osd data = $RUN/osd
osd journal =
osd objectstore = $STORE
osd memory target = 1073741824
osd class load list = *
osd class default list = *
bluestore block create = true
bluestore block size = $((BLOCK_GIB*1024*1024*1024))
bluestore block path =
bluestore block db create = false
bluestore block wal create = false
bluestore fsck on mount = false
memstore device bytes = $((BLOCK_GIB*1024*1024*1024))
[client.rgw]
rgw data = $RUN/rgw
rgw frontends = beast endpoint=127.0.0.1:$PORT ssl_endpoint=127.0.0.1:$TLS_PORT ssl_certificate=$RUN/tls.crt ssl_private_key=$RUN/tls.key
rgw thread pool size = 64
rgw num rados handles = 1
rgw enable usage log = false
CONF
C() { timeout 60 ceph -c "$CONF" --connect-timeout 20 "$@"; }
fail() { say "FAILED: $*"; tail -qn 4 "$RUN"/log/{client.rgw,osd.0,mon.a}.log >&2 || true; "$(dirname "$0")/stop-rgw.sh" keep || true; exit 1; }
wait_for() { # seconds, command...
  local n=$(( $1 * 5 )); shift
  while ! "$@" >/dev/null 2>&1; do n=$((n-1)); [ $n -gt 0 ] || return 1; sleep 0.2; done
}

# ---- mon ------------------------------------------------------------------------------------
monmaptool --create --fsid "$FSID" --addv a "[v2:127.0.0.1:$MON_PORT]" "$RUN/monmap" >/dev/null
: >"$RUN/keyring"
ceph-mon -c "$CONF" --mkfs -i a --monmap "$RUN/monmap" 
ceph-mon -c "$CONF" -i a --pid-file "$RUN/mon.pid"
C mon versions >/dev/null || fail mon
say "mon up"

# ---- mgr (optional: S3 works without it; `ceph -s` then knows no PG states) --------------------
if [ "$MGR" = 1 ]; then
  ceph-mgr -c "$CONF" -i x --pid-file "$RUN/mgr.pid"; say "mgr started"
fi

# ---- osd ------------------------------------------------------------------------------------
C osd new "$OSD_UUID" >/dev/null || fail "osd new"
ceph-osd -c "$CONF" -i 0 --mkfs --osd-uuid "$OSD_UUID" >"$RUN/log/osd-mkfs.out" 2>&1 || { cat "$RUN/log/osd-mkfs.out" >&2; fail "osd mkfs"; }
ceph-osd -c "$CONF" -i 0 --pid-file "$RUN/osd.pid" >"$RUN/log/osd.out" 2>&1 || fail "osd start"
osd_up() { C osd stat | grep -q '1 up'; }
wait_for 60 osd_up || fail "osd up"
say "osd up ($STORE)"

# ---- radosgw --------------------------------------------------------------------------------
# The user first: radosgw-admin also makes the default realm's pools. (--setuser is not given: all run as root.)
timeout 120 radosgw-admin -c "$CONF" -n client.rgw user create --uid=bikeflow --display-name=bikeflow \
  --access-key="$ACCESS" --secret="$SECRET" >"$RUN/user.json" 2>"$RUN/log/user.err" || { cat "$RUN/log/user.err" >&2; fail "user create"; }
say "user created"
radosgw -c "$CONF" -n client.rgw --pid-file="$RUN/rgw.pid" >"$RUN/log/rgw.out" 2>&1 || fail "radosgw start"
wait_for 120 curl -s -o /dev/null "http://127.0.0.1:$PORT/" || fail "radosgw does not answer"
say "radosgw answers"

# ---- bucket (curl can sign SigV4 itself) -------------------------------------------------------
mk() {
  [ "$(curl -s -o "$RUN/log/bucket.out" -w '%{http_code}' --aws-sigv4 aws:amz:us-east-1:s3 --user "$ACCESS:$SECRET" \
      -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -X PUT "http://127.0.0.1:$PORT/$BUCKET")" = 200 ]
}
wait_for 60 mk || { cat "$RUN/log/bucket.out" >&2; fail "bucket"; }
say "bucket $BUCKET made"
cat >"$RUN/env" <<ENV
S3_ENDPOINT=http://127.0.0.1:$PORT
S3_ENDPOINT_TLS=https://127.0.0.1:$TLS_PORT
S3_CA=$RUN/tls.crt
S3_ACCESS_KEY=$ACCESS
S3_SECRET_KEY=$SECRET
S3_BUCKET=$BUCKET
S3_REGION=us-east-1
ENV
cat "$RUN/env"
