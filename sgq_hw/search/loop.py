"""The search itself: batches are proposed, measured by workers and recorded."""

from collections.abc import Callable

from sgq_hw.search.executors import Evaluate, Workers
from sgq_hw.search.journal import Journal
from sgq_hw.search.strategy import Strategy
from sgq_hw.search.trial import Trial


def run_trials(
    strategy: Strategy,
    evaluate: Evaluate,
    workers: Workers,
    journal: Journal,
    trials: int,
    watch: Callable[[Trial], None],
) -> list[Trial]:
    """Run trials until there are `trials` of them, or no point is left.

    What the journal holds is not measured again. The trials depend on the strategy alone, not on
    the workers nor on how often the search was interrupted.

    Args:
        strategy: Proposes points.
        evaluate: Measures one; whatever it raises ends the search.
        workers: Where it is called.
        journal: Open, with its header.
        trials: How many, those in the journal included.
        watch: Called for each trial, recorded ones too.

    Returns:
        The trials by ascending id.

    Raises:
        InputError: the journal's trials are not those that are proposed.
        ToolError: the workers are gone.
    """
    done: list[Trial] = []
    while len(done) < trials:
        first = len(done)
        points = strategy.propose(done)[: trials - first]
        if not points:
            break
        pending = {}
        for trial_id, point in enumerate(points, start=first):
            if journal.recorded(trial_id, point):
                watch(journal.trials[trial_id])
            else:
                pending[workers.submit(evaluate, point)] = trial_id
        for future in workers.completed(pending):
            trial_id = pending[future]
            trial = Trial(trial_id, points[trial_id - first], future.result())
            journal.append(trial)
            watch(trial)
        done += [journal.trials[first + position] for position in range(len(points))]
    return done
