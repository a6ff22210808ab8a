"""How many trials auto-bit selection needs against random search, on real networks.

For each seed: the trials after which `abs` has the memory that it ends with, and the trials after
which random search has no more memory than that, at the same limit. Searches are kept under
`build/search-methods` and go on where they ended.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sgq_hw.files import write_text
from sgq_hw.graphs import load_graph
from sgq_hw.search.session import Method, Options, SearchResult, search
from sgq_hw.search.trial import Goal, Trial

REPORT = Path("docs/results/search_methods.md")


def trials_to_reach(trials: Sequence[Trial], goal: Goal, memory: int) -> int | None:
    """Return after how many trials the goal was met with at most `memory` bits, None if never."""
    for count, trial in enumerate(trials, 1):
        measured = trial.outcome.measured
        if measured is not None and goal.met_by(measured) and measured.memory_bits <= memory:
            return count
    return None


def best_memory(result: SearchResult) -> int | None:
    """Return the winner's memory, bits."""
    if result.winner is None or result.winner.outcome.measured is None:
        return None
    return result.winner.outcome.measured.memory_bits


@click.command()
@click.option("--pairs", default="gcn-cora,sage-cora", show_default=True)
@click.option("--seeds", default=5, show_default=True)
@click.option("--trials", default=40, show_default=True, help="Of abs.")
@click.option("--random-trials", default=160, show_default=True)
@click.option("--epochs", default=30, show_default=True, help="Fine-tuning steps of a trial.")
@click.option("--jobs", default=2, show_default=True)
def main(
    pairs: str, seeds: int, trials: int, random_trials: int, epochs: int, jobs: int
) -> None:
    """Search with both methods, print and write the table."""
    headings = ("pair", "seed", "memory of abs, bits", "trials of abs", "trials of random")
    lines, table = [], Table(*headings)
    for pair in pairs.split(","):
        model, _, graph = pair.partition("-")
        counts: list[tuple[int, int]] = []
        for seed in range(seeds):
            found = {}
            for method, limit in ((Method.ABS, trials), (Method.RANDOM, random_trials)):
                options = Options(
                    model=model, method=method, trials=limit, epochs=epochs, seed=seed, jobs=jobs
                )
                folder = Path("build/search-methods") / f"{pair}-{method.value}-{seed}"
                found[method] = search(load_graph(graph), folder, options)
            memory = best_memory(found[Method.ABS])
            if memory is None:
                row = [pair, str(seed), "no winner", "-", "-"]
            else:
                goal = found[Method.ABS].goal
                ours = trials_to_reach(found[Method.ABS].trials, goal, memory) or trials
                theirs = trials_to_reach(found[Method.RANDOM].trials, goal, memory)
                counts.append((ours, theirs or random_trials))
                shown = str(theirs) if theirs else f"> {random_trials}"
                row = [pair, str(seed), f"{memory:,}", str(ours), shown]
            table.add_row(*row)
            lines.append("| " + " | ".join(row) + " |")
        if counts:
            medians = [statistics.median(column) for column in zip(*counts, strict=True)]
            row = [pair, "median", "", f"{medians[0]:g}", f"at least {medians[1]:g}"]
            table.add_row(*row)
            lines.append("| " + " | ".join(row) + " |")
    Console().print(table)
    text = [
        "# Auto-bit selection against random search",
        "",
        f"Trials of {epochs} fine-tuning steps, limit 0.4 points of validation accuracy. Reproduce",
        "with `python -m benchmarks.search_methods`.",
        "",
        "| " + " | ".join(headings) + " |",
        "|---" * len(headings) + "|",
        *lines,
    ]
    write_text(REPORT, "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
