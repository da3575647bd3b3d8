"""The figures as a picture; needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS, GREY, RED = "#2458a6", "#7f8c8d", "#b03a2e"


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Writes a picture of the scenarios that were run: how busy servers are, and how partitions heal."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "bester"  # the same figures give the same file
    from matplotlib import pyplot as plt

    parted = {name: one for name, one in results.items() if "healedAt" in one}
    figure, axes = plt.subplots(1, 1 + len(parted), figsize=(4.6 + 4.2 * len(parted), 3.4), squeeze=False,
                                layout="constrained")  # fmt: skip
    _busy(axes[0][0], {name: one for name, one in results.items() if name not in parted})
    for axis, (name, one) in zip(axes[0][1:], parted.items(), strict=True):
        _partition(axis, name, one)
    for axis in axes[0]:
        axis.tick_params(labelsize=7)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _busy(axis: Any, results: dict[str, dict[str, Any]]) -> None:
    names = list(results)
    places = range(len(names))
    for shift, key, color in ((-0.2, "busiest", OURS), (0.2, "p50", GREY)):
        values = [100 * results[name]["busy"][key] for name in names]
        bars = axis.barh(
            [place + shift for place in places], values, 0.36, label="median" if key == "p50" else key, color=color
        )
        axis.bar_label(bars, [f"{value:.2g} %" for value in values], fontsize=6, padding=2)
    axis.set_xscale("log")
    axis.margins(x=0.25)
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.set_title("How busy a server's processor is", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=6, frameon=False, loc="lower right")


def _partition(axis: Any, name: str, one: dict[str, Any]) -> None:
    times, stored = zip(*one["storedCurve"], strict=True)
    axis.plot(times, stored, color=OURS, linewidth=1.5)
    axis.set_ylabel("messages on disk, all servers", fontsize=7, color=OURS)
    axis.axvspan(one["healedAt"] - 60, one["healedAt"], color=GREY, alpha=0.15, linewidth=0)
    dials = axis.twinx()
    dials.step([0.5 * at for at in range(len(one["dialCurve"]))], [2 * count for count in one["dialCurve"]],
               where="post", color=RED, linewidth=0.8)  # fmt: skip
    dials.set_ylabel("dials per second", fontsize=7, color=RED)
    dials.tick_params(labelsize=7)
    axis.set_title(f"{name[0].upper()}{name[1:]}, cut in grey", fontsize=8)
    axis.set_xlabel("s", fontsize=7)
    for each in (axis, dials):
        each.spines[["top"]].set_visible(False)
        each.set_ylim(bottom=0)
