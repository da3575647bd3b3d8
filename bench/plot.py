"""A run's result as a picture; needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from bench.figures import FLOOR, NATS, NATS_PY, OURS, Figures

COLORS = {OURS: "#2458a6", NATS: "#7f8c8d", NATS_PY: "#7f8c8d", FLOOR: "#c9ced2"}
PANELS = (
    ("Server CPU per round trip, µs", "CPU µs", ("1x64", "50x8", "50x1", "50x8 1 KiB"), (OURS, NATS, FLOOR)),
    ("Round trips/s, libraries at both ends", "1/s", ("SDK 50x8",), (OURS, NATS_PY)),
    ("p50 on one core, µs, libraries at both ends", "p50 µs", ("SDK 1x1",), (OURS, NATS_PY)),
    ("Fan-out to 1,000: CPU per delivery, µs", "CPU µs", ("fan-out",), (OURS, NATS, FLOOR)),
    ("Memory of an idle client, KiB", "KiB", ("idle",), (OURS, NATS)),
)


def plot(figures: Figures, path: Path) -> None:
    """Writes a picture of the figures that were measured; its format is that of the path's ending."""
    import matplotlib as mpl

    mpl.use("Agg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "bester"
    from matplotlib import pyplot as plt

    panels = [panel for panel in PANELS if any(figures.get(name, OURS, panel[1]) is not None for name in panel[2])]
    if not panels:
        return
    widths = [len(scenarios) * len(peers) + 1 for _, _, scenarios, peers in panels]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(0.62 * sum(widths) + 1, 3.6), squeeze=False, layout="constrained",
        gridspec_kw={"width_ratios": widths},
    )  # fmt: skip
    for axis, (title, unit, scenarios, peers) in zip(axes[0], panels, strict=True):
        for shift, peer in enumerate(peers):
            values = [figures.get(scenario, peer, unit) or 0.0 for scenario in scenarios]
            width = 0.8 / len(peers)
            places = [place + (shift - (len(peers) - 1) / 2) * width for place in range(len(scenarios))]
            bars = axis.bar(places, values, width, label=peer, color=COLORS[peer])
            labels = [f"{value / 1000:.0f}k" if value >= 1000 else f"{value:.3g}" for value in values]
            axis.bar_label(bars, labels, fontsize=7)
        axis.set_title("\n".join(_wrapped(title)), fontsize=8)
        axis.set_xticks(range(len(scenarios)), scenarios, fontsize=7)
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=6, frameon=False)
        axis.margins(y=0.18)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _wrapped(title: str) -> list[str]:
    head, colon, tail = title.partition(": ")
    if not colon:
        head, colon, tail = title.partition(", ")
    return [head + colon.strip(), tail] if tail else [head]
