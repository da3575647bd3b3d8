"""Password hashes (argon2id), computed off the event loop (docs/protocol.md, section 5).

A check deliberately costs about 20 MiB and 20 ms of a processor. So checks run on two dedicated threads (argon2
releases the GIL), and a check that is known to fail costs the same. The callers limit how many checks wait.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from bester.errors import BadArguments, Internal, ShuttingDown

log = logging.getLogger("bester.accounts")

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
MAX_PASSWORD = 1024
"""The longest password, in bytes of UTF-8."""
THREADS = 2

T = TypeVar("T")


class Passwords:
    """Creates and checks password hashes."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, "bester-passwords")
        self._closed = False
        self._dummy_hash = _make_dummy_hash()

    async def hash(self, password: str) -> str:
        """Returns the hash of a new password.

        Raises:
            BadArguments: the password does not have 1 to 1024 bytes of UTF-8.
            ShuttingDown: :meth:`close` was called.
            Internal: there is not enough memory.
        """
        secret = _encoded(password)
        if secret is None:
            raise BadArguments(f"a password has 1 to {MAX_PASSWORD} bytes of UTF-8")
        return await self._run(lambda: self._make(secret))

    async def verify(self, password: str, stored_hash: str | None) -> bool:
        """Returns whether a password has this hash; None, for an unknown account, takes as long as a wrong password.

        Raises:
            ShuttingDown: :meth:`close` was called.
            Internal: ``stored_hash`` is not a hash, or there is not enough memory.
        """
        secret = _encoded(password)
        if secret is None or stored_hash is None:
            await self._run(lambda: self._check(secret or b"-", self._dummy_hash))
            return False
        return await self._run(lambda: self._check(secret, stored_hash))

    def needs_rehash(self, stored_hash: str) -> bool:
        """Returns whether the hash has outdated parameters, and should be replaced at a login."""
        return self._hasher.check_needs_rehash(stored_hash)

    def close(self) -> None:
        """Finishes running checks (some 20 ms) and refuses waiting ones; does nothing when called again."""
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise ShuttingDown
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise ShuttingDown from None  # the check was cancelled, not its caller
            raise

    @cached_property
    def _hasher(self) -> PasswordHasher:
        # Imported on first use, so that commands without passwords start fast.
        from argon2 import PasswordHasher

        return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)

    def _make(self, secret: bytes) -> str:
        from argon2.exceptions import HashingError

        try:
            return self._hasher.hash(secret)
        except HashingError as error:
            log.error("a password cannot be hashed: %s", error)
            raise Internal("the password cannot be hashed; the log says why") from error

    def _check(self, secret: bytes, stored_hash: str) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError

        try:
            return self._hasher.verify(stored_hash, secret)
        except VerifyMismatchError:
            return False
        except (Argon2Error, InvalidHashError) as error:
            log.error("a password cannot be checked: %s", error)
            raise Internal("the password cannot be checked; the log says why") from error


def _encoded(password: str) -> bytes | None:
    if not 1 <= len(password) <= MAX_PASSWORD:
        return None
    try:
        secret = password.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None
    return secret if len(secret) <= MAX_PASSWORD else None


def _make_dummy_hash() -> str:
    """Returns a hash with the current parameters of an unknown random password."""
    salt, digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${digest}"
