"""The built-in commands (docs/protocol.md, section 5): one table for clients and for the operator's socket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw, Struct

from bester.core.session import Session
from bester.errors import (
    BadArguments,
    BesterError,
    Internal,
    NotAllowed,
    UnknownCommand,
)
from bester.net.peers import Remote
from bester.protocol import frames
from bester.protocol.builtin import (
    AccountName,
    Consent,
    Credentials,
    DescribedTypes,
    Drop,
    HandledType,
    HandlerOutput,
    HeldPage,
    NewAccount,
    NewToken,
    NoArgs,
    OneServer,
    Page,
    PasswordChange,
    QueueEntry,
    QueuePage,
    Record,
    Refusal,
    Reload,
    Retry,
    Roles,
    Since,
    SomeClients,
    Traced,
    read_command,
)
from bester.protocol.messages import Payload
from bester.server.accounts.service import MAX_TOKEN_DAYS
from bester.server.admin import descriptions, handlers, held, lookup, queue, servers
from bester.server.admin.queue import server_key
from bester.server.admin.recordings import Reader
from bester.server.admin.services import AdminServices
from bester.server.admin.status import look
from bester.server.handlers.processes import KEPT_LINES
from bester.store.held import OPERATORS

log = logging.getLogger("bester.commands")

ADMIN = "admin"
"""The role whose accounts may use the operator's commands."""


class CommandCall:
    """One command of one caller.

    Args:
        services: what the command acts on.
        session: the caller's; None for the local operator.
        remote: the caller's end of the connection.
        reader: takes what a command tells before its report; None where nothing may come before it.
    """

    def __init__(
        self, services: AdminServices, session: Session | None, remote: Remote, reader: Reader | None = None
    ) -> None:
        self.services = services
        self.reader = reader
        self.session = session
        self.remote = remote
        self.closes = False
        """Whether the connection is to be closed after the report."""
        self.logged_out = False
        self.status = look(services)

    async def run(self, payload: Payload) -> bytes:
        """Runs the command of a builtin message, and returns the report's frame."""
        error: BesterError
        try:
            result = await self.result(payload.data)
            data = frames.encode_text(result) if result is not None else None
            missing = self.status.missing
            fields = b',"missing":' + bytes(frames.encode_text(sorted(missing))) if missing else b""
            return frames.report(frames.encode_text(payload.id), data=data, fields=fields)
        except BesterError as refusal:
            error = refusal
            if refusal.__cause__ is not None and not isinstance(refusal, BadArguments):
                log.warning("a built-in command is refused: %s", refusal.inside)
        except Exception:
            log.exception("a built-in command failed")
            error = Internal()
        return frames.report(frames.encode_text(payload.id), error)

    async def result(self, data: Raw) -> object:
        """Runs the command in a builtin message's data, and returns its result.

        Raises:
            BesterError: as the command says.
        """
        command, args = self._find(data)
        return await command.run(self, args)

    def _find(self, data: Raw) -> tuple[Command, Any]:
        name, args = read_command(data)
        command = COMMANDS.get(name)
        if command is None:
            raise UnknownCommand("no such command; there are " + ", ".join(sorted(self._allowed())))
        if name not in self._allowed():
            raise NotAllowed("this command is for accounts of role admin" if command.admin else "not on this socket")
        try:
            return command, msgspec.json.decode(args, type=command.args)
        except msgspec.DecodeError as error:
            raise BadArguments(f"{name}: {error}") from error

    def _allowed(self) -> list[str]:
        session = self.session
        if session is None:
            return [name for name, command in COMMANDS.items() if not command.session]
        return [name for name, command in COMMANDS.items() if not command.admin or ADMIN in session.roles]

    def holder(self, operators: bool) -> str:
        """Returns for whom the caller consents: for the operators, or for its account.

        Raises:
            NotAllowed: it is none of the operators.
        """
        if self.session is None or (operators and ADMIN in self.session.roles):
            return OPERATORS
        if operators:
            raise NotAllowed("operators are accounts of role admin")
        return self.session.username

    @property
    def its_session(self) -> Session:
        assert self.session is not None
        return self.session


@dataclass(frozen=True, slots=True)
class Command:
    """One built-in command."""

    args: type[Struct]
    run: Callable[[CommandCall, Any], Awaitable[object]]
    admin: bool = False
    """Only for accounts of role admin, and the local operator."""
    session: bool = False
    """Only for a client's session."""
    help: str = ""


# -- for every client -------------------------------------------------------------------------------------------


async def _close(call: CommandCall, _: NoArgs) -> None:
    call.closes = True


async def _login(call: CommandCall, _: Struct) -> None:
    raise NotAllowed("this session is logged in already; log out first")


async def _logout(call: CommandCall, _: NoArgs) -> None:
    await call.services.accounts.end_token(call.its_session)
    call.logged_out = True


