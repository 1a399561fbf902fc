#!/bin/sh
# Builds the servers that `make stack` and `make test-backends` run: the Collector, Jaeger and VictoriaLogs from Go
# modules at pinned versions, and Prometheus from Debian's packages. Into $STACK_SERVERS, or ~/.cache/otelsync/servers;
# what is there is not built again. About 15 minutes of one core when cold, and 3 GB of Go's own caches.
#
# GOPROXY, GOMODCACHE, GOCACHE and the like are those of the environment. What fails for want of a network is tried three
# times; then this ends with 1 and the cause.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${STACK_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/otelsync/servers}
collector=v0.161.0
mkdir -p "$out"
export GOFLAGS='-buildvcs=false -trimpath' CGO_ENABLED=0 GOWORK=off

say() { echo "servers: $*" >&2; }

fail() { # WHAT LOG
    say "$1 could not be built. The end of $2:"
    tail -n 20 "$2" >&2
    exit 1
}

is_built() { # NAME STAMP: built from the same files before?
    [ -x "$out/$1" ] && [ "$(cat "$out/$1.stamp" 2>/dev/null)" = "$2" ]
}

stamp() { cat "$@" | cksum; }

thrice() { # COMMAND...: a proxy that is busy is asked again
    "$@" || { say "again in 10 s: $*"; sleep 10; "$@"; } || { say "again in 60 s: $*"; sleep 60; "$@"; }
}

needs_go() {
    command -v go >/dev/null && return
    say "there is no go: install Go 1.26 or newer (https://go.dev/dl/), or set STACK_SERVERS to a folder with the servers"
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# In functions that somebody waits for with ||, an error ends nothing by itself (sh's -e): hence the &&.
collector() {
    export GOBIN="$work"
    cp -r "$here/collector/." "$work/" && cd "$work" &&
        thrice go install "go.opentelemetry.io/collector/cmd/builder@$collector" &&
        thrice ./builder --config builder.yaml
}
made=$(stamp "$here/collector/builder.yaml" $(find "$here/collector/stubs" -type f | LC_ALL=C sort))
if ! is_built otelcol "$made"; then
    needs_go
    say "the Collector $collector (about 5 minutes of one core)"
    (collector) >"$out/otelcol.log" 2>&1 || fail "the Collector" "$out/otelcol.log"
    mv "$work/build/otelcol" "$out/otelcol"
    echo "$made" >"$out/otelcol.stamp"
fi

tool() { # NAME FOLDER PACKAGE MODULE: the versions are those of FOLDER/go.mod, its sums those of FOLDER/go.sum
    made=$(stamp "$here/$2/go.mod" "$here/$2/go.sum")
    is_built "$1" "$made" && return
    needs_go
    say "$1 ($(sed -n "s,.*\($4 v[^ ]*\).*,\1,p" "$here/$2/go.mod" | head -1))"
    # Beside what is there, and then in its place: a build that is interrupted leaves nothing half done.
    (cd "$here/$2" && thrice go build -mod=readonly -ldflags='-s -w' -o "$work/$1" "$3") >"$out/$1.log" 2>&1 ||
        fail "$1" "$out/$1.log"
    mv "$work/$1" "$out/$1"
    echo "$made" >"$out/$1.stamp"
}
tool victoria-logs victorialogs github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs github.com/VictoriaMetrics/VictoriaLogs
tool jaeger jaeger github.com/jaegertracing/jaeger/cmd/jaeger github.com/jaegertracing/jaeger

prometheus() {
    mkdir "$work/debian" && cd "$work/debian" &&
        # A new machine has no lists of packages.
        { apt-get download -q prometheus || { thrice $as_root apt-get update -q && thrice apt-get download -q prometheus; }; } &&
        dpkg -x prometheus_*.deb . # and not installed: the package would start a service
}
if [ ! -x "$out/prometheus" ] || [ ! -x "$out/promtool" ]; then
    say "Prometheus, from Debian's package"
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    (prometheus) >"$out/prometheus.log" 2>&1 || fail "Prometheus" "$out/prometheus.log"
    mv "$work/debian/usr/bin/prometheus" "$work/debian/usr/bin/promtool" "$out/"
fi
say "all in $out"
