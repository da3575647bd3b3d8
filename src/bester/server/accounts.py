"""Accounts as the server uses them: logging in, registering, tokens, and what a change does to sessions.

docs/protocol.md, section 5. What it costs to be wrong is the same for a wrong password and an unknown account.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from bester.core.buckets import Buckets
from bester.core.endpoints import Session
from bester.core.throttle import Throttle
from bester.errors import (
    AccountExists,
    AuthenticationFailed,
    BadArguments,
    InvalidName,
    NotAllowed,
    SessionEnded,
    Throttled,
)
from bester.net.peers import Remote
from bester.protocol.messages import Authentication, Payload
from bester.protocol.names import username
from bester.server.commands import Credentials, read_credentials
from bester.store.passwords import Passwords
from bester.store.ports import Account, AccountStore, StoredAccount
from bester.store.tokens import new_token, token_hash

if TYPE_CHECKING:
    from bester.server.hall import Hall

log = logging.getLogger("bester.accounts")

FEATURES = ("ack", "token")
"""What a client can ask for in its first message."""
REGISTRATIONS_PER_S = 0.2
REGISTRATIONS_AT_ONCE = 20
MAX_ROLES = 32


class AccountService:
    """The accounts of this server and their sessions."""

    features = FEATURES

    def __init__(self, hall: Hall, store: AccountStore) -> None:
        self.hall = hall
        self.store = store
        self.passwords = Passwords()
        self._throttle = Throttle()
        self._registrations = Buckets(REGISTRATIONS_PER_S, REGISTRATIONS_AT_ONCE)
        self._sessions: dict[str, int] = {}
        self._tokens: dict[Session, bytes] = {}

    async def open(self) -> None:
        """Opens the store, and drops tokens that have expired.

        Raises:
            BadConfiguration: the store cannot be used.
        """
        await self.store.open()
        await self.store.purge_tokens(time.time())

    async def close(self) -> None:
        self.passwords.close()
        await self.store.close()

    # -- who is it -----------------------------------------------------------------------------------------------

    async def authenticate(self, claim: Authentication, remote: Remote) -> Account:
        """Returns the account that a first message's ``authentication`` proves.

        Raises:
            AuthenticationFailed: unknown account, wrong password or token; which of them is not told.
            Throttled: too many failures from this address.
        """
        if claim.token is not None and claim.password is None:
            return await self._by_token(claim.username, claim.token, remote)
        if claim.password is None:
            raise AuthenticationFailed("authentication needs a password or a token")
        return await self._by_password(claim.username, claim.password, remote)

    async def open_by_command(self, payload: Payload, remote: Remote) -> Account:
        """Returns the account of a ``login`` or ``register`` that stands in place of authentication.

        Raises:
            BesterError: as the command says.
        """
        name, credentials = read_credentials(payload.data)
        if name == "register":
            return await self._register(credentials, remote)
        return await self._by_password(credentials.username, credentials.password, remote)

    async def _by_password(self, name: str, password: str, remote: Remote) -> Account:
        try:
            canonical = username(name)
        except InvalidName:
            canonical = ""  # nobody's; it takes as long as a wrong password
        key = canonical or name[:64]
        self._check_throttle(remote, key)
        stored = await self.store.find(canonical) if canonical else None
        if stored is None and canonical and self.hall.config.accounts.registration == "firstUse":
            return await self._register(Credentials(name, password), remote)
        right = await self.passwords.verify(password, stored.password_hash if stored else None)
        if stored is None or not right:
            self._throttle.failed(remote.address, key, self.hall.clock())
            raise AuthenticationFailed
        self._throttle.succeeded(remote.address, key, self.hall.clock())
        return _account(stored)

    async def _by_token(self, name: str, token: str, remote: Remote) -> Account:
        self._check_throttle(remote, name[:64])
        stored = await self.store.find_token(token_hash(token), time.time())
        if stored is None or stored.username != _canonical(name):
            self._throttle.failed(remote.address, name[:64], self.hall.clock())
            raise AuthenticationFailed("unknown account or wrong or expired token")
        return _account(stored)

    def _check_throttle(self, remote: Remote, account: str) -> None:
        wait_s = self._throttle.delay(remote.address, account, self.hall.clock())
        if wait_s > 0:
            raise Throttled(f"too many failures; try again in {max(1, round(wait_s))} s")

    async def _register(self, credentials: Credentials, remote: Remote) -> Account:
        if self.hall.config.accounts.registration == "closed":
            raise NotAllowed("registration is closed on this server; its operator makes the accounts")
        if not remote.local and not self._registrations.take(remote.address, self.hall.clock()):
            raise Throttled("too many registrations from this address")
        name = await self.add(credentials.username, credentials.password)
        return Account(name, (), time.time())

    # -- sessions ------------------------------------------------------------------------------------------------

    def session_began(self, session: Session, token: str | None) -> bool:
        """Counts a session; False if its account has too many."""
        count = self._sessions.get(session.username, 0)
        if count >= self.hall.config.limits.max_sessions_per_account:
            return False
        self._sessions[session.username] = count + 1
        if token is not None:
            self._tokens[session] = token_hash(token)
        return True

    def session_ended(self, session: Session) -> None:
        count = self._sessions[session.username] - 1
        if count:
            self._sessions[session.username] = count
        else:
            del self._sessions[session.username]
        self._tokens.pop(session, None)

    async def new_token(self, name: str) -> str:
        """Returns a token that stands in for the account's password, for ``limits.tokenDays``."""
        token, hashed = new_token()
        lifetime_s = self.hall.config.limits.token_days * 86_400
        await self.store.add_token(name, hashed, time.time() + lifetime_s)
        return token

    async def end_token(self, session: Session) -> None:
        """Ends the token that the session was given."""
        hashed = self._tokens.pop(session, None)
        if hashed is not None:
            await self.store.remove_token(hashed)

    def _end_sessions(self, name: str, why: str, besides: Session | None = None) -> None:
        for session in self.hall.exchange.presence.sessions(name):
            if session is not besides:
                session.carrier.end_session(SessionEnded(why))

    # -- changes -------------------------------------------------------------------------------------------------

    async def add(self, name: str, password: str, roles: tuple[str, ...] = ()) -> str:
        """Makes an account and returns its canonical name.

        Raises:
            AccountExists, InvalidName, BadArguments: name taken, name or password not allowed.
        """
        canonical = username(name)
        if await self.store.find(canonical) is not None:
            raise AccountExists
        await self.store.add(canonical, await self.passwords.hash(password), roles, time.time())
        log.info("account %s was made", ascii(canonical))
        return canonical

    async def remove(self, name: str) -> None:
        """Removes an account, with its tokens, sessions and mail.

        Raises:
            UnknownAccount: there is none.
        """
        canonical = username(name)
        await self.store.remove(canonical)
        self._end_sessions(canonical, "the account was removed")
        await self.hall.mailboxes.clear(canonical)

    async def set_password(self, name: str, password: str) -> None:
        """Sets an account's password; its tokens and sessions end.

        Raises:
            UnknownAccount, BadArguments: no such account, password not allowed.
        """
        canonical = username(name)
        await self.store.set_password(canonical, await self.passwords.hash(password))
        self._end_sessions(canonical, "the account's password was changed")

    async def change_password(self, session: Session, old: str, new: str, remote: Remote) -> None:
        """Sets the password of the account that asks; its other sessions end.

        Raises:
            AuthenticationFailed, Throttled: the old one is wrong, or was so too often.
            BadArguments: the new one is not allowed.
        """
        name = session.username
        self._check_throttle(remote, name)
        stored = await self.store.find(name)
        if not await self.passwords.verify(old, stored.password_hash if stored else None):
            self._throttle.failed(remote.address, name, self.hall.clock())
            raise AuthenticationFailed("the old password is wrong")
        await self.store.set_password(name, await self.passwords.hash(new))
        self._end_sessions(name, "the account's password was changed", besides=session)

    async def set_roles(self, name: str, roles: tuple[str, ...]) -> None:
        """Sets an account's roles, also for the sessions that it has.

        Raises:
            UnknownAccount, BadArguments: no such account, not roles.
        """
        if len(roles) > MAX_ROLES or not all(role.isprintable() and 0 < len(role) <= 64 for role in roles):
            raise BadArguments(f"at most {MAX_ROLES} roles, each of 1 to 64 printable characters")
        canonical = username(name)
        await self.store.set_roles(canonical, roles)
        for session in self.hall.exchange.presence.sessions(canonical):
            session.roles = roles

    async def list(self, after: str, limit: int) -> list[Account]:
        """Returns a page of the accounts, sorted."""
        return await self.store.list(after, limit)

    async def exists(self, name: str) -> bool:
        """Whether there is an account of this name."""
        canonical = _canonical(name)
        return bool(canonical) and await self.store.find(canonical) is not None


def _canonical(name: str) -> str:
    try:
        return username(name)
    except InvalidName:
        return ""


def _account(stored: StoredAccount) -> Account:
    return Account(stored.username, stored.roles, stored.created)
