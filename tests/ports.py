"""Ports that the kernel picks, and that stay free until a server of the test listens on them.

A port that was only looked up may be taken before it is listened on, and while a server that was
killed is away: the kernel gives it to any connection that goes out. So each is bound and held here,
without listening; with SO_REUSEADDR, which servers set, another socket may bind it all the same
(socket(7), ip(7): ip_local_port_range).
"""

from __future__ import annotations

import socket
from collections import deque

import pytest

_HELD_AT_MOST = 300  # sockets; a process may have 1,024 files open
_held: deque[socket.socket] = deque()


def free_ports(offsets: list[int]) -> int:
    """Find a port that is free, together with the ports at some offsets from it; all are held."""
    for _attempt in range(200):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base: int = probe.getsockname()[1]
        wanted = [base + offset for offset in offsets]
        if max(wanted) < 65536 and all(map(_is_free, wanted)):
            for port in wanted:
                _hold(port)
            return base
    pytest.fail("no free ports")


def _is_free(port: int) -> bool:
    """Say whether nobody has a port, nor holds it."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _hold(port: int) -> None:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", port))
    _held.append(holder)
    while len(_held) > _HELD_AT_MOST:
        _held.popleft().close()
