"""What counts as a difference, and how differences are grouped."""

from __future__ import annotations

from typing import Any

import pytest

from bester.workbench.differences import MAX_GROUPS, Comparison, compare


def reply(data: Any, **more: Any) -> Any:
    return {"commands": [{"type": "reply", "payload": {"type": "order", "data": data}, **more}]}


def refused(code: str = "", **more: Any) -> Any:
    return {"refused": {**({"code": code} if code else {}), **more}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (reply({"a": 1, "b": 2}), reply({"b": 2, "a": 1.0}), []),
        (reply({"price": 3}), reply({"price": 4}), ["commands[0].payload.data.price: 3 -> 4"]),
        (reply({"a": 1}), reply({}), ["commands[0].payload.data.a: 1 -> (nothing)"]),
        (reply([1]), reply([1, {"b": "x"}]), ['commands[0].payload.data[1]: (nothing) -> {"b":"x"}']),
        (reply(True), reply(1), ["commands[0].payload.data: true -> 1"]),
        (reply(0), reply(False), ["commands[0].payload.data: 0 -> false"]),
        (reply(1), reply("1"), ['commands[0].payload.data: 1 -> "1"']),
        (reply({"a b": 1}), reply({"a b": 2}), ['commands[0].payload.data["a b"]: 1 -> 2']),
        (reply("x" * 500), reply(1), [f'commands[0].payload.data: "{"x" * 115} ... -> 1']),
        ({"commands": []}, {"commands": [{"type": "done"}]}, []),
        (
            {"commands": []},
            {"commands": [{"type": "reply"}]},
            ['commands[0]: (nothing) -> {"type":"reply"}'],
        ),
        (reply(1), refused("shop.x"), ["outcome: answered -> refused shop.x"]),
        (refused(), {"failed": {"code": "handlerTimeout"}}, ["outcome: refused -> failed handlerTimeout"]),
        (refused("shop.x", message="a"), refused("shop.x", message="b"), ['refused.message: "a" -> "b"']),
        (
            {"failed": {"code": "badResponse", "message": "a"}},
            {"failed": {"code": "badResponse", "message": "b"}},
            [],
        ),
    ],
)
def test_differences(before: Any, after: Any, expected: list[str]) -> None:
    assert [str(one) for one in compare(before, after)] == expected


def test_kinds_have_no_numbers() -> None:
    (one,) = compare(reply([1, {"a": [2]}]), reply([1, {"a": [3]}]))
    assert one.kind == "commands[*].payload.data[*].a[*]"


def test_what_the_handler_varies_itself_is_left_out() -> None:
    comparison = Comparison()
    comparison.varied.learn(reply({"number": "a", "x": 1}), reply({"number": "b", "x": 1}))
    comparison.varied.learn(reply({"number": "a"}), refused())  # says nothing about others
    assert comparison.add(2, reply({"number": "c", "x": 1}), None, reply({"number": "d", "x": 1})) == []
    assert comparison.add(3, reply({"number": "c"}), None, reply({"number": {"deep": 1}})) == []
    assert [one.place for one in comparison.add(4, reply({"numbers": 1}), None, reply({"numbers": 2}))] == [
        "commands[0].payload.data.numbers"
    ]
    assert comparison.add(5, reply(1), None, refused()) != []
    assert comparison.add(6, reply(1), refused(), refused()) == []
    assert (comparison.asked, comparison.different) == (5, 2)
    assert comparison.left_out == {"commands[*].payload.data.number": 2, "outcome: answered -> refused": 1}
    assert [(group.count, group.line) for group in comparison.groups.values()] == [(1, 4), (1, 5)]


def test_groups_are_bounded() -> None:
    comparison = Comparison()
    names = [f"n{number}" for number in range(MAX_GROUPS + 5)]
    comparison.add(2, reply(dict.fromkeys(names, 1)), None, reply(dict.fromkeys(names, 2)))
    assert len(comparison.groups) == MAX_GROUPS + 1
    assert comparison.groups["others"].count == 5
