#!/bin/sh
# Builds the servers that `make stack` and `make test-backends` run: the Collector, Jaeger and VictoriaLogs from Go
# modules whose versions and sums are in this folder, and Prometheus from Debian's packages. Into $STACK_SERVERS, or
# ~/.cache/otelsync/servers; what is there and whole is not built again.
#
# GOPROXY, GOMODCACHE, GOCACHE and the like are those of the environment. Downloads that fail are tried three times.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${STACK_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/otelsync/servers}
pauses=${STACK_RETRY_SECONDS:-10 60}
export GOFLAGS='-buildvcs=false -trimpath -mod=readonly' CGO_ENABLED=0 GOWORK=off

say() { echo "servers: $*" >&2; }

fail() { # WHAT LOG ADVICE...
    say "$1. The end of $2:"
    tail -n 20 "$2" >&2
    shift 2
    say "$*"
    exit 1
}

thrice() { # COMMAND...: a proxy that is busy is asked again
    for pause in $pauses; do
        "$@" && return
        say "again in $pause s: $*"
        sleep "$pause"
    done
    "$@"
}

# What is built is put in its place in one step, and its checksum after it: nothing that is half done is taken for whole.
put() { # FILE NAME SOURCES
    rm -f "$out/$2.stamp"
    mv "$1" "$out/$2"
    echo "$3 $(cksum <"$out/$2")" >"$work/stamp"
    mv "$work/stamp" "$out/$2.stamp"
}

is_whole() { # NAME SOURCES: put there, from the same sources, and not changed since?
    [ -x "$out/$1" ] && [ "$(cat "$out/$1.stamp" 2>/dev/null)" = "$2 $(cksum <"$out/$1")" ]
}

needs_go() { # FOLDER
    command -v go >/dev/null || {
        say "there is no go in PATH. Install Go (https://go.dev/dl/) in the version of $1/go.mod or newer," \
            "or set STACK_SERVERS to a folder with servers that were built elsewhere"
        exit 1
    }
    (cd "$1" && go version) >"$out/go.log" 2>&1 ||
        fail "this go is not one that builds $1" "$out/go.log" "Install a newer Go (https://go.dev/dl/), or let it fetch one: GOTOOLCHAIN=auto"
}

tool() { # NAME FOLDER PACKAGE: the versions are those of FOLDER/go.mod, its sums those of FOLDER/go.sum
    sources=$(cat $(find "$here/${2%%/*}" -name '*.go' -o -name 'go.*' | LC_ALL=C sort) | cksum)
    is_whole "$1" "$sources" && return
    needs_go "$here/$2"
    say "$1, of $2/go.mod (minutes)"
    # In a subshell that somebody waits for with ||, an error ends nothing by itself (sh's -e): hence the &&.
    (cd "$here/$2" && thrice go list -deps "$3") >"$work/packages" 2>"$out/$1.log" ||
        fail "the modules of $1 could not be downloaded" "$out/$1.log" \
            "This needs the network once: set GOPROXY (now $(go env GOPROXY)) to a module proxy that answers," \
            "or STACK_SERVERS to a folder with servers that were built elsewhere"
    (cd "$here/$2" && go build -ldflags='-s -w' -o "$work/$1" "$3") >>"$out/$1.log" 2>&1 ||
        fail "$1 could not be built" "$out/$1.log" "It is built with $(go version); $(df -Ph "$out" | awk 'END {print $4}') are free there"
    put "$work/$1" "$1" "$sources"
}

prometheus() {
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    mkdir "$work/debian" && cd "$work/debian" &&
        # A new machine has no lists of packages.
        { apt-get download -q prometheus || { thrice $as_root apt-get update -q && thrice apt-get download -q prometheus; }; } &&
        dpkg -x prometheus_*.deb . # and not installed: the package would start a service
}

mkdir -p "$out"
find "$out" -maxdepth 1 -name '.work.*' -mmin +180 -exec rm -rf {} + # of builds that were killed
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

tool otelcol collector/sources .
tool victoria-logs victorialogs github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs
tool jaeger jaeger github.com/jaegertracing/jaeger/cmd/jaeger
if ! is_whole prometheus debian || ! is_whole promtool debian; then
    say "Prometheus, from Debian's package"
    (prometheus) >"$out/prometheus.log" 2>&1 ||
        fail "Prometheus could not be downloaded" "$out/prometheus.log" \
            "It comes from Debian's package, by apt-get and dpkg, and needs the network once;" \
            "elsewhere set STACK_SERVERS to a folder with all servers"
    put "$work/debian/usr/bin/prometheus" prometheus debian
    put "$work/debian/usr/bin/promtool" promtool debian
fi
say "all in $out"
