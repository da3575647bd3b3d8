"""Recordings as files: what is written is read again, and what is broken is named."""

from __future__ import annotations

import json
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from bester.workbench import recording
from bester.workbench.recording import BadRecording, Head, Recording, RecordingWriter
from bester.workbench.redaction import Redaction

HEAD = Head("recording", 1, "j.example", "order", 1.5)
SENDER = {"user": "t", "server": "j.example", "verified": True}


def record(data: Any = 1, **more: Any) -> dict[str, Any]:
    request = {"scope": "client", "from": SENDER, "hops": 0, "id": "7", "data": data}
    return {"at": 2.5, "request": request, "outcome": {"commands": []}, "ms": 0.5, **more}


def encoded(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def write(path: Path, *records: Raw, redact: tuple[str, ...] = (), most: int = 10_000) -> list[bool]:
    head = Head("recording", 1, "j.example", "order", 1.5, redacted=list(redact))
    with RecordingWriter(path, head, Redaction(redact), most) as writer:
        return [writer.add(one) for one in records]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r"
    again = {"refused": {"code": "x"}}
    write(
        path,
        encoded(record({"a": 1.50})),
        encoded(record(again=again)),
        Raw(
            b'{"request":'
            b'{"scope":"server","from":{"user":null},"hops":1,"guards":"mail","data":{\n"a":\r\n1E2}},"outcome":{"failed":{}}}'
        ),
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = Recording(path)
    assert read.head == HEAD
    (_, one), (_, two), (line, three) = read
    assert (one.at, one.request.id, one.request.sender, bytes(one.request.data)) == (2.5, "7", SENDER, b'{"a": 1.5}')
    assert one.again is None
    assert two.again == again
    assert (line, bytes(three.request.data)) == (4, b'{ "a":  1E2}')
    assert three.request.header() == {"scope": "server", "from": {"user": None}, "hops": 1, "guards": "mail"}
    assert len(list(read)) == 3


def test_values_are_redacted_before_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write(path, encoded(record({"card": "4111", "n": 12})), redact=("$..card",))
    assert b"4111" not in path.read_bytes()
    ((_, entry),) = Recording(path)
    assert json.loads(bytes(entry.request.data)) == {"card": "redacted", "n": 12}
    assert Recording(path).head.redacted == ["$..card"]


def test_a_full_disk_cuts_no_line(tmp_path: Path) -> None:
    path = tmp_path / "r"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(path, encoded(record("x" * 300)), encoded(record("x" * 700)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list(Recording(path))) == 1


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = encoded(record())
    assert write(tmp_path / "1", one, one, one, most=500) == [True, True, False]
    assert (tmp_path / "1").stat().st_size <= 500
    monkeypatch.setattr(recording, "MAX_LINE", 1000)
    with RecordingWriter(tmp_path / "2", HEAD, Redaction(["$..x"]), 10_000) as writer:
        assert writer.add(encoded(record("x" * 1000)))
        assert writer.add(Raw(b'{"a":1e999999999999999999999}'))  # which cannot be read, and so not be redacted
        assert (writer.written, writer.left_out) == (0, 2)
    with pytest.raises(FileExistsError):
        write(tmp_path / "2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: this is not the head of a recording"),
        ("x\n", "line 1: this is not the head of a recording"),
        ("\xff\n", "line 1: this is not the head of a recording"),
        ('{"a": 1}\n', "line 1: this is not the head of a recording: Object missing required field `bester`"),
        ("HEAD2\n", "line 1: the recording's version is 2, and this release reads 1"),
        ("OTHER\n", "line 1: this is not a recording: bester must be 'recording', and is 'other'"),
        ("HEAD\nGOOD\nx\n", "line 3: JSON is malformed"),
        ("HEAD\nGOOD\n\n", "line 3: Input data was truncated"),
        ("HEAD\nGOOD\n{}\n", "line 3: Object missing required field `request`"),
        ("HEAD\nGOOD", "line 2: the line is cut; without it"),
        ("HEAD\nBAD[]\n", "line 2: an outcome must have one member: commands, refused, failed"),
        ('HEAD\nBAD{"x":1}\n', "line 2: an outcome must have one member"),
        ('HEAD\nBAD{"commands":{}}\n', "line 2: commands must be a list"),
        ('HEAD\nBAD{"commands":[1]}\n', "line 2: each of the commands must be an object"),
        ('HEAD\nBAD{"failed":[]}\n', "line 2: failed must be an object"),
        ('HEAD\nBAD{"failed":{"n":1e999999999999999999999}}\n', "is a number that Python cannot hold"),
    ],
)
def test_broken_recordings(tmp_path: Path, text: str, reason: str) -> None:
    head = {"bester": "recording", "version": 1, "server": "j.example", "type": "order", "began": 1}
    for name, value in {"HEAD2": head | {"version": 2}, "OTHER": head | {"bester": "other"}, "HEAD": head}.items():
        text = text.replace(name, json.dumps(value))
    text = text.replace("GOOD", json.dumps(record()))
    start, bad, end = text.partition("BAD")
    if bad:
        text = start + '{"request":' + json.dumps(record()["request"]) + ',"outcome":' + end.rstrip("\n") + "}\n"
    path = tmp_path / "r"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadRecording) as error:
        list(Recording(path))
    assert str(error.value).startswith(f"{path}, line ")
    assert reason in str(error.value)


def test_a_line_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_LINE", 1000)
    path = tmp_path / "r"
    path.write_bytes(b"x" * 2000)
    with pytest.raises(BadRecording, match="line 1: the line is longer than 1,000 bytes"):
        Recording(path)