async def _change_password(call: CommandCall, args: PasswordChange) -> None:
    session = call.its_session
    await call.services.accounts.change_password(session, args.old, args.new, call.remote)


async def _list_types(call: CommandCall, _: NoArgs) -> object:
    return handlers.available_types(call.services.runtime)


async def _describe(call: CommandCall, args: DescribedTypes) -> object:
    operator = call.session is None or ADMIN in call.session.roles
    sender = None if operator else call.session
    names = descriptions.types(call.services, sender, args.type, args.after, args.limit)
    return descriptions.merged(names, await call.status.descriptions(names), operator=operator)


async def _server_info(call: CommandCall, _: NoArgs) -> object:
    return await call.status.server_info()


async def _list_held(call: CommandCall, args: HeldPage) -> object:
    return await held.listed(call.services, call.holder(args.operators), args.after, args.limit)


async def _release(call: CommandCall, args: Consent) -> object:
    holder = call.holder(args.operators)
    return await held.release(call.services, holder, args.ids, args.user, args.server, always=args.always)


async def _refuse(call: CommandCall, args: Refusal) -> object:
    return await held.refuse(call.services, call.holder(args.operators), args.ids, args.user, args.server)


# -- for operators ----------------------------------------------------------------------------------------------


async def _list_clients(call: CommandCall, args: SomeClients) -> object:
    if args.limit is not None and args.limit < 1:
        raise BadArguments("limit must be at least 1")
    return await call.status.clients(args.after, args.limit)


async def _kick(call: CommandCall, args: AccountName) -> object:
    return {"sessions": await call.status.kick(args.username)}


async def _add_account(call: CommandCall, args: NewAccount) -> object:
    name = await call.services.accounts.add(args.username, args.password, (ADMIN,) if args.admin else ())
    return {"username": name}


async def _remove_account(call: CommandCall, args: AccountName) -> None:
    await call.services.accounts.remove(args.username)


async def _set_password(call: CommandCall, args: Credentials) -> None:
    await call.services.accounts.set_password(args.username, args.password)


async def _set_roles(call: CommandCall, args: Roles) -> None:
    await call.services.accounts.set_roles(args.username, tuple(args.roles))


async def _add_token(call: CommandCall, args: NewToken) -> object:
    if args.days is not None and not 1 <= args.days <= MAX_TOKEN_DAYS:
        raise BadArguments(f"days must be from 1 to {MAX_TOKEN_DAYS}")
    name, token, expires = await call.services.accounts.give_token(args.username, args.days)
    return {"username": name, "token": token, "expires": expires}


async def _list_accounts(call: CommandCall, args: Page) -> object:
    if not 1 <= args.limit <= 10_000:
        raise BadArguments("limit must be from 1 to 10000")
    return await call.status.accounts(args.after, args.limit)


async def _list_handlers(call: CommandCall, _: NoArgs) -> object:
    return await call.status.handlers()


async def _start_handler(call: CommandCall, args: HandledType) -> object:
    return await call.status.start_handler(args.type, args.node)


async def _stop_handler(call: CommandCall, args: HandledType) -> object:
    return await call.status.stop_handler(args.type, args.node)


async def _drain_handler(call: CommandCall, args: HandledType) -> object:
    return await call.status.drain_handler(args.type, args.node)


async def _handler_log(call: CommandCall, args: HandlerOutput) -> object:
    if not 0 <= args.lines <= KEPT_LINES:
        raise BadArguments(f"lines must be from 0 to {KEPT_LINES}")
    return await call.status.handler_log(args.type, args.lines, args.node)


async def _identity(call: CommandCall, _: NoArgs) -> object:
    return servers.identity(call.services)


async def _list_servers(call: CommandCall, _: NoArgs) -> object:
    return await call.status.servers()


async def _disconnect_server(call: CommandCall, args: OneServer) -> object:
    return {"links": await call.status.disconnect_server(server_key(args.server))}


async def _status(call: CommandCall, _: NoArgs) -> object:
    return await call.status.status()


async def _problems(call: CommandCall, _: NoArgs) -> object:
    return await call.status.problems()


async def _list_queue(call: CommandCall, args: QueuePage) -> object:
    return await queue.listed(call.services, args.server, args.dead, args.after, args.limit)


async def _show_queue(call: CommandCall, args: QueueEntry) -> object:
    return await queue.shown(call.services, args.id)


async def _retry_queue(call: CommandCall, args: Retry) -> object:
    return await queue.retry(call.services, args.ids, args.server, args.all)


async def _drop_queue(call: CommandCall, args: Drop) -> object:
    return await queue.drop(call.services, args.ids, args.server, args.dead)


