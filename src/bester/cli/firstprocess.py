"""What process 1 of a container has to do besides its own work.

It inherits every process whose parent has ended, and nobody else waits for those that end then. So as process 1 a
program runs in a child, and what is left of the first process waits for all and passes signals on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run_under_reaper(work: Callable[[], int]) -> int:
    """Does the work in a child, and returns its exit status; no thread may have been started before."""
    # Until there is a child to pass them on to, signals wait.
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
