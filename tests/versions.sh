#!/usr/bin/env bash
# Runs the tests of recording, Celery and the store with the oldest versions that pyproject.toml takes, and with those of
# constraints.txt on every other Python that otelsync is for. All of them are run, whatever fails. At the end it is said
# which passed, which failed and which the machine has not; it fails if any has.
#
#     tests/versions.sh              all of them
#     tests/versions.sh oldest 3.13  these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
OLDEST_PYTHON=3.11
MISSING=77 # the exit status of one that is not there
TESTS=(
  tests/test_{span,provider,runtime_context,private_names,logs,stages,store}.py
  tests/test_{instrumentation,requests,httpx,pygithub}.py
  tests/test_celery_{canvas,instrumentor,publishing,running}.py
)

make_environment() { # name, python, constraints
  local place=.versions/$1 sum
  sum=$(cat pyproject.toml requirements-versions.txt "$3" otelsync/journal/_native.c | sha256sum)
  if [ "$(cat "$place/made-from" 2>/dev/null)" != "$sum" ]; then
    rm -rf "$place"
    "$2" -m venv "$place"
    "$place/bin/python" -m pip --disable-pip-version-check --quiet install -c "$3" -r requirements-versions.txt \
      -e '.[celery,httpx,pygithub,requests]'
    echo "$sum" >"$place/made-from"
  fi
}

run() { # name
  local version=$1 constraints=constraints.txt python
  if [ "$1" = oldest ]; then
    version=$OLDEST_PYTHON constraints=constraints-oldest.txt
  fi
  python=$("$PYTHON" tests/pythons.py "$version")
  if [ -z "$python" ]; then
    echo "versions: no Python $version on this machine; its tests are left out"
    return $MISSING
  fi
  make_environment "$1" "$python" "$constraints"
  echo "versions: $1 ($(".versions/$1/bin/python" --version))"
  ".versions/$1/bin/python" -m pytest -q -n 2 -p no:cacheprovider --no-header -r fE -m "not slow" \
    --deselect tests/test_store.py::test_a_batch_of_more_services_than_are_remembered "${TESTS[@]}"  # 40 s
}

if [ $# = 0 ]; then
  set -- oldest 3.12 3.13 3.14
fi
passed='' failed='' missing=''
for name; do
  set +e
  (
    set -e # which bash would not heed in a condition
    run "$name"
  )
  status=$?
  set -e
  case $status in
    0) passed+=" $name" ;;
    "$MISSING") missing+=" $name" ;;
    *) failed+=" $name" ;;
  esac
done
echo "versions: passed:${passed:- none}; failed:${failed:- none}; not on this machine:${missing:- none}"
[ -z "$failed" ]
