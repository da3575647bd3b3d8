"""The checks of a handler that speaks over its standard input and output (docs/protocol.md, section 6.11)."""

from __future__ import annotations

from bester.workbench.bench import Bench
from bester.workbench.check import check
from bester.workbench.checks import big, deep, empty, many, numbers, opaque, slow_reader, split, unicode
from bester.workbench.described_checks import DESCRIBED
from bester.workbench.parts_checks import PARTS
from bester.workbench.stdio import StdioBench


@check("answer", "6.11", "Each line that it reads is a request, for which it prints one line.")
async def answer(bench: Bench) -> None:
    await bench.serves_on()


@check("input-ends", "6.11", "When its input ends, it ends.")
async def input_ends(bench: Bench) -> None:
    assert isinstance(bench, StdioBench)
    await bench.ask_sample()
    await bench.end_of_input()


STDIO = (
    answer,
    *DESCRIBED,
    split,
    empty,
    big,
    deep,
    unicode,
    numbers,
    opaque,
    many,
    slow_reader,
    *PARTS,
    input_ends,
)
