#!/bin/bash
# systemd-box.sh - boot a real systemd as PID 1 of a throw-away namespace "box",
# on a Linux machine whose own PID 1 is not systemd.  Needs root and util-linux.
#
#   systemd-box.sh up [--bind H[:B]]... [--bind-ro H[:B]]... [options]
#   systemd-box.sh exec [--cwd DIR] [--env K=V]... CMD [ARG]...
#   systemd-box.sh status | journal [ARGS] | down | purge
#
# up options (environment default in brackets):
#   --base debootstrap|host  root fs: clean Debian (cached), or overlay of this host [BOX_BASE=debootstrap]
#   --suite NAME             Debian suite for debootstrap base              [BOX_SUITE=bookworm]
#   --packages a,b           extra packages in the base                     [BOX_PACKAGES=]
#   --cgroup auto|hybrid|unified                                            [BOX_CGROUP=auto]
#   --net host|private       share the host's network, or own loopback only [BOX_NET=host]
#   --keep                   keep the last writable layer ("reboot")         [fresh layer each up]
# NEVER start systemd (or systemd --user as root) without a cgroup namespace: it moves
# every process of its root cgroup, the host's too, into its own init.scope.
# Everything lives under BOX_DIR [/var/tmp/systemd-box].  The base is read-only: writes of
# a run go to an overlay layer that the next "up" throws away (unless --keep).
set -euo pipefail

BOX_DIR=${BOX_DIR:-/var/tmp/systemd-box}
BOX_BASE=${BOX_BASE:-debootstrap}
BOX_SUITE=${BOX_SUITE:-bookworm}
BOX_MIRROR=${BOX_MIRROR:-$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null)}   # the mirror this machine uses
BOX_PACKAGES=${BOX_PACKAGES:-}
BOX_CGROUP=${BOX_CGROUP:-auto}
BOX_NET=${BOX_NET:-host}
BOX_TIMEOUT=${BOX_TIMEOUT:-60}
BOX_NAME=${BOX_NAME:-sysd-box}
BASE_PACKAGES=systemd,systemd-sysv,dbus,python3,python3-venv,procps,libnss-systemd

die() { echo "systemd-box: $*" >&2; exit 1; }
say() { echo "systemd-box: $*" >&2; }
now() { date +%s%N; }
ms()  { echo $(( ($2 - $1) / 1000000 )); }

