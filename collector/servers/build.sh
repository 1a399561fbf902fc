#!/bin/sh
# Builds the servers that `make stack` and `make test-backends` run: the Collector, Jaeger and VictoriaLogs from Go
# modules at pinned versions, and Prometheus from Debian's packages. Into $STACK_SERVERS, or ~/.cache/otelsync/servers;
# what is there is not built again. About 15 minutes of one core when cold, and 3 GB of Go's own caches.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${STACK_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/otelsync/servers}
collector=v0.161.0
mkdir -p "$out"
export GOFLAGS='-buildvcs=false -trimpath' CGO_ENABLED=0

say() { echo "servers: $*" >&2; }

is_built() { # NAME STAMP: built from the same files before?
    [ -x "$out/$1" ] && [ "$(cat "$out/$1.stamp" 2>/dev/null)" = "$2" ]
}

stamp() { cat "$@" | cksum; }

if ! command -v go >/dev/null; then
    say "Go 1.26 or newer is needed: https://go.dev/dl/"
    exit 1
fi

made=$(stamp "$here/collector/builder.yaml" $(find "$here/collector/stubs" -type f | LC_ALL=C sort))
if ! is_built otelcol "$made"; then
    say "the Collector $collector (about 5 minutes of one core)"
    work=$(mktemp -d)
    GOBIN=$work go install "go.opentelemetry.io/collector/cmd/builder@$collector"
    cp -r "$here/collector/builder.yaml" "$here/collector/stubs" "$work/"
    (cd "$work" && ./builder --config builder.yaml >"$out/otelcol.log" 2>&1) || { tail -20 "$out/otelcol.log" >&2; exit 1; }
    mv "$work/build/otelcol" "$out/otelcol"
    rm -rf "$work"
    echo "$made" >"$out/otelcol.stamp"
fi

tool() { # NAME FOLDER PACKAGE: the versions are those of FOLDER/go.mod, its sums those of FOLDER/go.sum
    made=$(stamp "$here/$2/go.mod" "$here/$2/go.sum")
    is_built "$1" "$made" && return
    say "$1 ($(sed -n "s,.*\($4 v[^ ]*\).*,\1,p" "$here/$2/go.mod" | head -1))"
    (cd "$here/$2" && go build -mod=readonly -ldflags='-s -w' -o "$out/$1" "$3")
    echo "$made" >"$out/$1.stamp"
}
tool victoria-logs victorialogs github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs github.com/VictoriaMetrics/VictoriaLogs
tool jaeger jaeger github.com/jaegertracing/jaeger/cmd/jaeger github.com/jaegertracing/jaeger

if [ ! -x "$out/prometheus" ]; then
    say "Prometheus, from Debian's package"
    work=$(mktemp -d)
    # Unpacked and not installed: the package would start a service.
    (cd "$work" && apt-get download -q prometheus >/dev/null && dpkg -x prometheus_*.deb . &&
        mv usr/bin/prometheus usr/bin/promtool "$out/")
    rm -rf "$work"
fi
say "all in $out"
