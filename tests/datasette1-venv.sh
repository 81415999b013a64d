#!/bin/sh
# Make a second environment beside that of the tests: the same, with Datasette 1.0 before it.
set -eu
first=$(cd "$1" && pwd) second=$1/datasette1
python=$second/bin/python
rm -rf "$second"
"$first/bin/python" -m venv --without-pip "$second"
cp --recursive --symbolic-link --no-clobber "$first/bin/." "$second/bin/"
rm "$second/bin/headrace"
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
others=$("$first/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$others')" >"$packages/first.pth"
install() {
    "$first/bin/python" -m pip --disable-pip-version-check --quiet --python "$python" install --no-deps --no-compile "$@"
}
install --require-hashes -r requirements-datasette1.lock
install --no-build-isolation --editable .
"$python" -c 'import datasette.version, sys; sys.exit(not datasette.version.__version__.startswith("1."))'