[ "$(id -u)" = 0 ] || die "must be root"
case $BOX_DIR in /*/?*) ;; *) die "BOX_DIR must be an absolute path of at least two parts" ;; esac
case $BOX_NAME in ''|*[!a-z0-9-]*) die "BOX_NAME: a-z, 0-9 and - only" ;; esac
SELF=$(readlink -f "$0")
CLEAN_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# ---------------------------------------------------------------- process identity
starttime() {  # field 22 of /proc/PID/stat, robust against blanks in comm
    local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    s=${s##*) }; set -- $s; echo "${20}"
}
leader() {     # prints the host pid of the box's PID 1, fails when it is gone
    local pid st
    read -r pid st 2>/dev/null <"$BOX_DIR/leader" || return 1
    [ "$(starttime "$pid")" = "$st" ] || return 1
    [ "$(awk '/^State/{print $2}' "/proc/$pid/status")" != Z ] || return 1
    echo "$pid"
}
enter() {      # PID CMD...  (all namespaces, root and cwd of the box, clean environment)
    local pid=$1; shift
    nsenter -t "$pid" -m -u -i -n -p -C --root="/proc/$pid/root" --wd="/proc/$pid/root" \
        env -i PATH=$CLEAN_PATH HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
        SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@"
}

# ---------------------------------------------------------------- cgroups
# One line per hierarchy in which the box gets a subtree: KIND MOUNTPOINT SUBTREE
cgroup_plan() {
    local mode=$1 mp type opts ctl path
    while read -r mp type opts; do
        if [ "$type" = cgroup2 ]; then
            path=$(sed -n 's/^0:://p' /proc/self/cgroup)
            echo "unified $mp ${mp%/}${path%/}/$BOX_NAME"
        elif [ "$mode" = hybrid ]; then
            for ctl in name=systemd cpu cpuacct memory devices pids blkio freezer; do
                case ",$opts," in *",$ctl,"*)
                    path=$(awk -F: -v c="$ctl" '{n=split($2,a,",");for(i=1;i<=n;i++)if(a[i]==c){sub(/^[^:]*:[^:]*:/,"");print;exit}}' /proc/self/cgroup)
                    echo "$ctl $mp ${mp%/}${path%/}/$BOX_NAME" ;;
                esac
            done
        fi
    done < <(awk '{for(i=7;i<=NF;i++)if($i=="-"){if($(i+1)=="cgroup"||$(i+1)=="cgroup2")print $5,$(i+1),$(i+3)}}' /proc/self/mountinfo)
}
cgroup_rm() {
    local d i
    [ -f "$BOX_DIR/cgroups" ] || return 0
    awk '{print $3}' "$BOX_DIR/cgroups" | sort -u | while read -r d; do
        for i in 1 2 3 4 5 6 7 8 9 10; do
            [ -d "$d" ] || break
            find "$d" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.1
        done
        [ ! -d "$d" ] || say "left behind: $d"
    done
    rm -f "$BOX_DIR/cgroups"
}

# ---------------------------------------------------------------- base image
build_base() {
    local root=$BOX_DIR/base-$BOX_SUITE pk=$BASE_PACKAGES${BOX_PACKAGES:+,$BOX_PACKAGES}
    if [ "$(cat "$root.ok" 2>/dev/null)" = "$pk" ]; then return 0; fi
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y -o DPkg::Lock::Timeout=600 \
              --no-install-recommends debootstrap; } \
            >"$BOX_DIR/apt.log" 2>&1 || die "apt failed, see $BOX_DIR/apt.log"
    fi
    say "debootstrap $BOX_SUITE (about a minute) ..."
    rm -rf --one-file-system "$root" "$root.ok"
    local script=/usr/share/debootstrap/scripts/$BOX_SUITE
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    # debootstrap mounts proc/sys inside the target: do it in a private mount namespace
    unshare --mount --propagation private debootstrap --variant=minbase --include="$pk" \
        "$BOX_SUITE" "$root" "$BOX_MIRROR" "$script" >"$BOX_DIR/debootstrap.log" 2>&1 \
        || die "debootstrap failed, see $BOX_DIR/debootstrap.log"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    : >"$root/etc/machine-id"
    echo "$pk" >"$root.ok"
}

# ---------------------------------------------------------------- inside: stage 1 (cgroups), stage 2 (mounts)
# Stage 1 is PID 1 of the new pid namespace already; it puts itself (not its
# parent) in the box's cgroups, and only then makes the cgroup namespace.
stage1() {
    local kind mp dir
    while read -r kind mp dir; do echo 0 >"$dir/cgroup.procs"; done <"$BOX_DIR/cgroups"
    exec unshare --cgroup -- "$BASH" "$SELF" __stage2
}
stage2() {
    local n=$BOX_DIR/mnt kind mp dir mode src dst rest lower upper work c
    . "$BOX_DIR/config"                       # MODE NET BASE LOWER UPPER
    mount --make-rprivate /
    mkdir -p "$n"
    mount -t overlay box -o "lowerdir=$LOWER,upperdir=$UPPER/up,workdir=$UPPER/work" "$n"
    mkdir -p "$n"/{proc,sys,dev,run,tmp,oldroot}

    mount -t proc proc "$n/proc" -o nosuid,nodev,noexec
    # /proc/sys and /sys read-only, so the box cannot change the host's kernel settings
    mount --bind "$n/proc/sys" "$n/proc/sys"; mount -o remount,bind,ro,nosuid,nodev,noexec "$n/proc/sys"
    # an own boot id per boot (as nspawn does), else "journalctl -b -1" / --list-boots see one boot only
    cp /proc/sys/kernel/random/uuid "$UPPER/boot_id"; chmod 444 "$UPPER/boot_id"
    mount --bind "$UPPER/boot_id" "$n/proc/sys/kernel/random/boot_id"; mount -o remount,bind,ro "$n/proc/sys/kernel/random/boot_id"
    [ ! -e "$n/proc/sysrq-trigger" ] || { mount --bind "$n/proc/sysrq-trigger" "$n/proc/sysrq-trigger"; mount -o remount,bind,ro "$n/proc/sysrq-trigger"; }
    mount -t sysfs sysfs "$n/sys" -o ro,nosuid,nodev,noexec
    mount -t tmpfs tmpfs "$n/dev" -o mode=755,nosuid,strictatime,size=4m
    for c in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
        IFS=: read -r kind mp dir <<<"$c"; mknod -m 666 "$n/dev/$kind" c "$mp" "$dir"
    done
    mkdir "$n"/dev/{pts,shm}
    mount -t devpts devpts "$n/dev/pts" -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec
    ln -s pts/ptmx "$n/dev/ptmx"; ln -s /proc/self/fd "$n/dev/fd"
    ln -s fd/0 "$n/dev/stdin"; ln -s fd/1 "$n/dev/stdout"; ln -s fd/2 "$n/dev/stderr"
    mount -t tmpfs tmpfs "$n/dev/shm" -o mode=1777,nosuid,nodev
    mount -t tmpfs tmpfs "$n/run" -o mode=755,nosuid,nodev
    mount -t tmpfs tmpfs "$n/tmp" -o mode=1777,nosuid,nodev

    if [ "$MODE" = unified ]; then
        mount -t cgroup2 cgroup2 "$n/sys/fs/cgroup" -o nosuid,nodev,noexec
    else
        mount -t tmpfs tmpfs "$n/sys/fs/cgroup" -o mode=755,nosuid,nodev,noexec
        while read -r kind mp dir; do
            case $kind in
                unified)      mkdir "$n/sys/fs/cgroup/unified"; mount -t cgroup2 cgroup2 "$n/sys/fs/cgroup/unified" -o nosuid,nodev,noexec ;;
                name=systemd) mkdir "$n/sys/fs/cgroup/systemd"; mount -t cgroup cgroup "$n/sys/fs/cgroup/systemd" -o none,name=systemd,xattr,nosuid,nodev,noexec ;;
                *)            mkdir -p "$n/sys/fs/cgroup/$kind"; mount -t cgroup cgroup "$n/sys/fs/cgroup/$kind" -o "$kind",nosuid,nodev,noexec ;;
            esac
        done <"$BOX_DIR/cgroups"
        mount -o remount,bind,ro "$n/sys/fs/cgroup"
    fi

    while IFS='|' read -r mode src dst rest; do
        [ -n "$src" ] || continue
        if [ -d "$src" ]; then mkdir -p "$n$dst"; else mkdir -p "$(dirname "$n$dst")"; [ -e "$n$dst" ] || : >"$n$dst"; fi
        mount --rbind "$src" "$n$dst"
        [ "$mode" = rw ] || mount -o remount,bind,ro "$n$dst"
        case $dst in /root/*) chmod 711 "$n/root" ;; esac   # else non-root users cannot reach it
    done <"$BOX_DIR/binds"

    [ -s "$n/etc/machine-id" ] || tr -d - </proc/sys/kernel/random/uuid >"$n/etc/machine-id"
    echo "$BOX_NAME" >"$n/etc/hostname"; hostname "$BOX_NAME"
    grep -q "[[:space:]]$BOX_NAME\$" "$n/etc/hosts" 2>/dev/null || printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$BOX_NAME" >>"$n/etc/hosts"
    if [ "$BASE" = host ]; then   # nothing of the host's enabled services may start here
        rm -rf "$n"/etc/systemd/system/*.wants "$n"/etc/systemd/system/*.requires "$n"/etc/rc[0-6S].d "$n"/etc/fstab
        mkdir -p "$n/etc/systemd/system/local-fs.target.wants"
    elif [ -e /etc/resolv.conf ]; then
        cat /etc/resolv.conf >"$n/etc/resolv.conf"
        # for pip inside: exec --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt ...
        if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
            mkdir -p "$n/etc/ssl/certs"; cat /etc/ssl/certs/ca-certificates.crt >"$n/etc/ssl/certs/ca-certificates.crt"
        fi
    fi
    # a chatty unit must not lose lines in a test
    mkdir -p "$n/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nForwardToConsole=no\nForwardToWall=no\n' >"$n/etc/systemd/journald.conf.d/box.conf"

    local init=/lib/systemd/systemd bset
    # the bounding set of systemd-nspawn's spirit: no modules, raw io, clock, kernel log
    bset=-sys_module,-sys_rawio,-sys_time,-syslog,-wake_alarm,-block_suspend,-mac_admin,-mac_override
    cd "$n"; pivot_root . oldroot
    umount -l /oldroot
    rmdir /oldroot 2>/dev/null || true
    # LoadCredential= mounts in a helper's namespace and relies on propagation; in a
    # "container" systemd leaves making the tree shared to the container manager
    mount --make-rshared /
    exec env -i PATH=$CLEAN_PATH container=other container_uuid= LANG=C.UTF-8 \
        setpriv --bounding-set "$bset" --inh-caps=-all "$init" --log-target=journal-or-kmsg </dev/null
}

# ---------------------------------------------------------------- commands
cmd_up() {
    local binds=() keep=0 o t0 t1 t2 pid sp mode i state
    while [ $# -gt 0 ]; do
        o=$1; shift
        case $o in
            --bind|--bind-ro) local s=${1%%:*} d=${1#*:} m=rw; [ "$o" = --bind ] || m=ro; shift
                s=$(readlink -e "$s") || die "no such path to bind: $s"
                case $d in /*) ;; *) die "bind target must be absolute: $d" ;; esac
                binds+=("$m|$s|$d|") ;;
            --base) BOX_BASE=$1; shift ;;       --suite) BOX_SUITE=$1; shift ;;
            --packages) BOX_PACKAGES=$1; shift ;; --cgroup) BOX_CGROUP=$1; shift ;;
            --net) BOX_NET=$1; shift ;;         --keep) keep=1 ;;
            *) die "unknown option $o" ;;
        esac
    done
    mkdir -p "$BOX_DIR"; chmod 755 "$BOX_DIR"
    exec 9>"$BOX_DIR/lock"; flock -w 300 9 || die "another systemd-box is busy"
    if pid=$(leader); then say "already up (leader pid $pid); 'down' first to change it"; return 0; fi
    cgroup_rm
    t0=$(now)
    local lower upper
    case $BOX_BASE in
        debootstrap) build_base 9>&-; lower=$BOX_DIR/base-$BOX_SUITE; upper=$BOX_DIR/layer ;;
        host) [ -x /lib/systemd/systemd ] && command -v dbus-daemon >/dev/null || die "host has no systemd+dbus"
              # must not lie below lowerdir=/ on the same file system: use a tmpfs
              lower=/; upper=/dev/shm/$BOX_NAME-layer ;;
        *) die "--base debootstrap|host" ;;
    esac
    t1=$(now)
    [ $keep = 1 ] || rm -rf --one-file-system "$upper"
    rm -rf --one-file-system "$upper/work"; mkdir -p "$upper/up" "$upper/work"; chmod 755 "$upper" "$upper/up"
    mode=$BOX_CGROUP
    if [ "$mode" = auto ]; then
        # v1 memory mounted somewhere: hybrid keeps MemoryMax= and friends working
        if awk '$0 ~ / - cgroup .*memory/{f=1} END{exit !f}' /proc/self/mountinfo; then mode=hybrid; else mode=unified; fi
    fi
    printf '%s\n' "${binds[@]:-}" >"$BOX_DIR/binds"
    printf 'MODE=%q NET=%q BASE=%q LOWER=%q UPPER=%q\n' "$mode" "$BOX_NET" "$BOX_BASE" "$lower" "$upper" >"$BOX_DIR/config"
    cgroup_plan "$mode" >"$BOX_DIR/cgroups"
    grep -q '^unified ' "$BOX_DIR/cgroups" || die "no cgroup2 mount found on the host"
    awk '{print $3}' "$BOX_DIR/cgroups" | sort -u | while read -r d; do mkdir -p "$d"; done
    local nsflags=(--fork --kill-child --pid --mount --uts --ipc --propagation private)
    case $BOX_NET in private) nsflags+=(--net) ;; host) ;; *) die "--net host|private" ;; esac
    export BOX_DIR BOX_NAME
    setsid unshare "${nsflags[@]}" -- "$BASH" "$SELF" __stage1 </dev/null >"$BOX_DIR/console.log" 2>&1 9>&- &
    sp=$!
    # setsid execs in place here (it is no group leader), so $sp is unshare; its only child is the leader
    pid=
    for ((i = 0; i < 250; i++)); do
        pid=$(cat "/proc/$sp/task/$sp/children" 2>/dev/null || true); pid=${pid%% *}
        [ -z "$pid" ] || break
        kill -0 "$sp" 2>/dev/null || break
        sleep 0.02
    done
    [ -n "$pid" ] || { cat "$BOX_DIR/console.log" >&2; cgroup_rm; die "the box did not start"; }
    echo "$pid $(starttime "$pid")" >"$BOX_DIR/leader"; echo "$sp $(starttime "$sp")" >"$BOX_DIR/parent"
    state=
    for ((i = 0; i < BOX_TIMEOUT * 20; i++)); do
        leader >/dev/null || { cat "$BOX_DIR/console.log" >&2; cgroup_rm; die "the box's init ended"; }
        if [ -S "/proc/$pid/root/run/systemd/private" ]; then
            state=$(enter "$pid" systemctl is-system-running 2>/dev/null 9>&- || true)
            case $state in running|degraded) break ;; esac
        fi
        sleep 0.05
    done
    t2=$(now)
    case $state in running|degraded) ;; *) die "boot not finished after ${BOX_TIMEOUT}s (state '$state'); see $BOX_DIR/console.log" ;; esac
    say "up: $(enter "$pid" systemctl --version | head -1), $state, cgroup $mode, net $BOX_NET, leader pid $pid; base $(ms "$t0" "$t1") ms, boot $(ms "$t1" "$t2") ms"
    [ "$state" = running ] || enter "$pid" systemctl --failed --no-legend >&2 || true
}

cmd_exec() {
    local pid cwd=/ envs=()
    pid=$(leader) || die "not up"
    while [ $# -gt 0 ]; do
        case $1 in --cwd) cwd=$2; shift 2 ;; --env) envs+=("$2"); shift 2 ;; --) shift; break ;; *) break ;; esac
    done
    [ $# -gt 0 ] || die "exec what?"
    set -- ${envs[@]+"${envs[@]}"} sh -c 'cd "$1" && shift && exec "$@"' sh "$cwd" "$@"
    # own session: a stray "kill 0" in the box would otherwise hit the caller's process group
    if [ -t 0 ]; then enter "$pid" "$@"; else enter "$pid" setsid --wait env "$@"; fi
}

cmd_down() {
    local pid sp st i
    mkdir -p "$BOX_DIR"; exec 9>"$BOX_DIR/lock"; flock -w 300 9 || die "another systemd-box is busy"
    if pid=$(leader); then
        kill -s RTMIN+4 "$pid" 2>/dev/null || true           # systemd: poweroff.target
        for ((i = 0; i < 300; i++)); do leader >/dev/null || break; sleep 0.05; done
        if pid=$(leader); then say "no clean shutdown in 15 s, killing init (and so the whole pid namespace)"; kill -KILL "$pid" || true; fi
        for ((i = 0; i < 100; i++)); do leader >/dev/null || break; sleep 0.05; done
    fi
    if read -r sp st 2>/dev/null <"$BOX_DIR/parent" && [ "$(starttime "$sp")" = "$st" ]; then
        for ((i = 0; i < 40; i++)); do [ -d "/proc/$sp" ] || break; sleep 0.05; done
    fi
    rm -f "$BOX_DIR/leader" "$BOX_DIR/parent"
    cgroup_rm
    say "down"
}

sub=${1:-help}; [ $# -eq 0 ] || shift
case $sub in
    up) cmd_up "$@" ;;
    exec) cmd_exec "$@" ;;
    journal) cmd_exec journalctl --no-pager "$@" ;;
    status) if p=$(leader); then echo "up, leader pid $p, $(enter "$p" systemctl is-system-running || true)"; else echo down; exit 3; fi ;;
    down) cmd_down ;;
    purge) cmd_down; rm -rf --one-file-system "$BOX_DIR" "/dev/shm/$BOX_NAME-layer" ;;
    __stage1) stage1 ;;
    __stage2) stage2 ;;
    *) sed -n 2,20p "$SELF"; exit 2 ;;
esac
