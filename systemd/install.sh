#!/usr/bin/env bash
# Installs bikeflow as a systemd service, upgrades it, goes back to the release before, or removes it.
#
#   systemd/install.sh install [WHEEL]    from this source tree, or a wheel built from it
#   systemd/install.sh rollback
#   systemd/install.sh uninstall [--purge]
#
# Each release is a virtual environment of its own in /opt/bikeflow/releases, with the unit that belongs to it; `current`
# and `previous` are links. A running service is restarted into the new release, and into the old one again where the new
# one does not start, or does not get ready within $READY_SECONDS although the old one was.
set -euo pipefail
shopt -s inherit_errexit

root=/opt/bikeflow
etc=/etc/bikeflow
state=/var/lib/bikeflow
units=/etc/systemd/system
command=/usr/local/bin/bikeflow
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ready_seconds=${READY_SECONDS:-120}

die() {
    echo "error: $*" >&2
    exit 1
}

python_for_venv() {
    local python
    for python in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    die "bikeflow needs Python 3.11 or newer that can make virtual environments: apt-get install python3 python3-venv"
}

# Makes a release, complete or not at all, and prints its directory.
build() {
    local wheel=$1 python release
    python=$(python_for_venv)
    release=$root/releases/$(date -u +%Y%m%dT%H%M%SZ)
    mkdir -p "$root/releases"
    [ ! -e "$release" ] || die "$release exists already; try again"
    # shellcheck disable=SC2064 # the directory of now is meant
    trap "rm -rf '$release'" EXIT
    "$python" -m venv "$release"
    local pip=("$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile)
    "${pip[@]}" --require-hashes -r "$source/.ci/locked/build.txt" -r "$source/.ci/locked/run.txt"
    "${pip[@]}" --no-deps --no-build-isolation "${wheel:-$source}"
    # On all processors, and without the libraries' tests: that halves the time of an installation.
    "$release/bin/python" -m compileall -q -j 0 -x /tests/ "$release/lib" || true
    "$release/bin/bikeflow" --version >&2
    mkdir -p "$release/share/bikeflow"
    cp -R "$source/systemd" "$source/config.toml" "$source/README.md" "$source/CHANGELOG.md" "$release/share/bikeflow/"
    trap - EXIT
    echo "$release"
}

# Points NAME to a release, in one step.
point() {
    ln -sfn "$2" "$root/.$1.new"
    mv -T "$root/.$1.new" "$root/$1"
}

# Makes a release the current one, with its unit.
activate() {
    local share=$1/share/bikeflow/systemd version
    point current "$1"
    install -D -m 644 "$share/bikeflow.sysusers" /usr/lib/sysusers.d/bikeflow.conf
    systemd-sysusers bikeflow.conf
    install -m 644 "$share/bikeflow.service" "$units/bikeflow.service"
    version=$(systemctl --version | awk 'NR == 1 { print int($2) }')
    if [ "$version" -ge 254 ]; then
        install -D -m 644 "$share/bikeflow.service.d/backoff.conf" "$units/bikeflow.service.d/10-backoff.conf"
    fi
    install -D -m 755 "$share/command.sh" "$command"
    systemctl daemon-reload
}

configure() {
    install -d -m 755 "$etc"
    install -d -m 700 /etc/credstore
    [ -e "$etc/config.toml" ] || install -m 644 "$source/config.toml" "$etc/config.toml"
    [ -e "$etc/environment" ] || install -m 600 "$source/systemd/environment.example" "$etc/environment"
    install -m 644 "$source/config.toml" "$etc/config.toml.example"
}

# Succeeds where the running service says that all of it works; where it serves no HTTP, that it runs.
ready() {
    systemctl is-active --quiet bikeflow || return
    [ -e "$state/http.address" ] || return 0
    # What the service has written is read as its user, and stands in no list of arguments.
    runuser -u bikeflow -- "$root/current/bin/python" - "$state/http.address" <<'PYTHON' 2>/dev/null
import pathlib, sys, urllib.request
address = pathlib.Path(sys.argv[1]).read_text(encoding="ascii").strip()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(address + "readyz", timeout=5)
PYTHON
}

# Restarts into the current release; fails where it does not start, or is $1 = ready and does not get so in time.
restart() {
    local deadline=$((SECONDS + ready_seconds))
    systemctl restart bikeflow || return
    [ "$1" = ready ] || return 0
    until ready; do
        [ "$SECONDS" -lt "$deadline" ] || return
        sleep 1
    done
}

# Fails, with the reasons, where a release finds the configuration wrong, seen as the service sees it.
check_configuration() {
    BIKEFLOW_RELEASE=$1 "$1/share/bikeflow/systemd/command.sh" check-config >/dev/null
}

do_install() {
    local old new before=
    local wrong="the configuration is wrong: correct it first; nothing was changed, and the service goes on"
    # A service with a configuration that is wrong by now would not start again, under whatever release.
    if systemctl is-active --quiet bikeflow; then
        check_configuration "$(readlink "$root/current")" || die "$wrong"
    fi
    new=$(build "${1:+$(readlink -f "$1")}")
    old=$(readlink "$root/current" || true)
    configure
    if systemctl is-active --quiet bikeflow; then
        before=running
        if ready; then before=ready; fi
    fi
    if [ -n "$before" ] && ! check_configuration "$new"; then
        rm -rf "$new"
        die "$wrong"
    fi
    activate "$new"
    systemctl enable --quiet bikeflow
    if [ -z "$before" ]; then
        echo "Installed. Configure it in $etc/config.toml, check that with \`bikeflow check-config\`, then"
        echo "    systemctl start bikeflow"
    elif restart "$before"; then
        echo "Upgraded, and $before; \`make rollback\` goes back."
    else
        systemctl --no-pager --lines=15 status bikeflow >&2 || true
        [ -n "$old" ] || die "the service does not start"
        activate "$old"
        restart running || die "the new release failed, and so does the one before"
        rm -rf "$new"
        die "the new release did not get $before within $ready_seconds s; the one before runs again"
    fi
    [ -z "$old" ] || point previous "$old"
    prune
}

prune() {
    local release
    for release in "$root"/releases/*; do
        case $release in
            "$(readlink "$root/current")" | "$(readlink "$root/previous")") ;;
            *) rm -rf "$release" ;;
        esac
    done
}

do_rollback() {
    local old new
    old=$(readlink "$root/previous") || die "there is no release before this one"
    new=$(readlink "$root/current")
    activate "$old"
    point previous "$new"
    if systemctl is-active --quiet bikeflow; then systemctl restart bikeflow; fi
    echo "Back on $("$old/bin/bikeflow" --version)."
}

do_uninstall() {
    systemctl disable --quiet --now bikeflow 2>/dev/null || true
    rm -rf "$root" "$units/bikeflow.service" "$units/bikeflow.service.d/10-backoff.conf" "$command"
    rmdir "$units/bikeflow.service.d" 2>/dev/null || true
    systemctl daemon-reload
    systemctl reset-failed bikeflow 2>/dev/null || true
    if [ "${1:-}" = --purge ]; then
        rm -rf "$etc" "$state" /etc/credstore/bikeflow.* /usr/lib/sysusers.d/bikeflow.conf
        ! getent passwd bikeflow >/dev/null || userdel bikeflow
        echo "Removed, with configuration, secrets and state."
    else
        echo "Removed. Configuration ($etc), secrets (/etc/credstore/bikeflow.*) and state ($state) are still there."
    fi
}

[ "$(id -u)" = 0 ] || die "this needs root: sudo make ${1:-install}"
[ -d /run/systemd/system ] || die "systemd does not run here"
# What is installed is for all to read and run, whatever root's own umask is.
umask 022
case ${1:-} in
    install | rollback | uninstall) "do_$1" "${@:2}" ;;
    *) die "usage: systemd/install.sh install [WHEEL] | rollback | uninstall [--purge]" ;;
esac
