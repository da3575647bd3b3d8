"""Draws a message's route as a tree that includes the steps at other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.tree import Tree

BAD_COLOUR, GOOD_COLOUR = "red", "green"
_GOOD = frozenset({"good", "delivered", "stored", "sent", "queued", "skipped", "planned"})


def tree(title: str, steps: list[dict[str, Any]]) -> Tree:
    """Returns a route as a tree; ``steps`` have the form of a report."""
    from rich.tree import Tree

    from bester.cli.screen import styled

    root = Tree(styled(title, "bold"))
    _grow(root, steps)
    return root


def _grow(branch: Tree, steps: list[dict[str, Any]]) -> None:
    from bester.cli.screen import styled

    for step in steps:
        status = str(step.get("status", ""))
        line = styled(f"{step.get('server', '')}: {step.get('step', '')} {step.get('name', '')}")
        if step.get("ms") is not None:
            line.append(f"  {step['ms']:g} ms", style="dim")
        line.append(styled(f"  {status}", GOOD_COLOUR if status in _GOOD else BAD_COLOUR))
        _grow(branch.add(line), step.get("route") or [])


def draw(title: str, steps: list[dict[str, Any]]) -> None:
    """Prints a route."""
    from bester.cli.screen import Screen

    Screen(soft_wrap=True).print(tree(title, steps))
