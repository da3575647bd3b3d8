"""Does the additional work of process 1 of a container.

Process 1 inherits every process whose parent has ended, and no other process reaps them. So a program that is process 1
runs in a child, and process 1 itself reaps all processes and passes signals on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run_under_reaper(work: Callable[[], int]) -> int:
    """Does the work in a child, and returns its exit status; the caller must not have started a thread before."""
    # Signals wait until there is a child to pass them on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        return work()
    for number in _PASSED_ON:
        signal.signal(number, lambda got, _: os.kill(child, got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
