"""A whole system of real processes, and every way to break it.

Two nodes that can be the primary (each a standby of the other), readers, and one object store: a
folder, or SeaweedFS over S3. What ends is started again, as a process manager would. Between any
two parts lies something that can be broken: readers and clients reach the primary over links that
lead to whichever node answers; each node has its own way to the store, a symbolic link to the
folder or a proxy before the S3 server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import AsyncExitStack, contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from headrace.log import GenerationLog
from headrace.store import Store
from tests.conftest import wait_for
from tests.faults.links import Link
from tests.faults.processes import Keeper, Process, command_of, descendants, parent_of
from tests.faults.volumes import volumes
from tests.integration.fault_proxy import FaultProxy
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from pathlib import Path

    from headrace.generation import Entry
    from tests.faults.history import History, Outcome
    from tests.faults.volumes import Volumes
    from tests.integration.fault_proxy import Fault
    from tests.integration.s3_kit import S3

NODES = ("ingest-0", "ingest-1")
RIVAL = "ingest-2"  # started by the nemesis only, as no standby
READERS = ("reader-0", "reader-1")
LEASE = ("--lease-duration", "3", "--lease-renewal", "0.5")  # seconds
TOKEN = "of-tests"  # noqa: S105 - of these tests
START_S = 60.0  # deadlines for broken programs
LOOK_S = 0.2  # between looks at who is the primary


class System:
    """Everything that runs, as the nemesis and the clients see it."""

    def __init__(
        self,
        root: Path,
        history: History,
        space: Volumes,
        s3: S3 | None,
        *,
        nodes: Sequence[str] = NODES,
        grace_s: float = 0.0,
    ) -> None:
        self.history = history
        self.volumes = space
        self.s3 = s3
        self.primaries: list[str] = []  # nodes that answer now
        self.links: dict[str, Link] = {}
        self.keeper = Keeper(self._note_exit)
        self._root = root
        self._nodes = nodes
        self._grace_s = grace_s
        self._store = s3.url(s3.make_bucket()) if s3 else str(root / "store")
        self._proxies: dict[str, FaultProxy] = {}
        self._ports = {name: free_ports([0, 1]) for name in (*NODES, RIVAL, *READERS)}
        self._processes: dict[str, Process] = {}
        self._turns = count()
        self._loop = asyncio.new_event_loop()
        self._network = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._entries: list[Entry] = []

    # Its parts.

    @property
    def clients_url(self) -> str:
        """Where clients reach the primary without a reader."""
        return f"http://127.0.0.1:{self.links['clients'].port}"

    def url(self, name: str) -> str:
        """Give where a reader or a node listens."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def find(self, kind: str) -> dict[int, str]:
        """Find processes of a kind: those that ``KILLS`` names.

        Returns:
            The node or reader that each belongs to, by the process's id, in a fixed order.
        """
        names = READERS if kind in {"reader", "nursery", "worker"} else (*NODES, RIVAL)
        found: dict[int, str] = {}
        for name in names:
            process = self._processes[name]
            if (pid := process.pid) is None:
                continue
            if kind in {"ingest", "reader"}:
                found[pid] = name
                continue
            below = descendants(pid)
            nurseries = {each for each in below if "nursery_main" in command_of(each)}
            roots = {each for each in nurseries if parent_of(each) not in nurseries}
            chosen = {
                "litestream": [each for each in below if " replicate " in command_of(each)],
                "converter": [each for each in below if "ingest.converters" in command_of(each)],
                "nursery": sorted(roots),
                "worker": sorted(nurseries - roots),
            }[kind]
            found.update(dict.fromkeys(chosen, name))
        return found

    def process(self, name: str) -> Process:
        """Give a node's or a reader's process."""
        return self._processes[name]

    # Breaking it.

    def on_network(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something where the links are."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S)

    @contextmanager
    def store_broken(self, name: str, fault: Fault | None) -> Iterator[None]:
        """Cut a node off from the store, or have its requests meet a fault, in the block."""
        if self.s3:
            assert fault is not None
            with self._proxies[name].broken("", fault):
                yield
            return
        view, spare = self._view(name), self._view(f"{name}-spare")
        spare.touch()  # a file in the way of whoever would make the folder anew
        spare.rename(view)
        try:
            yield
        finally:
            spare.symlink_to(self._store)
            spare.rename(view)

    @contextmanager
    def reader_down(self, name: str) -> Iterator[None]:
        """Excuse a reader whose process is ended in the block, until it is ready after it."""
        self.history.note("down", "nemesis", reader=name)
        yield
        threading.Thread(target=self._note_ready, args=(name,), daemon=True).start()

    def _note_ready(self, name: str) -> None:
        wait_for(lambda: self.is_ready(name), timeout_s=START_S * 10)
        self.history.note("up", "nemesis", reader=name)

    # Looking at it.

    def is_ready(self, name: str) -> bool:
        """Say whether a reader has a generation to serve."""
        try:
            return httpx.get(f"{self.url(name)}/-/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def generation(self, name: str) -> int:
        """Give the generation that a reader serves; 0 if it does not answer."""
        try:
            found = httpx.get(f"{self.url(name)}/-/headrace.json", timeout=5).json()["generation"]
        except (httpx.TransportError, ValueError):
            return 0
        return int(found or 0)

    def read_log(self) -> list[Entry]:
        """Give the log so far: read past whatever is broken."""

        async def read() -> None:
            log = GenerationLog(Store(self._store))
            while entry := await log.find_entry(len(self._entries) + 1):
                self._entries.append(entry)

        asyncio.run(read())
        return list(self._entries)

    # Running it.

    def start(self) -> None:
        """Start everything, and wait until it can be used."""
        self.keeper.start()
        self.keeper.processes += self._processes.values()
        for name in (*self._nodes, *READERS):
            self._processes[name].wanted = True
        wait_for(lambda: self.primaries, timeout_s=START_S)

    def stop(self, number: signal.Signals) -> None:
        """End everything by a signal, readers first."""
        for names in (READERS, (*NODES, RIVAL)):
            stopping = [
                threading.Thread(target=self._processes[name].stop, args=(number,))
                for name in names
            ]
            for thread in stopping:
                thread.start()
            for thread in stopping:
                thread.join()

    def verify(self) -> None:
        """Have every copy of the readers, which are stopped, read page by page."""
        for name in READERS:
            data = str(self.volumes.path(name))
            command = [*self.volumes.enter, sys.executable, "-m", "headrace", "verify"]
            done = subprocess.run(
                [*command, "--data", data], capture_output=True, text=True, check=False
            )
            said = f"{done.stdout}{done.stderr}"
            outcome: Outcome = "ok" if done.returncode == 0 else "fail"
            self.history.note("verify", "harness", outcome, volume=name, said=said)

    async def network(self, ready: threading.Event, done: asyncio.Event) -> None:
        """Have all links and proxies listen until done."""
        async with AsyncExitStack() as stack:
            for name in (*READERS, "clients"):
                link = self.links[name] = Link(self._find_primary)
                await stack.enter_async_context(link.listening())
            ports = {}
            for name in (*NODES, RIVAL, *READERS) if self.s3 else ():
                assert self.s3 is not None
                proxy = self._proxies[name] = FaultProxy(self.s3.port)
                ports[name] = await stack.enter_async_context(proxy.listening())
            self._make_processes(ports)
            looking = asyncio.create_task(self._look_for_primaries())
            ready.set()
            await done.wait()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def _make_processes(self, ports: dict[str, int]) -> None:
        (self._root / "store").mkdir(exist_ok=True)
        for name, port in self._ports.items():
            if self.s3:
                store = self._store.replace(f":{self.s3.port}", f":{ports[name]}")
            else:
                self._view(name).symlink_to(self._store)
                store = str(self._view(name))
            command = [*self.volumes.enter, sys.executable, "-m", "headrace"]
            command += ["serve"] if name in READERS else ["ingest"]
            command += ["--data", str(self.volumes.path(name)), "--store", store]
            command += ["--port", str(port), "--metrics-port", str(port + 1)]
            if name in READERS:
                command += ["--primary", f"http://127.0.0.1:{self.links[name].port}"]
                command += ["--region", name, "--workers", "1"]
                command += ["--shutdown-grace", str(self._grace_s)]
            else:
                command += [
                    *LEASE,
                    "--disk-reserve",
                    "4MiB",
                    "--standby",
                    "off" if name == RIVAL else "on",
                ]
            env = {**os.environ, "HEADRACE_TOKEN": TOKEN, "DATASETTE_SECRET": TOKEN}
            output = self._root / f"{name}.log"
            self._processes[name] = Process(name, command, env, output)

    def _view(self, name: str) -> Path:
        return self._root / f"store-of-{name}"

    def _note_exit(self, process: Process, code: int) -> None:
        self.history.note("exit", process.name, code=code)

    def _find_primary(self) -> int | None:
        """Choose among the nodes that answer: of two primaries, one is wrong."""
        found = self.primaries
        return self._ports[found[next(self._turns) % len(found)]] if found else None

    async def _look_for_primaries(self) -> None:
        async def answers(name: str) -> bool:
            with suppress(OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(LOOK_S * 2):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._ports[name])
                    try:
                        writer.write(b"GET /-/healthz HTTP/1.0\r\n\r\n")
                        return b" 200 " in await reader.readline()
                    finally:
                        writer.transport.abort()
            return False

        while True:
            names = (*NODES, RIVAL)
            found = await asyncio.gather(*map(answers, names))
            self.primaries = [name for name, up in zip(names, found, strict=True) if up]
            await asyncio.sleep(LOOK_S)


@contextmanager
def running(
    root: Path,
    history: History,
    s3: S3 | None,
    *,
    nodes: Sequence[str] = NODES,
    grace_s: float = 0.0,
) -> Iterator[System]:
    """Run a system while the block runs; nothing of it is left after.

    Args:
        root: An empty folder.
        history: Gets what happens.
        s3: Where the store is; None for a folder.
        nodes: That are started, to be the primary or its standby.
        grace_s: Of a reader that is stopped.
    """
    with volumes(root / "volumes", *NODES, RIVAL, *READERS) as space:
        system = System(root, history, space, s3, nodes=nodes, grace_s=grace_s)
        ready, done = threading.Event(), asyncio.Event()
        loop = system._loop  # noqa: SLF001 - of this module
        network = asyncio.run_coroutine_threadsafe(system.network(ready, done), loop)
        system._network.start()  # noqa: SLF001
        assert ready.wait(START_S)
        try:
            system.start()
            yield system
        finally:
            system.stop(signal.SIGKILL)
            system.keeper.done.set()
            system.keeper.join()
            loop.call_soon_threadsafe(done.set)
            network.result(START_S)
            loop.call_soon_threadsafe(loop.stop)
            system._network.join()  # noqa: SLF001
            loop.close()
