#!/bin/sh
# Install each peer into a virtual environment of its own: their dependencies do not agree.
set -eu
python=$1 folder=$2
while read -r requirements; do
    venv=$folder/${requirements%%=*}
    # shellcheck disable=SC2086 - a line is a list of requirements
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check --quiet install \
        $requirements 'setuptools<81'
done < "$(dirname "$0")/peers.txt"
