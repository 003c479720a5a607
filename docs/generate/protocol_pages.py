"""Write the page of each protocol in the documentation, with its figures, from the kept tables.

    python docs/generate/protocol_pages.py

Tables are experiments/tables/NAME.csv, as `tomosift benchmark` writes them, of one protocol each; pages are
docs/protocols/NAME.md. Tables of the timing benchmarks `speed.py` and `peers.py` are skipped.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib import rcParams

from tomosift.evaluation.benchmark.figures import draw_accuracy
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.report import (
    FURTHER_COLUMNS,
    budget_title,
    describe_entry,
    describe_noise,
    find_reference,
    format_difference,
    has_differences,
)
from tomosift.evaluation.benchmark.results import Row, group_by_conditions, list_budgets, read_table, select_rows
from tomosift.evaluation.report.figures import STYLE

ROOT = Path(__file__).resolve().parents[2]
SKIPPED_TABLES = {"speed", "peers"}
# Grays that can be read on light and on dark pages.
PAGE_COLORS = {
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": "#8a8a8a",
    "text.color": "#8a8a8a",
    "xtick.color": "#8a8a8a",
    "ytick.color": "#8a8a8a",
    "grid.color": "#8a8a8a55",
}


def render_page(name: str, rows: Sequence[Row], folder: Path) -> str:
    """Return the page of one table as Markdown; its figures are written into the folder.

    Raises
    ------
    ValueError
        The table has rows of several protocols.
    """
    if len({row.protocol for row in rows}) > 1:
        raise ValueError(f"{name}.csv has rows of several protocols, expected one; write a table of each")
    parts = render_introduction(name, rows)
    for (_, snr), group in group_by_conditions(rows).items():
        noise = describe_noise(snr)
        figure = folder / f"{name}-{'clean' if noise == 'no noise' else f'snr{snr:g}'}.svg"
        draw_accuracy(group, STYLE | PAGE_COLORS).savefig(figure, transparent=True, metadata={"Date": None})
        parts += [
            f"## {noise[0].upper()}{noise[1:]}",
            f"![Accuracy of each method at {noise}]({figure.name})",
            render_table(group),
        ]
    descriptions = dict.fromkeys((row.method, describe_entry(row)) for row in rows)
    parts += ["## Methods", "\n".join(f"- `{method}`: {sentence}" for method, sentence in descriptions)]
    return "\n\n".join(parts) + "\n"


def render_introduction(name: str, rows: Sequence[Row]) -> list[str]:
    """Return the paragraphs about the protocol and its numbers."""
    protocol = PROTOCOLS[rows[0].protocol]
    parts = [f"# {name}", protocol.description, f"Structures of the atlas: {', '.join(protocol.classes)}."]
    if protocol.others:
        parts.append(f"Of no class: {', '.join(protocol.others)}.")
    if protocol.pretrained_on:
        parts.append(f"Pretrained on: {', '.join(protocol.pretrained_on)}.")
    seeds = len({row.seed for row in rows})
    episodes = "episodes of " if protocol.ways else ""
    parts.append(
        f"Accuracy on {episodes}about {rows[0].test_particles:,} held-out particles; mean over up to {seeds} seeds, "
        "range in brackets. Differences to another entry are of the same seeds, with their 95 % interval. The numbers "
        f"are in `experiments/tables/{name}.csv`, the commands in `experiments/LOG.md`."
    )
    return parts


def render_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table, a line per entry and a column per budget."""
    budgets, compares = list_budgets(rows), has_differences(rows)
    more = [column for column in FURTHER_COLUMNS if any(getattr(row, column[1]) is not None for row in rows)]
    header = ["method", *(budget_title(budget) for budget in budgets)]
    header += [f"difference to `{find_reference(rows)}`"] if compares else []
    header += [title for title, _ in more]
    lines = [header, ["---"] * len(header)]
    for method in dict.fromkeys(row.method for row in rows):
        cells = [format_accuracy(select_rows(rows, method, budget)) for budget in budgets]
        cells += [format_difference(rows, method)] if compares else []
        for _, field in more:
            values = [getattr(row, field) for row in rows if row.method == method]
            cells.append(format_mean_and_range([value for value in values if value is not None]))
        lines.append([f"`{method}`", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_accuracy(rows: Sequence[Row]) -> str:
    """Return mean and range over seeds, and half the 95 % interval over episodes where there is one."""
    widths = [row.half_width for row in rows if row.half_width is not None]
    return format_mean_and_range([row.accuracy for row in rows]) + (f", ± {mean(widths):.3f}" if widths else "")


def format_mean_and_range(values: Sequence[float]) -> str:
    """Return the mean, and the range of several values; empty without values."""
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else ""
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Write the page of every table."""
    folder = ROOT / "docs" / "protocols"
    folder.mkdir(exist_ok=True)
    rcParams["svg.hashsalt"] = "tomosift"  # the same table gives the same file
    for path in sorted((ROOT / "experiments" / "tables").glob("*.csv")):
        if path.stem in SKIPPED_TABLES:
            continue
        (folder / f"{path.stem}.md").write_text(render_page(path.stem, read_table(path), folder))
        print(folder / f"{path.stem}.md")


if __name__ == "__main__":
    main()
