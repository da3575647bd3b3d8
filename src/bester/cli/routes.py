"""How a message's route is drawn: a tree, with what went on at other servers inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bester.cli.output import safe

if TYPE_CHECKING:
    from rich.tree import Tree

BAD_COLOUR, GOOD_COLOUR = "red", "green"
_GOOD = frozenset({"good", "delivered", "stored", "sent", "queued", "skipped", "planned"})


def tree(title: str, steps: list[dict[str, Any]]) -> Tree:
    """Returns a route as a tree; ``steps`` are as they stand in a report."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(safe(title), style="bold"))
    _grow(root, steps)
    return root


def _grow(branch: Tree, steps: list[dict[str, Any]]) -> None:
    from rich.text import Text

    for step in steps:
        status = str(step.get("status", ""))
        line = Text(safe(f"{step.get('server', '')}: {step.get('step', '')} {step.get('name', '')}"))
        if step.get("ms") is not None:
            line.append(f"  {step['ms']:g} ms", style="dim")
        line.append(f"  {safe(status)}", style=GOOD_COLOUR if status in _GOOD else BAD_COLOUR)
        _grow(branch.add(line), step.get("route") or [])


def draw(title: str, steps: list[dict[str, Any]]) -> None:
    """Prints a route."""
    from rich.console import Console

    Console(highlight=False, markup=False, emoji=False, soft_wrap=True).print(tree(title, steps))
