"""The kinds of listener, which differ in how they create their sockets and in their URLs."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from bester.accepting import Acceptor, Welcome
from bester.errors import BadConfiguration

SOCKET_MODE = 0o660


class Listener(ABC):
    """One address to listen on; :meth:`open` binds it and starts to accept."""

    kind = ""
    tls: ssl.SSLContext | None = None

    def __init__(self) -> None:
        self._acceptor: Acceptor | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """This listener's address as users write it."""

    @property
    def listening(self) -> bool:
        """Whether connections to this address reach this listener."""
        return self._acceptor is not None

    @abstractmethod
    def bind(self) -> socket.socket:
        """Returns the bound socket.

        Raises:
            OSError, BadConfiguration: the address cannot be used.
        """

    def open(
        self,
        welcome: Welcome,
        *,
        handshake_timeout_s: float = 10.0,
        starved: Callable[[], None] = lambda: None,
    ) -> None:
        """Binds and accepts; calls ``welcome`` for each connection, before any TLS handshake, to get its owner.

        Raises:
            BadConfiguration: the address cannot be used; the message says why.
        """
        try:
            bound = self.bind()
            acceptor = Acceptor(
                bound, self.url, welcome, tls=self.tls, handshake_timeout_s=handshake_timeout_s, starved=starved
            )
            try:
                acceptor.open()
            except OSError:
                bound.close()
                raise
        except OSError as error:
            raise BadConfiguration(f"cannot listen on {self.url}: {error.strerror or error}") from error
        self._acceptor = acceptor

    def renew(self, tls: ssl.SSLContext) -> None:
        """Uses another context for new connections.

        Reloading a context is not enough: it keeps its old certificate if the new one has a key of another kind.
        """
        self.tls = tls
        if self._acceptor is not None:
            self._acceptor.tls = tls

    def close(self) -> None:
        """Stops accepting; existing connections stay open."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None


class UnixListener(Listener):
    """A Unix stream socket, of mode 0660.

    The socket file of a dead process is replaced; one on which a process still answers is an error.
    """

    kind = "unix"

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = str(path)
        self._inode = 0

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def listening(self) -> bool:
        """Whether connections to this path reach this listener; its file may have been removed or replaced."""
        try:
            return super().listening and os.stat(self.path).st_ino == self._inode
        except OSError:
            return False

    def bind(self) -> socket.socket:
        remove_dead_socket(self.path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(self.path)
            os.chmod(self.path, SOCKET_MODE)  # no one can connect before it listens
            self._inode = os.stat(self.path).st_ino
        except OSError:
            bound.close()
            raise
        return bound

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):
            if self._inode and os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        self._inode = 0


class Tcp4Listener(Listener):
    """TCP over IPv4."""

    kind = "tcp4"
    family = socket.AF_INET

    def __init__(self, address: str, port: int) -> None:
        super().__init__()
        self.address = address
        self.port = port
        """The configured port; if that is 0, :meth:`bind` sets the actual one."""
        self.shared = False
        """Whether other processes of this user share the port; the kernel distributes the connections."""

    @property
    def url(self) -> str:
        return f"{self.kind}://{self.address}:{self.port}"

    def bind(self) -> socket.socket:
        bound = socket.socket(self.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio sets TCP_NODELAY
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # so that tcp4 can have the same port
            bound.bind((self.address, self.port))
        except OSError:
            bound.close()
            raise
        self.port = bound.getsockname()[1]
        return bound


class Tcp6Listener(Tcp4Listener):
    """TCP over IPv6 only."""

    kind = "tcp6"
    family = socket.AF_INET6

    @property
    def url(self) -> str:
        return f"{self.kind}://[{self.address}]:{self.port}"


class TlsListener(Tcp4Listener):
    """TLS over TCP, of either family."""

    kind = "tls"

    def __init__(self, address: str, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(address, port)
        self.tls = tls
        if ":" in address:
            self.family = socket.AF_INET6

    @property
    def url(self) -> str:
        return f"tls://[{self.address}]:{self.port}" if ":" in self.address else f"tls://{self.address}:{self.port}"


def remove_dead_socket(path: str) -> None:
    """Removes a socket file on which no process answers.

    Raises:
        BadConfiguration: a process answers, or the file is not a socket.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadConfiguration(f"cannot listen on unix://{path}: there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result == errno.ECONNREFUSED:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    elif result != errno.ENOENT:
        raise BadConfiguration(f"cannot listen on unix://{path}: another process is listening there")
