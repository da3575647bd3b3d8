"""Makes things from files, and makes them again when the files change: certificates, authorities, passwords.

A gadget runs for years, and certificates for months: whatever is read from a file is read again when it is needed and
the file is another one. Nobody need be told.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from bester.tls import server_context, verifying_context

T = TypeVar("T")
log = logging.getLogger("bester.gadgets")


class Fresh(Generic[T]):
    """Keeps what ``make`` returns until one of the files changes; raises at once what ``make`` raises the first time.

    Where it fails later, what was made before goes on, and the log says why.
    """

    def __init__(self, make: Callable[[], T], *files: str | Path) -> None:
        self._make = make
        self._files = files
        self._seen = self._look()
        self._made = make()

    def get(self) -> T:
        """Returns what the files say now."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._made = self._make()
            except (OSError, ValueError) as error:  # ssl's errors are OSErrors
                log.warning("%s: what is there now cannot be used, and what was there before is: %s", self, error)
            else:
                log.info("%s: read again", self)
        return self._made

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]

    def __str__(self) -> str:
        return ", ".join(map(str, self._files))


def _stamp(file: str | Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def fresh_verifying(cafile: str | Path | None) -> Fresh[ssl.SSLContext]:
    """Returns the context of a client, whose authorities are those of the file, or the system's.

    Raises:
        OSError, ssl.SSLError: the file cannot be used.
    """
    return Fresh(lambda: verifying_context(cafile), cafile or ssl.get_default_verify_paths().openssl_cafile)


def fresh_server(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    """Returns the context of a listener that shows each new connection the certificate that is in the file then.

    Raises:
        OSError, ssl.SSLError: the files cannot be used.
    """
    fresh = Fresh(lambda: server_context(certificate, key), certificate, key)

    def renew(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = fresh.get()

    listening = server_context(certificate, key)
    listening.sni_callback = renew  # which is called where the client says no name, too
    return listening
