"""Everything that can be wrong, told with its key, what was found and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bester.config import ConfigError, Problem, load, parse
from bester.config.checks import MAX_SOCKET_PATH
from bester.config.source import Format
from bester.errors import BadConfiguration

TCP = {"tcp4": {"port": 2223}}
BASE = Path("/base")


def problems(text: str | dict[str, Any], format: Format = "json", base: Path = BASE) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse(text if isinstance(text, str) else json.dumps({"network": TCP} | text), base, format)
    return caught.value.problems


def only(text: str | dict[str, Any], format: Format = "json", base: Path = BASE) -> str:
    (problem,) = problems(text, format, base)
    return str(problem)


HOST = "a host's name of at most 253 characters"
TYPE = 'a type\'s name of 1 to 128 characters without control characters, not "dummy" or "builtin"'
URL = "http://h:4318/v1/traces"
WHO = '"accounts", "servers", "role:NAME", a username or a server\'s name'
PEER = "host:port, [v6]:port, unix:/path, or a server's name"


def handler(entry: object, name: str = "t") -> dict[str, Any]:
    return {"handlers": {"typeMap": {name: entry}}}


def peer(entry: object, name: str = "b.example") -> dict[str, Any]:
    return {"federation": {"servers": {name: entry}}}


def network(**blocks: object) -> dict[str, Any]:
    return {"network": TCP | blocks}


@pytest.mark.parametrize(
    ("blocks", "key", "found", "allowed"),
    [
        ({"server": {"name": "no name"}}, "server.name", '"no name"', HOST),
        ({"server": []}, "server", "an empty list", "an object"),
        (network(tcp4={"port": "99999"}), "network.tcp4.port", '"99999"', "a port number from 0 to 65535"),
        (network(tcp4={"port": " 80"}), "network.tcp4.port", '" 80"', "a port number from 0 to 65535"),
        (network(tcp4={"port": -1}), "network.tcp4.port", "-1", "a port number from 0 to 65535"),
        (network(tcp4={"port": True}), "network.tcp4.port", "true", "a port number from 0 to 65535"),
        (network(tcp4={"port": 80.5}), "network.tcp4.port", "80.5", "a port number from 0 to 65535"),
        (network(tcp4={}), "network.tcp4.port", "nothing", "a port number from 0 to 65535"),
        (network(tcp4={"port": 1, "address": "::"}), "network.tcp4.address", '"::"', "an IPv4 address in numbers"),
        (network(tcp6={"port": 1, "address": "h"}), "network.tcp6.address", '"h"', "an IPv6 address in numbers"),
        (network(types="tcp4"), "network.types", '"tcp4"', "a list of listeners' kinds"),
        (
            network(types=["tcp4", "upd"]),
            "network.types[1]",
            '"upd"',
            'one of "unix", "tcp4", "tcp6", "tls", "web"',
        ),
        (
            network(types=["tcp4", "unix"]),
            "network.unix",
            "nothing",
            "an object: network.types names this listener",
        ),
        (network(types=[]), "network", "no listener", "at least one listener: unix, tcp4, tcp6, tls, web"),
        ({"network": {}}, "network", "no listener", "at least one listener: unix, tcp4, tcp6, tls, web"),
        (
            network(web={"port": 1, "origins": ["ftp://x"]}),
            "network.web.origins[0]",
            '"ftp://x"',
            '"*", or "http://" or "https://" with a host and perhaps a port',
        ),
        (
            network(web={"port": 1, "metricsToken": "short"}),
            "network.web.metricsToken",
            "a value that is not shown",
            "a text of 16 to 1024 printable ASCII characters without spaces",
        ),
        (network(unix={"address": ""}), "network.unix.address", '""', "a path that a Unix socket can have"),
        (network(web={"port": 1, "address": 5}), "network.web.address", "5", "an IPv4 or IPv6 address in numbers"),
        (handler(5), "handlers.typeMap.t", "5", "an object"),
        (handler({}, "builtin"), "handlers.typeMap.builtin", 'the name "builtin"', TYPE),
        (handler({}, "dummy"), "handlers.typeMap.dummy", 'the name "dummy"', TYPE),
        (handler({}, "a\u202eb"), 'handlers.typeMap."a\\u202eb"', 'the name "a\\u202eb"', TYPE),
        (
            handler({"timeout": "5"}, "a.b"),
            'handlers.typeMap."a.b".timeout',
            '"5"',
            "a number of seconds from 0.01 to 86400",
        ),
        (
            handler({"concurrency": 0}),
            "handlers.typeMap.t.concurrency",
            "0",
            "a whole number of requests from 1 to 1024",
        ),
        (handler({"delivery": "no"}), "handlers.typeMap.t.delivery", '"no"', 'one of "durable", "transient"'),
        (handler({"allow": ["role:"]}), "handlers.typeMap.t.allow[0]", '"role:"', WHO),
        (
            handler({"environment": {"A": 5}}),
            "handlers.typeMap.t.environment.A",
            "a value that is not shown",
            "a text without NUL",
        ),
        (
            handler({"environment": {"A=": ""}}),
            'handlers.typeMap.t.environment."A="',
            'the name "A="',
            "a variable's name: at least one character, without = and NUL",
        ),
        (
            handler({"handlerBinary": "b"}),
            "handlers.typeMap.t.unixDomainSocketPath",
            "nothing",
            'the path of the socket on which the handlerBinary answers; or "transport": "stdio"',
        ),
        ({"handlers": {"availableTypes": [5]}}, "handlers.availableTypes[0]", "5", TYPE),
        ({"informer": {"address": 5}}, "informer.address", "5", "a path that a Unix socket can have"),
        ({"control": {"address": "a\0"}}, "control.address", '"a\\u0000"', "a path that a Unix socket can have"),
        ({"storage": {"path": None}}, "storage.path", "null", "a path of at least one character"),
        ({"database": {"type": "mysql"}}, "database.type", '"mysql"', 'one of "sqlite", "redis"'),
        ({"database": {"redis": {"port": 0}}}, "database.redis.port", "0", "a port number from 1 to 65535"),
        ({"database": {"redis": {"database": -1}}}, "database.redis.database", "-1", "a whole number from 0 to 65535"),
        ({"database": {"redis": {"password": 5}}}, "database.redis.password", "a value that is not shown", "a text"),
        ({"database": {"redis": "redis://u:p@h"}}, "database.redis", "a value that is not shown", "an object"),
        ({"accounts": {"registration": 1}}, "accounts.registration", "1", 'one of "closed", "open", "firstUse"'),
        ({"federation": {"policy": "no"}}, "federation.policy", '"no"', 'one of "local", "open", "verified"'),
        ({"federation": {"rate": 0}}, "federation.rate", "0", "a number of messages per second from 0.01 to 1000000"),
        (peer({}), 'federation.servers."b.example".address', "nothing", PEER),
        (peer({"address": ""}), 'federation.servers."b.example".address', '""', PEER),
        (peer({"address": "b"}, "b c"), 'federation.servers."b c"', 'the name "b c"', f"a server's name: {HOST}"),
        (
            peer({"address": "b", "fingerprint": "ab"}, "b"),
            "federation.servers.b.fingerprint",
            '"ab"',
            "64 hexadecimal digits, with or without colons",
        ),
        ({"limits": {"maxHops": "5"}}, "limits.maxHops", '"5"', "a whole number of hops from 1 to 1000"),
        (
            {"limits": {"maxMessage": 1}},
            "limits.maxMessage",
            "1",
            "a whole number of bytes from 1024 (1 KiB) to 268435456 (256 MiB)",
        ),
        (
            {"limits": {"maxSendQueue": 1048575}},
            "limits.maxSendQueue",
            "1048575",
            "a whole number of bytes, at least limits.maxMessage (1048576)",
        ),
        ({"admin": {"info": "text"}}, "admin.info", '"text"', "an object of JSON values"),
        ({"log": {"level": "x" * 99}}, "log.level", f'"{"x" * 55}..."', 'one of "debug", "info", "warning", "error"'),
        ({"cluster": {}}, "cluster.nats", "nothing", "a list of at least one address"),
        ({"cluster": {"nats": []}}, "cluster.nats", "an empty list", "a list of at least one address"),
        *(
            (
                {"cluster": {"nats": [url]}},
                "cluster.nats[0]",
                "a value that is not shown",
                "nats:// or tls://, a host and perhaps a port",
            )
            for url in ("ws://h:4222", "h:4222", "nats://", "nats://h:99999", "nats://h/path")
        ),
        ({"cluster": {"nats": ["nats://h"], "replicas": 2}}, "cluster.replicas", "2", "1, 3 or 5"),
        (
            {"cluster": {"nats": ["nats://h"], "certificate": "c"}},
            "cluster.key",
            "nothing",
            "a path: cluster.certificate is there",
        ),
        (
            {"cluster": {"nats": ["nats://h"], "user": "u", "password": "p", "token": "t"}},
            "cluster",
            "user and token",
            "one of user with password, token, credentials and nkey",
        ),
        (
            {"cluster": {"nats": ["nats://h"], "password": "p"}},
            "cluster.user",
            "nothing",
            "a text: cluster.password is there",
        ),
        (
            {"cluster": {"nats": ["nats://h"]}, "database": {"type": "redis"}},
            "database.type",
            '"redis"',
            "no database.type: the accounts of a cluster are in NATS",
        ),
        ({"cluster": 5}, "cluster", "5", "an object"),
        ({"tracing": {}}, "tracing.otlp", "nothing", "an http or https URL without a user"),
        (
            {"tracing": {"otlp": "http://u:p@h/v1/traces"}},
            "tracing.otlp",
            "a value that is not shown",
            "an http or https URL without a user",
        ),
        ({"tracing": {"otlp": URL, "sample": 2}}, "tracing.sample", "2", "a number from 0 to 1"),
        (
            {"tracing": {"otlp": URL, "headers": {"a b": "x"}}},
            'tracing.headers."a b"',
            'the name "a b"',
            "a header's name",
        ),
        (
            {"tracing": {"otlp": URL, "headers": {"A": "a secret\n"}}},
            "tracing.headers.A",
            "a value that is not shown",
            "a header's value, of printable ASCII",
        ),
    ],
)
def test_one_problem(blocks: dict[str, Any], key: str, found: str, allowed: str) -> None:
    assert problems(blocks) == [Problem(key, found, allowed)]


def test_all_at_once() -> None:
    blocks = {
        "network": {"types": ["upd", "unix", "tcp4"], "tcp4": {"port": "99999"}},
        "handlers": {
            "typeMap": {"a": {"handlerBinary": "a", "timeout": 0}, "b": {"unixDomainSocketPath": "bInformer"}}
        },
        "limits": {"maxMessage": 16777216},
        "federation": {"ca": "nowhere.pem"},
        "log": {"level": "loud"},
    }
    keys = [problem.key for problem in problems(blocks)]
    assert keys == [
        "network.types[0]",
        "network.tcp4.port",
        "handlers.typeMap.a.timeout",
        "log.level",
        "network.unix",
        "handlers.typeMap.a.unixDomainSocketPath",
        "handlers.typeMap.b.unixDomainSocketPath",
        "limits.maxSendQueue",
        "federation.ca",
    ]


def test_nothing_is_said_twice() -> None:
    assert only({"network": {"types": ["tcp4"], "tcp4": {"port": "x"}}}).startswith("network.tcp4.port: ")
    assert only({"network": 5}) == "network: found 5, allowed: an object"
    assert only({"limits": {"maxMessage": "x", "maxSendQueue": 2048}}).startswith("limits.maxMessage: ")


def test_a_list_with_several_wrong_items() -> None:
    found = problems(network(types=["a", "tcp4", "b", 5]))
    assert [problem.key for problem in found] == ["network.types[0]", "network.types[2]", "network.types[3]"]


def test_the_error_prints_a_line_for_each_problem() -> None:
    with pytest.raises(BadConfiguration) as caught:
        parse('{"network": {"tcp4": {"port": "99999"}}, "log": {"format": 1}, "lgo": 1}', BASE)
    assert str(caught.value).splitlines() == [
        'network.tcp4.port: found "99999", allowed: a port number from 0 to 65535',
        'log.format: found 1, allowed: one of "text", "json"',
        "warning: lgo: unknown key, ignored; did you mean log?",
    ]
    assert isinstance(caught.value, ConfigError)
    assert caught.value.warnings == ["lgo: unknown key, ignored; did you mean log?"]


def test_the_error_without_problems_says_what_it_is() -> None:
    assert str(ConfigError()) == BadConfiguration.meaning


# -- sockets and ports --------------------------------------------------------------------------------------------


def test_two_sockets_of_one_path() -> None:
    blocks = {"handlers": {"address": "x/../s", "typeMap": {"t": {"unixDomainSocketPath": "s"}}}}
    allowed = "a path of its own: handlers.address has this one"
    assert problems(blocks) == [Problem("handlers.typeMap.t.unixDomainSocketPath", '"/base/s"', allowed)]


def test_types_that_are_not_served_have_no_socket() -> None:
    entry = {"unixDomainSocketPath": "s"}
    blocks = {"handlers": {"availableTypes": ["a"], "typeMap": {"a": entry, "b": entry}}}
    assert parse(json.dumps({"network": TCP} | blocks), BASE).served_types().keys() == {"a"}


def test_a_socket_whose_path_is_too_long() -> None:
    longest = "é" + "s" * (MAX_SOCKET_PATH - len("/base/é".encode()))
    assert parse(json.dumps(network(unix={"address": longest})), BASE).listeners()[0].kind == "unix"
    assert problems(network(unix={"address": longest + "s"})) == [
        Problem(
            "network.unix.address",
            f'{MAX_SOCKET_PATH + 1} bytes: "/base/é{"s" * 48}..."',
            f"a socket's path of at most {MAX_SOCKET_PATH} bytes, counted from the root",
        )
    ]


@pytest.mark.parametrize(("one", "other"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")])
def test_two_listeners_of_one_port(one: str, other: str) -> None:
    blocks = network(
        tcp4={"port": 5, "address": one}, tls={"port": 5, "address": other, "certificate": "c", "key": "k"}
    )
    keys = [problem.key for problem in problems(blocks)]
    assert keys == ["network.tls.port", "network.tls.certificate", "network.tls.key"]


def test_one_port_over_both_protocols() -> None:
    assert len(parse(json.dumps(network(tcp6={"port": 2223})), BASE).listeners()) == 2


# -- the file itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '{"a": 1,\n}',
            'line 2, column 1: found "}", allowed: JSON (Expecting property name enclosed in double quotes)',
        ),
        ("", "line 1, column 1: found the end of the file, allowed: JSON (Expecting value)"),
        ("{} x", 'line 1, column 4: found "x", allowed: JSON (Extra data)'),
        ("[1]", "(top level): found a list, allowed: an object"),
        ("null", "(top level): found null, allowed: an object"),
        ('{"a": ' + "[" * 100000, "(top level): found a very deep nesting, allowed: a nesting of at most 128 levels"),
        (
            '{"a": ' + "1" * 5000 + "}",
            "(top level): found a value that cannot be read, allowed: values that JSON can hold",
        ),
    ],
)
def test_wrong_json(text: str, told: str) -> None:
    if "Expecting property" in told:
        assert only(text).startswith("line ")  # the place of a comma too many differs between versions of Python
        assert "allowed: JSON (" in only(text)
    else:
        assert only(text) == told


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = ", "line 1, column 5: found the end of the line, allowed: TOML ("),
        ("a = 1\nb = [1 2]", 'line 2, column 8: found "2", allowed: TOML ('),
        ('x = """', "line 1, column 8: found the end of the line, allowed: TOML ("),
    ],
)
def test_wrong_toml(text: str, place: str) -> None:
    assert only(text, "toml").startswith(place)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('"admin": {"info": {"x": [NaN]}}', "admin.info.x[0]: found nan, allowed: a finite number"),
        ('"limits": {"frameTimeout": 1e999}', "limits.frameTimeout: found inf, allowed: a finite number"),
        ('"log": {"level": "\\ud800"}', "log.level: found a text with a lone surrogate, allowed: a text in Unicode"),
        ('"\\ud800": 1', '"\\ud800": found the key "\\ud800", allowed: a key without lone surrogates'),
        (
            f'"admin": {{"info": {{"a": {"[" * 200}{"]" * 200}}}}}',
            "admin: found a very deep nesting, allowed: a nesting of at most 128 levels",
        ),
    ],
)
def test_what_strict_json_does_not_have(text: str, told: str) -> None:
    assert only(f'{{"network": {{"tcp4": {{"port": 1}}}}, {text}}}') == told


