"""Accounts as the server uses them: logging in, registering, tokens, and what a change does to sessions.

docs/protocol.md, section 5. What it costs to be wrong is the same for a wrong password and an unknown account.

A change of an account ends its sessions, and also the logins that are being checked: they may have read the account
before the change. Changes of one account are made one after the other, so that a session that was just ended makes
none, and a new owner's mail is not cleared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakValueDictionary

from bester.clock import wall_time
from bester.core.session import Session
from bester.errors import (
    AccountExists,
    AuthenticationFailed,
    BadArguments,
    BesterError,
    InvalidName,
    NotAllowed,
    Overloaded,
    SessionEnded,
    Throttled,
    UnknownAccount,
)
from bester.net.peers import Remote
from bester.protocol.builtin import Credentials, read_credentials
from bester.protocol.messages import Authentication, Payload
from bester.protocol.names import username
from bester.server.accounts.attempts import Attempts
from bester.server.accounts.dependents import Dependents
from bester.server.accounts.throttle import Throttle
from bester.server.mailboxes import Mailboxes
from bester.server.rate_limit import Buckets
from bester.server.runtime import Runtime
from bester.store.passwords import Passwords
from bester.store.ports import Account, AccountStore, StoredAccount
from bester.store.tokens import new_token, token_hash

log = logging.getLogger("bester.accounts")

FEATURES = ("ack", "token")
"""What a client can ask for in its first message."""
REGISTRATIONS_PER_S = 0.2
REGISTRATIONS_AT_ONCE = 20
MAX_ROLES = 32
MAX_TOKEN_DAYS = 3650
HANDLER = "handler"
"""The role of the accounts that may attach handlers from other machines."""
OPERATOR = "operator"
"""Stands for an address where operators set passwords."""
DOUBT_S = 1.0
"""How soon, and how often, a doubtful login is looked at again."""


class Doubted(NamedTuple):
    """A login that the store could not be sure of, because a part of it was away."""

    account: StoredAccount
    token: str | None
    """The token that proved it, if not the password."""


class Login:
    """A first message that is being checked."""

    def __init__(self) -> None:
        self.username = ""
        """The account, from before it is read on."""
        self.ended: SessionEnded | None = None
        """Why nothing may come of it: the account was changed meanwhile."""
        self.doubted: Doubted | None = None
        """Set if the login is to be looked at again."""

    def check(self) -> None:
        """Refuses the login if its account was changed after it was read.

        Raises:
            SessionEnded: it was.
        """
        if self.ended is not None:
            raise self.ended


Changed = Callable[[str, str, tuple[str, ...] | None], None]
"""Takes the name of an account, and why its sessions have ended; or the roles with which they continue."""


class AccountService:
    """The accounts of this server and their sessions.

    Args:
        runtime: has the sessions.
        store: keeps the accounts; opened and closed with this.
        mailboxes: the accounts' mail, which goes with them.
    """

    features = FEATURES

    def __init__(self, runtime: Runtime, store: AccountStore, mailboxes: Mailboxes) -> None:
        self.runtime = runtime
        self.store = store
        self._mailboxes = mailboxes
        self._on_changed: list[Changed] = []
        self.passwords = Passwords()
        self._throttle = Throttle()
        self._attempts = Attempts(self._throttle, lambda: runtime.clock())
        self._registrations = Buckets(REGISTRATIONS_PER_S, REGISTRATIONS_AT_ONCE)
        self._logins: dict[Login, None] = {}
        """The logins that are being checked."""
        self._changes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By account: held while it is changed."""
        self._sessions: dict[str, int] = {}
        self._tokens: dict[Session, bytes] = {}
        self.dependents = Dependents()

    def on_changed(self, callback: Changed) -> None:
        """Registers a callback for changes of accounts that were made here."""
        self._on_changed.append(callback)

    async def open(self) -> None:
        """Opens the store, and drops tokens that have expired.

        Raises:
            BadConfiguration: the store cannot be used.
        """
        await self.store.open()
        await self.store.purge_tokens(self.runtime.steady.now())

    async def close(self) -> None:
        self._attempts.close()
        self.passwords.close()
        await self.store.close()

    # -- authentication -----------------------------------------------------------------------------------------------

    @contextmanager
    def checking(self) -> Iterator[Login]:
        """Watches for changes of the account while a session is being made.

        After the last await :meth:`Login.check` is called, and then the session is there without another.
        """
        login = Login()
        self._logins[login] = None
        try:
            yield login
        finally:
            del self._logins[login]

    async def authenticate(self, claim: Authentication, remote: Remote, login: Login, *, opens: bool = True) -> Account:
        """Returns the account that a first message's ``authentication`` proves.

        Args:
            claim: who it says it is.
            remote: where it is.
            login: the check that is under way.
            opens: whether the first login of a name may make its account, where that is configured.

        Raises:
            AuthenticationFailed: unknown account, wrong password or token; which of them is not told.
            SessionEnded: the account was changed meanwhile.
            Throttled: too many failures from this address.
        """
        if claim.token is not None and claim.password is None:
            return await self._by_token(claim.username, claim.token, remote, login)
        if claim.password is None:
            raise AuthenticationFailed("authentication needs a password or a token")
        return await self._by_password(claim.username, claim.password, remote, login, opens=opens)

    async def open_by_command(self, payload: Payload, remote: Remote, login: Login) -> Account:
        """Returns the account of a ``login`` or ``register`` that stands in place of authentication.

        Raises:
            BesterError: as the command says.
        """
        name, credentials = read_credentials(payload.data)
        if name == "register":
            return await self._register(credentials, remote, login)
        return await self._by_password(credentials.username, credentials.password, remote, login)

    async def _by_password(
        self, name: str, password: str, remote: Remote, login: Login, *, opens: bool = True
    ) -> Account:
        try:
            canonical = username(name)
        except InvalidName:
            canonical = ""  # nobody's; it takes as long as a wrong password
        key = canonical or name[:64]
        self._attempts.check(remote.address, key)
        login.username = canonical
        stored = await self.store.find(canonical) if canonical else None
        if opens and stored is None and canonical and self.runtime.config.accounts.registration == "firstUse":
            return await self._register(Credentials(name, password), remote, login)
        async with self._attempts.permit(remote.address, key):
            right = await self.passwords.verify(password, stored.password_hash if stored else None)
            if stored is None or not right:
                self._throttle.failed(remote.address, key, self.runtime.clock())
                if stored is not None and not stored.sure:
                    raise Overloaded("passwords cannot be checked now")  # it may be a new one
                raise AuthenticationFailed
            self._throttle.succeeded(remote.address, key, self.runtime.clock())
        if not stored.sure:
            login.doubted = Doubted(stored, None)
        login.check()
        return _account(stored)

    async def _by_token(self, name: str, token: str, remote: Remote, login: Login) -> Account:
        key = name[:64]
        login.username = _canonical(name)
        async with self._attempts.permit(remote.address, key, cheap=True):
            stored = await self.store.find_token(token_hash(token), self.runtime.steady.now())
            if stored is None or stored.username != login.username:
                self._throttle.failed(remote.address, key, self.runtime.clock())
                raise AuthenticationFailed("unknown account or wrong or expired token")
        if not stored.sure:
            login.doubted = Doubted(stored, token)
        login.check()
        return _account(stored)

    async def _register(self, credentials: Credentials, remote: Remote, login: Login) -> Account:
        if self.runtime.config.accounts.registration == "closed":
            raise NotAllowed("registration is closed on this server; its operator makes the accounts")
        if not remote.local and not self._registrations.take(remote.address, self.runtime.clock()):
            raise Throttled("too many registrations from this address")
        account = await self._make(credentials.username, credentials.password, address=remote.address)
        login.username, login.ended = account.username, None  # what was before is not about this account
        return account

    # -- sessions ------------------------------------------------------------------------------------------------

    def session_began(self, session: Session, token: str | None) -> bool:
        """Counts a session; False if its account has too many."""
        count = self._sessions.get(session.username, 0)
        if count >= self.runtime.config.limits.max_sessions_per_account:
            return False
        self._sessions[session.username] = count + 1
        if token is not None:
            self._tokens[session] = token_hash(token)
        return True

    async def look_again(self, session: Session, doubted: Doubted) -> None:
        """Ends a session, if what it was begun with was not true any more; returns when that is known for sure."""
        while not session.closed:
            await asyncio.sleep(DOUBT_S)
            account, token = doubted
            try:
                if token is not None:
                    found = await self.store.find_token(token_hash(token), self.runtime.steady.now())
                else:
                    found = await self.store.find(account.username)
            except BesterError as error:
                log.info("the login of %s cannot be looked at again yet: %s", ascii(account.username), error.inside)
                continue
            if found is not None and not found.sure:
                continue
            if found is None or found.password_hash != account.password_hash:
                log.warning("the session of %s ends: its account had changed", ascii(account.username))
                session.writer.end_session(SessionEnded("the account was changed before its login"))
            else:
                session.roles = found.roles
            return

    def session_ended(self, session: Session) -> None:
        count = self._sessions[session.username] - 1
        if count:
            self._sessions[session.username] = count
        else:
            del self._sessions[session.username]
        self._tokens.pop(session, None)

    async def new_token(self, name: str) -> str:
        """Returns a token that stands in for the account's password, for ``limits.tokenDays``."""
        return (await self.give_token(name, None))[1]

    async def give_token(self, name: str, days: int | None) -> tuple[str, str, float]:
        """Returns an account's canonical name, a new token for it, and when that expires; None: in ``tokenDays``.

        Raises:
            UnknownAccount: no such account.
        """
        canonical = username(name)
        token, hashed = new_token()
        now = self.runtime.steady.now()
        expires = now + (days or self.runtime.config.limits.token_days) * 86_400
        await self.store.add_token(canonical, hashed, expires, now)
        return canonical, token, expires

    async def end_token(self, session: Session) -> None:
        """Ends the token that the session was given."""
        hashed = self._tokens.pop(session, None)
        if hashed is not None:
            await self.store.remove_token(hashed)

    def _end_sessions(self, name: str, why: str, besides: Session | None = None) -> None:
        """Ends an account's sessions, here and on the other nodes."""
        self.sessions_ended(name, why, besides)
        for changed in self._on_changed:
            changed(name, why, None)

    def sessions_ended(self, name: str, why: str, besides: Session | None = None) -> None:
        """Ends an account's sessions here, and its logins that are being checked."""
        for session in self.runtime.exchange.presence.all_sessions(name):
            if session is not besides:
                session.writer.end_session(SessionEnded(why))
        self.dependents.changed(name, why, None)
        self._end_logins(name, why)

    def _end_logins(self, name: str, why: str) -> None:
        for login in self._logins:
            if login.username == name:
                login.ended = SessionEnded(why)

    # -- changes -------------------------------------------------------------------------------------------------

    def _changing(self, name: str) -> asyncio.Lock:
        return self._changes.setdefault(name, asyncio.Lock())

    async def add(self, name: str, password: str, roles: tuple[str, ...] = ()) -> str:
        """Makes an account and returns its canonical name.

        Raises:
            AccountExists, InvalidName, BadArguments: name taken, name or password not allowed.
        """
        return (await self._make(name, password, roles)).username

    async def _make(self, name: str, password: str, roles: tuple[str, ...] = (), *, address: str = OPERATOR) -> Account:
        account = Account(username(name), roles, wall_time())
        async with self._changing(account.username):
            if await self.store.find(account.username) is not None:
                raise AccountExists
            hashed = await self._hash(account.username, password, address)
            # A removal that was cut off, or made while the server did not run, has left its mail.
            await self._mailboxes.clear(account.username)
            await self.store.add(account.username, hashed, roles, account.created)
        log.info("account %s was made", ascii(account.username), extra={"account": account.username})
        return account

    async def _hash(self, name: str, password: str, address: str = OPERATOR) -> str:
        async with self._attempts.permit(address, name):
            return await self.passwords.hash(password)

    async def remove(self, name: str) -> None:
        """Removes an account, with its tokens, sessions and mail; or what a removal that was cut off left of it.

        Raises:
            UnknownAccount: there is none, and no mail.
        """
        canonical = username(name)
        async with self._changing(canonical):
            known = True
            try:
                await self.store.remove(canonical)
            except UnknownAccount:
                known = False
            self._end_sessions(canonical, "the account was removed")
            if not await self._mailboxes.clear(canonical) and not known:
                raise UnknownAccount

    async def set_password(self, name: str, password: str) -> None:
        """Sets an account's password; its tokens and sessions end.

        Raises:
            UnknownAccount, BadArguments: no such account, password not allowed.
        """
        canonical = username(name)
        async with self._changing(canonical):
            await self.store.set_password(canonical, await self._hash(canonical, password))
            self._end_sessions(canonical, "the account's password was changed")

    async def change_password(self, session: Session, old: str, new: str, remote: Remote) -> None:
        """Sets the password of the account that asks; its other sessions end.

        Raises:
            AuthenticationFailed, Throttled: the old one is wrong, or was so too often.
            BadArguments: the new one is not allowed.
        """
        name = session.username
        self._attempts.check(remote.address, name)
        async with self._changing(name):
            stored = await self.store.find(name)
            async with self._attempts.permit(remote.address, name):
                if not await self.passwords.verify(old, stored.password_hash if stored else None):
                    self._throttle.failed(remote.address, name, self.runtime.clock())
                    raise AuthenticationFailed("the old password is wrong")
                hashed = await self.passwords.hash(new)
            await self.store.set_password(name, hashed)
            self._end_sessions(name, "the account's password was changed", besides=session)

    async def set_roles(self, name: str, roles: tuple[str, ...]) -> None:
        """Sets an account's roles, which its sessions have at once.

        Raises:
            UnknownAccount, BadArguments: no such account, not roles.
        """
        if len(roles) > MAX_ROLES or not all(role.isprintable() and 0 < len(role) <= 64 for role in roles):
            raise BadArguments(f"at most {MAX_ROLES} roles, each of 1 to 64 printable characters")
        canonical = username(name)
        await self.store.set_roles(canonical, roles)
        self.roles_changed(canonical, roles)
        for changed in self._on_changed:
            changed(canonical, "", roles)

    def roles_changed(self, name: str, roles: tuple[str, ...]) -> None:
        """Gives an account's sessions here other roles, and ends its logins that are being checked."""
        for session in self.runtime.exchange.presence.all_sessions(name):
            session.roles = roles
        self.dependents.changed(name, "", roles)
        self._end_logins(name, "the account's roles were changed")

    async def list(self, after: str, limit: int) -> list[Account]:
        """Returns a page of the accounts, sorted."""
        return await self.store.list(after, limit)

    async def roles(self, name: str) -> tuple[str, ...] | None:
        """Returns the roles of an account, or None where there is no such account."""
        canonical = _canonical(name)
        stored = await self.store.find(canonical) if canonical else None
        return stored.roles if stored is not None else None

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
