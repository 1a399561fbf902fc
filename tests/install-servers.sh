#!/bin/sh
# Installs what the tests start, Redis, RabbitMQ, PostgreSQL and Chromium, from Debian's packages; does nothing where
# they are there.
# No service is left running or enabled: the tests start servers of their own, on free ports.
set -eu

missing=
command -v redis-server > /dev/null || missing="$missing redis-server"
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || missing="$missing postgresql"
command -v chromium > /dev/null || missing="$missing chromium"
[ -n "$missing" ] || exit 0

if ! command -v apt-get > /dev/null; then
    echo "The tests need these programs, and there is no apt-get to install them:$missing" >&2
    echo "Install redis-server and chromium into the PATH, rabbitmq-server into /usr/lib/rabbitmq, and PostgreSQL into" >&2
    echo "/usr/lib/postgresql/VERSION." >&2
    exit 1
fi

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
    command -v sudo > /dev/null || {
        echo "The tests need these packages, and neither are you root nor is there sudo: apt-get install$missing" >&2
        exit 1
    }
fi

# While it is there, no package starts its service (invoke-rc.d(8)). A machine may have a policy of its own: it stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy > /dev/null
    $as_root chmod 755 $policy
fi

$as_root apt-get update -q
# shellcheck disable=SC2086  # words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

if [ -d /run/systemd/system ]; then
    for service in $missing; do
        [ "$service" = chromium ] || $as_root systemctl --quiet disable --now "$service"
    done
fi
