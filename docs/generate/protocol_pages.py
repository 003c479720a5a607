"""Write the page of each benchmark protocol, with its figures, from the tables in experiments/tables.

    .venv/bin/python docs/generate/protocol_pages.py

A table experiments/tables/NAME.csv, as `tomosift benchmark` writes it, holds one protocol and gives the page
docs/protocols/NAME.md. The tables of `benchmarks/speed.py` and `benchmarks/peers.py` in the same folder are skipped.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib import rcParams

from tomosift.evaluation.benchmark.figures import accuracy_figure
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.report import FURTHER, against, compared, labels_of, meaning, reference
from tomosift.evaluation.benchmark.results import Row, budgets_of, by_world, read_table, rows_of
from tomosift.evaluation.report.figures import STYLE

ROOT = Path(__file__).resolve().parents[2]
TABLES_WITHOUT_PROTOCOL = {"speed", "peers"}
# Grays with enough contrast on light and on dark pages.
PAGE_STYLE = {
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": "#8a8a8a",
    "text.color": "#8a8a8a",
    "xtick.color": "#8a8a8a",
    "ytick.color": "#8a8a8a",
    "grid.color": "#8a8a8a55",
}


def render_page(name: str, rows: Sequence[Row], folder: Path) -> str:
    """Return the page of one table; write its figures into the folder.

    Raises
    ------
    ValueError
        The table holds several protocols.
    """
    if len({row.protocol for row in rows}) > 1:
        raise ValueError(f"{name}.csv holds several protocols, expected one; write a table of each")
    protocol = PROTOCOLS[rows[0].protocol]
    parts = [f"# {name}", protocol.sentence, f"Structures of the atlas: {', '.join(protocol.classes)}."]
    if protocol.others:
        parts.append(f"Of no class: {', '.join(protocol.others)}.")
    if protocol.pretrained_on:
        parts.append(f"Pretrained on: {', '.join(protocol.pretrained_on)}.")
    seeds = sorted({row.seed for row in rows})
    unit = "episodes of " if protocol.ways else ""
    parts.append(
        f"Accuracy on {unit}{rows[0].test_particles:,} or so held-out particles; mean over up to {len(seeds)} seeds, "
        "range in brackets. Differences to another row are of the same seeds, with their 95 % interval. Numbers are "
        f"in `experiments/tables/{name}.csv`, the commands in `experiments/LOG.md`."
    )
    for (_, snr), mine in by_world(rows).items():
        noise = "no noise" if math.isinf(snr) else f"SNR {snr:g}"
        figure = folder / f"{name}-{'clean' if math.isinf(snr) else f'snr{snr:g}'}.svg"
        accuracy_figure(mine, STYLE | PAGE_STYLE).savefig(figure, transparent=True, metadata={"Date": None})
        parts += [
            f"## {noise[0].upper()}{noise[1:]}",
            f"![Accuracy of each method at {noise}]({figure.name})",
            render_table(mine),
        ]
    parts += [
        "## Methods",
        "\n".join(f"- `{m}`: {sentence}" for m, sentence in dict.fromkeys((r.method, meaning(r)) for r in rows)),
    ]
    return "\n\n".join(parts) + "\n"


def render_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with a line per method and a column per label budget."""
    budgets = budgets_of(rows)
    more = [(title, name) for title, name in FURTHER if any(getattr(row, name) is not None for row in rows)]
    heads = ["method", *(labels_of(budget) for budget in budgets)]
    differs = compared(rows)
    heads += [f"against `{reference(rows)}`"] if differs else []
    heads += [title for title, _ in more]
    lines = [heads, ["---"] * len(heads)]
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        groups = [rows_of(rows, method, budget) for budget in budgets]
        cells = [format_mean([r.accuracy for r in group]) + format_interval(group) for group in groups]
        cells += [against(rows, method)] if differs else []
        cells += [format_mean([getattr(r, name) for r in mine if getattr(r, name) is not None]) for _, name in more]
        lines.append([f"`{method}`", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_interval(rows: Sequence[Row]) -> str:
    """Return half the 95 % interval over episodes as text, mean over seeds; nothing without episodes."""
    widths = [row.half_width for row in rows if row.half_width is not None]
    return f", ± {mean(widths):.3f}" if widths else ""


def format_mean(values: Sequence[float]) -> str:
    """Return mean and range as text."""
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else ""
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Write the page of every table."""
    folder = ROOT / "docs" / "protocols"
    folder.mkdir(exist_ok=True)
    rcParams["svg.hashsalt"] = "tomosift"  # the same table gives the same file
    for path in sorted((ROOT / "experiments" / "tables").glob("*.csv")):
        if path.stem in TABLES_WITHOUT_PROTOCOL:
            continue
        (folder / f"{path.stem}.md").write_text(render_page(path.stem, read_table(path), folder))
        print(folder / f"{path.stem}.md")


if __name__ == "__main__":
    main()
