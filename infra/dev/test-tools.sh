#!/bin/sh
# What the tests use beside Python packages: a second version of Redis, and promtool for the alert rules. Installed where
# that is possible without asking (root on Debian); elsewhere the tests that need it say so.
set -eu
for pair in redis-server:redis-server promtool:prometheus; do
    command -v "${pair%%:*}" > /dev/null || missing="${missing:-} ${pair#*:}"
done
[ -n "${missing:-}" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends ${missing} > /dev/null
else
    echo "not installed:${missing}; the tests that use it are skipped" >&2
fi
