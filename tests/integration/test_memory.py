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

# Half of a large heap is freed below what is in use; then nothing is done.
_REST = """
import asyncio, ctypes, pathlib
from headrace import heap
heap.LOOK_EVERY_S, heap.WORTH_S = 0.01, 0
heap.use_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def held_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [libc.malloc(100_000) for _ in range(500)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:
    libc.free(block)
before_bytes = held_bytes()
async def main():
    resting = asyncio.create_task(heap.give_back_heap_at_rest())
    async with asyncio.timeout(60):
        while before_bytes - held_bytes() < 40_000_000:
            await asyncio.sleep(0.01)
    resting.cancel()
asyncio.run(main())
print("given back")
"""

_DEFERRED = """
import sys
from serve.deferred import defer_modules
defer_modules()
import httpx, yaml
print([name for name in sys.modules if name.startswith(("httpx.", "yaml."))])
import httpx._exceptions as before
class Auth(httpx.Auth):
    pass
import httpx as real
print(real.Auth.__subclasses__()[-1] is Auth, real._exceptions is before, httpx.__version__ > "0")
print(yaml.load("[1, 2]", yaml.SafeLoader), "yaml.loader" in sys.modules)
from pdb import Pdb
print(Pdb.__module__)
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
    loaded = _python("import sys, headrace.__main__, serve.service; print(*sys.modules)")
    assert {"aiohttp", "structlog"} <= set(loaded.split())
    needless = {"datasette", "jinja2", "uvicorn", "pydantic", "pyarrow", "sqlite_utils"}
    needless |= {"rich", "httpx", "keyring", "asyncinotify", "headrace.remote.push"}
    assert needless.isdisjoint(loaded.split())


def test_deferred_module_is_the_real_one_when_it_is_used() -> None:
    """What the nursery does not load is there for plugins, under every name they use."""
    none, used, loaded, debugger = _python(_DEFERRED).splitlines()

    assert none == "[]"
    assert used == "True True True"
    assert loaded == "[1, 2] True"
    assert debugger == "pdb"


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="glibc gives it back")
def test_heap_is_given_back_at_rest() -> None:
    """What is freed below something in use is not kept for the next peak."""
    assert _python(_REST).split() == ["given", "back"]


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="glibc has several heaps")
def test_threads_share_one_heap_unless_the_environment_says_otherwise() -> None:
    """What one thread has freed another uses, instead of each keeping its own."""
    assert _python(_THREADS).count("<heap nr=") == 1
    assert _python(_THREADS, MALLOC_ARENA_MAX="3").count("<heap nr=") == 3
