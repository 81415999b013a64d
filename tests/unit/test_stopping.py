"""A stop, its shares, and its end."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from headrace.stopping import HURRY_S, SAME_S, SLACK_S, TOO_LATE, Stop
from tests.unit.loop_kit import now_s, run

STUCK = """
import asyncio, os, signal, time
from headrace import stopping

stopping.SLACK_S = 0.1

async def main():
    stop = stopping.Stop(0.1)
    stop.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.asked.wait()
    await asyncio.to_thread(time.sleep, 3600)

asyncio.run(main())
"""


async def _wait(stop: Stop, share: float) -> float:
    """Wait for ever within a share; give when that ended."""
    with pytest.raises(TimeoutError):
        async with stop.limit(share):
            await asyncio.Event().wait()
    return now_s()


def test_blocks_end_when_their_share_of_a_stop_is_over() -> None:
    """Nothing is bounded before a stop; from then on whatever runs is, and whatever begins."""

    async def main() -> list[float]:
        stop = Stop(60)
        assert stop.left_s(0.5) == float("inf")
        waiting = [asyncio.create_task(_wait(stop, share)) for share in (0.5, 0.75)]
        await asyncio.sleep(100)
        stop.ask()
        assert stop.left_s(0.5) == 30
        waiting.append(asyncio.create_task(_wait(stop, 0.25)))
        async with stop.limit(0.1):
            pass
        return list(await asyncio.gather(*waiting))

    assert run(main()) == pytest.approx([130, 145, 115])


@pytest.mark.parametrize(("timeout_s", "left_s"), [(60, HURRY_S), (4, 4 - SAME_S)])
def test_second_signal_cuts_what_is_left(timeout_s: float, left_s: float) -> None:
    """Who asks again does not want to wait; two signals at once are one."""

    async def main() -> list[float]:
        stop = Stop(timeout_s)
        stop.ask()
        stop.ask()
        assert (stop.left_s(), stop.hurried.is_set()) == (timeout_s, False)
        waiting = asyncio.create_task(_wait(stop, 0.5))
        await asyncio.sleep(SAME_S)
        stop.ask()
        assert (stop.left_s(), stop.hurried.is_set()) == (left_s, True)
        await asyncio.sleep(SAME_S)
        stop.ask()
        assert stop.left_s() == left_s - SAME_S
        return [await waiting]

    assert run(main()) == pytest.approx([SAME_S + left_s / 2])


def test_process_that_does_not_stop_in_time_is_ended() -> None:
    """A thread cannot be cancelled, and must not keep a machine from going down."""
    assert SLACK_S >= 0.5
    command = [sys.executable, "-c", STUCK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == TOO_LATE
    assert "stop took too long" in done.stdout + done.stderr
