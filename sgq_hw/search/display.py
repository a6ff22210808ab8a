"""Live progress of a search."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sgq_hw.search.trial import Goal, Trial


@contextmanager
def live_search(total: int, goal: Goal) -> Iterator[Callable[[Trial], None]]:
    """Yield a function that shows one more trial and the best so far on stderr.

    Nothing is shown unless stderr is a terminal.
    """
    from rich import progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (
        progress.TextColumn("search"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(), progress.TextColumn("{task.fields[best]}"),
    )  # fmt: skip
    seen: list[Trial] = []
    with progress.Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("search", total=total, best="none good enough yet")

        def show(trial: Trial) -> None:
            seen.append(trial)
            bar.advance(task)
            best = goal.best(seen)
            if best is not None and best.outcome.measured is not None:
                measured = best.outcome.measured
                text = f"best: {measured.memory_bits:,} bits, val {measured.val:.2f} %"
                bar.update(task, best=text)

        yield show
