"""The Pareto front of a search, memory against loss of validation accuracy, and its picture."""

from collections.abc import Sequence
from pathlib import Path

from sgq_hw.files import atomic_path
from sgq_hw.search.trial import Goal, Measured, Trial


def measurements(trials: Sequence[Trial]) -> list[tuple[Trial, Measured]]:
    """Return the trials that gave a measurement, with it."""
    return [(t, t.outcome.measured) for t in trials if t.outcome.measured is not None]


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in memory and validation accuracy.

    By ascending memory, so by ascending accuracy; of equal ones the first trial.
    """
    front: list[Trial] = []
    highest = -1.0
    order = sorted(measurements(trials), key=lambda m: (m[1].memory_bits, -m[1].val, m[0].id))
    for trial, measured in order:
        if measured.val > highest:
            highest = measured.val
            front.append(trial)
    return front


def draw_pareto(path: Path, trials: Sequence[Trial], goal: Goal, title: str) -> None:
    """Draw all trials and their front as SVG; equal trials give equal bytes.

    Raises:
        InputError: the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 (slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    def place(found: Sequence[Trial]) -> tuple[list[float], list[float]]:
        pairs = [(m.memory_bits / 1000, goal.drop(m)) for _, m in measurements(found)]
        return [x for x, _ in pairs], [y for _, y in pairs]

    best = goal.best(trials)
    # Ids come from the salt and text stays text: neither time nor the fonts here matter.
    with mpl.rc_context({"svg.hashsalt": "sgq-hw", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.scatter(*place(trials), s=14, color="0.6", label="trials")
        axes.plot(*place(pareto_front(trials)), "o-", color="tab:blue", label="Pareto front")
        axes.axhline(
            goal.max_drop, color="tab:red", linestyle="--", label=f"limit {goal.max_drop:g}"
        )
        if best is not None:
            axes.plot(*place([best]), "*", markersize=16, color="tab:orange", label="winner")
        axes.invert_yaxis()
        axes.set_xlabel("memory, kbit")
        axes.set_ylabel("loss of validation accuracy, points")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend()
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
