"""How many files a process may have open: each connection is one, and what it sends another."""

from __future__ import annotations

import resource

MOST = 65_536  # as deploy/systemd/ has it


def allow_many_open_files() -> None:
    """Have as many files open as is allowed, up to ``MOST``.

    Shells give 1,024, for the sake of programs that still use ``select``: a reader has that with
    500 uploads at once. Source: Lennart Poettering, "File Descriptor Limits".
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
