"""What becomes of the handlers' processes of a server that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.waiting import PATIENCE_S, until

from bester.server.handlers.guardian import Guardian

SLEEPS = "import time; time.sleep(60)"
# Ends only by force, and has a child in its group.
STUBBORN = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {SLEEPS!r}])
print(child.pid, flush=True)
time.sleep(60)
"""
GUARDED = """
import asyncio, sys
from bester.server.handlers.guardian import Guardian
async def main():
    guardian = Guardian()
    await guardian.be_there()
    for group in sys.argv[1:]:
        guardian.begun(int(group))
    guardian.ended(int(sys.argv[-1]))
    print("guarded", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").is_dir() else True


async def test_a_killed_process_takes_its_groups_along_and_no_others() -> None:
    begun = [
        subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
        for program in (SLEEPS, STUBBORN, SLEEPS)
    ]
    assert begun[1].stdout is not None
    child = int(begun[1].stdout.readline())
    groups = [str(one.pid) for one in begun]
    process = subprocess.Popen([sys.executable, "-c", GUARDED, *groups], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"guarded\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert await asyncio.to_thread(begun[0].wait, PATIENCE_S) == -signal.SIGTERM
    assert await asyncio.to_thread(begun[1].wait, PATIENCE_S) == -signal.SIGKILL
    await until(lambda: not is_there(child))
    assert begun[2].poll() is None  # it was told to have ended
    begun[2].kill()
    for one in (*begun, process):
        one.wait()
        assert one.stdout is not None
        one.stdout.close()


async def test_its_own_end_is_no_end_of_what_it_guards() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPS], start_new_session=True) as process:
        guardian = Guardian()
        await guardian.be_there()
        guardian.begun(process.pid)
        await guardian.close()
        assert process.poll() is None
        process.kill()


async def test_a_guardian_that_was_killed_is_replaced() -> None:
    guardian = Guardian()
    with subprocess.Popen([sys.executable, "-c", SLEEPS], start_new_session=True) as process:
        await guardian.be_there()
        first = guardian._shell
        assert first is not None
        first.kill()
        await first.wait()
        guardian.begun(process.pid)  # of which nobody is told
        await guardian.be_there()
        assert guardian._shell is not first
        await guardian.close()
        process.kill()
