"""What the processes of a reader do not load, and do not keep."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Four threads that allocate at the same time, and what glibc says of its heaps.
_THREADS = """
import ctypes, sys, threading
from headrace.heap import use_one_heap
use_one_heap()
barrier = threading.Barrier(5)
def work():
    barrier.wait()
    kept.append([b"x" * 1000 for _ in range(1000)])
    barrier.wait()
kept = []
for _ in range(4):
    threading.Thread(target=work).start()
barrier.wait(), barrier.wait()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_edge_loads_nothing_that_only_workers_or_ingest_need() -> None:
    """It is one process more than Datasette has, so what it loads counts twice."""
    loaded = set(_python("import sys, headrace.cli, serve.service; print(*sys.modules)").split())
    assert "aiohttp" in loaded
    assert not loaded & {"datasette", "jinja2", "uvicorn", "pydantic", "pyarrow", "sqlite_utils"}


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="glibc has several heaps")
def test_threads_share_one_heap_unless_the_environment_says_otherwise() -> None:
    """What one thread has freed another uses, instead of each keeping its own."""
    assert _python(_THREADS).count("<heap nr=") == 1
    assert _python(_THREADS, MALLOC_ARENA_MAX="3").count("<heap nr=") == 3
