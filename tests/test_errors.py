"""What an error shows outsiders, and what it tells the log."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from bester.errors import Internal, Malformed

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "bester"
GADGETS = ROOT / "gadgets" / "src" / "bester_gadgets"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def raised(message: str, cause: Exception) -> Internal:
    try:
        raise Internal(message) from cause
    except Internal as error:
        return error


def test_the_log_is_told_the_causes_and_outsiders_are_not() -> None:
    deep = raised("deep", OSError(5, "Input/output error"))
    error = raised("the database failed; the log says how", deep)
    assert error.message == str(error) == "the database failed; the log says how"
    assert error.inside == (
        "the database failed; the log says how (Internal: deep) (OSError: [Errno 5] Input/output error)"
    )


def test_what_was_said_already_is_not_said_again() -> None:
    error = Malformed("`id` is missing")
    error.__cause__ = ValueError("`id` is missing")
    assert error.inside == "`id` is missing"


def test_an_error_and_its_causes_forget_their_frames() -> None:
    def failed() -> Internal:
        try:
            try:
                raise ValueError("one")
            except ValueError:
                raise OSError("two")  # noqa: B904 (its context counts, too)
        except OSError as two:
            try:
                raise Internal from two
            except Internal as three:
                return three

    error = failed()
    error.forget_frames()
    assert error.__cause__ is not None
    assert error.__cause__.__context__ is not None
    assert not error.__traceback__
    assert not error.__cause__.__traceback__
    assert not error.__cause__.__context__.__traceback__
    assert "two" in error.inside
    error.__cause__.__context__.__cause__ = error
    error.forget_frames()  # has an end, too


def test_a_chain_of_causes_has_an_end() -> None:
    error: Exception = ValueError("0")
    for number in range(1, 100):
        error = raised(str(number), error)
    assert isinstance(error, Internal)
    assert error.inside == "99 (Internal: 98) (Internal: 97) (Internal: 96)"


def functions(*roots: Path) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in (path for root in roots for path in root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def logging_calls(node: ast.AST) -> list[ast.Call]:
    return [
        one
        for one in ast.walk(node)
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr in LEVELS
        and isinstance(one.func.value, ast.Name)
        and one.func.value.id in ("log", "_log")
    ]


def test_the_log_is_never_told_only_what_outsiders_are() -> None:
    for path, function in functions(SOURCE):
        if path.relative_to(SOURCE).parts[0] not in ("server", "store", "net", "bus", "web"):
            continue
        for call in logging_calls(function):
            for argument in call.args:
                shown = isinstance(argument, ast.Attribute) and argument.attr == "message"
                assert not shown, f"{path}:{call.lineno}: error.inside has the causes, too"


def test_where_an_error_refers_to_the_log_something_is_logged() -> None:
    for path, function in functions(SOURCE, GADGETS):
        texts = [
            one.value for one in ast.walk(function) if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        if any(text.endswith(("the log says how", "the log says why", "the log says what")) for text in texts):
            assert logging_calls(function), f"{path}:{function.lineno}"
