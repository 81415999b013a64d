#!/bin/sh
# Make a virtual environment; on Debian, `venv` is a package of its own.
set -eu
python=$1 venv=$2
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "headrace needs Python 3.11 to 3.13; $python is $("$python" --version 2>&1)" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" != 0 ]; then
        echo "python's venv module is missing: run  apt-get install python3-venv" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv
fi
"$python" -m venv "$venv"
