#!/bin/sh
# Install the system packages that the tests need, when this is root; else name the missing ones.
# With "ceph": also those of `make test-stores`.
set -eu
missing=
command -v curl >/dev/null || missing="$missing curl"
# What a guide looks at answers with.
command -v jq >/dev/null || missing="$missing jq"
# The browser that the pages are tested in: 110 MB to fetch.
command -v chromium >/dev/null || missing="$missing chromium"
# What runs the tus client of npm.
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
# What lets the date of a single process jump.
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
# What the units of a plain server are checked by, and run under.
[ -x /lib/systemd/systemd ] || missing="$missing systemd"
command -v openssl >/dev/null || missing="$missing openssl"
# What reads the metrics; promtool, which comes with it, tests the rules.
command -v prometheus >/dev/null || missing="$missing prometheus"
# What makes the tree that the steps of the Dockerfile are run in.
command -v mmdebstrap >/dev/null || missing="$missing mmdebstrap"
if [ "${1:-}" = ceph ]; then
    command -v ceph-mon >/dev/null || missing="$missing ceph-mon"
    command -v ceph-osd >/dev/null || missing="$missing ceph-osd"
    command -v radosgw >/dev/null || missing="$missing radosgw"
    command -v ceph >/dev/null || missing="$missing ceph-common"
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "the tests need these packages: apt-get install$missing" >&2
    exit 1
fi
# No package is to start a service. Source: Debian Policy, 9.3.3.1; /usr/share/doc/init-system-helpers
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086 - a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
# Prometheus is not to begin with the machine either.
case $missing in *prometheus*) ! command -v systemctl >/dev/null || systemctl --quiet disable prometheus ;; esac