def test_what_only_toml_has() -> None:
    text = (
        f"network.tcp4.port = 1\nadmin.info.a = 1979-05-27\nlimits.maxHops = 0x{'f' * 9000}\nlimits.drainTimeout = inf"
    )
    assert [str(problem) for problem in problems(text, "toml")] == [
        "limits.drainTimeout: found inf, allowed: a finite number",
        "admin.info.a: found a date or time, allowed: a value that JSON has",
        "limits.maxHops: found a very large number, allowed: a whole number of hops from 1 to 1000",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file or directory, allowed: a readable JSON or TOML file"),
        (b'{"\xff": 1}', "the byte 0xff at offset 2, allowed: a text in UTF-8"),
        (b" " * (16 * 1024 * 1024 + 1), "a larger file, allowed: at most 16777216 bytes (16 MiB)"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "bester.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == f"{file}: found {told}"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="null"):
        load("a\0b")


def test_long_values_are_cut() -> None:
    (problem,) = problems({"limits": {"maxHops": 10**99}})
    assert problem.found == "1" + "0" * 56 + "..."


def test_reserved_and_unsound_names_of_available_types() -> None:
    found = problems({"handlers": {"availableTypes": ["builtin", "", "a\tb"]}})
    assert [problem.found for problem in found] == ['"builtin"', '""', '"a\\tb"']


def test_texts_that_programs_cannot_take() -> None:
    entry = {"environment": {"A": "x\0"}}
    assert only(handler(entry)).startswith("handlers.typeMap.t.environment.A: found a value that is not shown")
    assert only({"database": {"redis": {"prefix": ""}}}).startswith('database.redis.prefix: found "", allowed: a text')
