#!/bin/sh
# Make a virtual environment small: remove what a running Headrace never reads, and compile the rest.
set -eu
venv=$1
cd "$venv"/lib/python3*/site-packages

# pip and setuptools are for `datasette install`; nobody may write here.
rm -rf pip pip-*.dist-info setuptools setuptools-*.dist-info _distutils_hack distutils-precedence.pth
rm -f "$venv"/bin/pip*

# Of Arrow: its server, its client of S3, and what C++ programs are built with.
rm -rf pyarrow/include pyarrow/src pyarrow/tests
rm -f pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/_flight* pyarrow/libarrow_s3* pyarrow/_s3fs* \
    pyarrow/*_tests.*

# A wheel holds no links, so one library comes thrice: only the last of its names is loaded.
for library in pyarrow/lib*.so.*.*.*; do
    rm -f "${library%%.so.*}.so" "$library"
done

rm -rf icalendar/tests certifi/tests
find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.h' -o -name '*.hpp' \) -delete
find . -type f -name '*.so*' -exec strip --strip-unneeded {} +

# "unchecked": no user of the image can change a source, and no start has to look.
"$venv/bin/python" -m compileall -q -f --invalidation-mode unchecked-hash .