async def _trace(call: CommandCall, args: Traced) -> object:
    lookup.check_limit(args.limit)
    unrecorded = await call.status.unrecorded()
    found = await lookup.trace(
        call.services.receipts.store, args.id, args.account, args.type, args.outcome, args.since, args.limit
    )
    return found | {"unrecorded": unrecorded}


async def _why(call: CommandCall, args: Since) -> object:
    unrecorded = await call.status.unrecorded()
    found = await lookup.why(call.services.receipts.store, args.since)
    return found | {"unrecorded": unrecorded, "problems": await call.status.problems()}


async def _record(call: CommandCall, args: Record) -> object:
    if call.reader is None:
        raise NotAllowed("what handlers are asked is recorded on the control socket only")
    return await call.services.recordings.record(args, call.reader)


async def _reload(call: CommandCall, args: Reload) -> object:
    return await call.status.reload(args.nodes)


async def _drain(call: CommandCall, _: NoArgs) -> object:
    under_way = call.services.runtime.exchange.reports.under_way
    call.services.runtime.stop_soon()
    return {"underWay": under_way}


COMMANDS: dict[str, Command] = {
    "close": Command(NoArgs, _close, session=True, help="report, then close the connection"),
    "login": Command(Struct, _login, session=True, help="authenticate; in the first message, or after a logout"),
    "register": Command(Struct, _login, session=True, help="make an account and authenticate as it"),
    "logout": Command(NoArgs, _logout, session=True, help="end the session; the next message must authenticate"),
    "changePassword": Command(PasswordChange, _change_password, session=True, help="set the account's own password"),
    "listTypes": Command(NoArgs, _list_types, help="the types that have a handler"),
    "describe": Command(DescribedTypes, _describe, help="what the handlers say of their types"),
    "serverInfo": Command(NoArgs, _server_info, help="clients, listeners, the administrator's information"),
    "listHeld": Command(HeldPage, _list_held, help="what guards hold until this account consents"),
    "release": Command(Consent, _release, help="consent to held messages, or to a sender"),
    "refuse": Command(Refusal, _refuse, help="remove held messages, or end the trust in a sender"),
    "listClients": Command(SomeClients, _list_clients, admin=True, help="the sessions, by account"),
    "kick": Command(AccountName, _kick, admin=True, help="end an account's sessions"),
    "addAccount": Command(NewAccount, _add_account, admin=True, help="make an account"),
    "removeAccount": Command(AccountName, _remove_account, admin=True, help="remove an account, end its sessions"),
    "setPassword": Command(Credentials, _set_password, admin=True, help="set a password, end the account's sessions"),
    "setRoles": Command(Roles, _set_roles, admin=True, help="set an account's roles"),
    "addToken": Command(NewToken, _add_token, admin=True, help="make a token for a program that uses the account"),
    "listAccounts": Command(Page, _list_accounts, admin=True, help="the accounts, sorted, a page at a time"),
    "listHandlers": Command(NoArgs, _list_handlers, admin=True, help="the types, who serves them, and how it goes"),
    "startHandler": Command(HandledType, _start_handler, admin=True, help="ask a stopped classic handler again"),
    "stopHandler": Command(HandledType, _stop_handler, admin=True, help="stop a type's handlers at once"),
    "drainHandler": Command(HandledType, _drain_handler, admin=True, help="let a type's handlers finish, then stop"),
    "handlerLog": Command(HandlerOutput, _handler_log, admin=True, help="what a type's process wrote"),
    "identity": Command(NoArgs, _identity, admin=True, help="the certificate by which others know this server"),
    "listServers": Command(NoArgs, _list_servers, admin=True, help="the other servers that are known"),
    "disconnectServer": Command(OneServer, _disconnect_server, admin=True, help="end the links to and from a server"),
    "listQueue": Command(QueuePage, _list_queue, admin=True, help="what waits for other servers, and dead letters"),
    "showQueue": Command(QueueEntry, _show_queue, admin=True, help="one of those messages, with its data"),
    "retryQueue": Command(Retry, _retry_queue, admin=True, help="try waiting messages and dead letters now"),
    "dropQueue": Command(Drop, _drop_queue, admin=True, help="remove waiting messages or dead letters"),
    "trace": Command(Traced, _trace, admin=True, help="where messages went, newest first"),
    "why": Command(Since, _why, admin=True, help="what failed lately, by cause, and what to do about it"),
    "status": Command(NoArgs, _status, admin=True, help="everything at a glance"),
    "problems": Command(NoArgs, _problems, admin=True, help="what is wrong, or is about to be"),
    "record": Command(Record, _record, admin=True, help="what a type's handlers are asked and answer, as it happens"),
    "reload": Command(Reload, _reload, admin=True, help="read the configuration again"),
    "drain": Command(NoArgs, _drain, admin=True, help="finish what is under way, then stop"),
}
