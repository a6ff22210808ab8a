"""Where trials run: processes of this machine, or the workers of a Dask cluster."""

import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from os import _exit
from typing import Any, Protocol

from sgq_hw.errors import InputError, ToolError
from sgq_hw.search.space import Point
from sgq_hw.search.trial import Outcome

Evaluate = Callable[[Point], Outcome]
"""Measures a point; it is pickled and called in another process."""

CONNECT_SECONDS = 10


class Pending(Protocol):
    """An evaluation under way."""

    def result(self) -> Outcome:
        """Return its outcome, or raise what the evaluation raised."""
        ...


class Workers(Protocol):
    """Processes that evaluate points."""

    def submit(self, evaluate: Evaluate, point: Point) -> Pending:
        """Start an evaluation on any worker."""
        ...

    def completed(self, pending: Collection[Any]) -> Iterator[Any]:
        """Yield evaluations as they finish, each once.

        Raises:
            ToolError: the workers are gone.
        """
        ...


def require_extra(*modules: str) -> None:
    """Refuse with one line where a module of the optional dependencies is missing.

    Raises:
        ToolError: naming the module and how to install it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ToolError(f"{module} is not installed: pip install 'sgq-hw[search]'")


def _prepare_worker() -> None:
    """Let a worker end with its parent only, and use one thread of PyTorch."""
    import torch  # noqa: PLC0415 (slow to import, and only workers need it)

    torch.set_num_threads(1)
    # An interrupt reaches the whole process group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        # A killed parent cannot end its pool, whose workers would wait for work for ever.
        parent.join()
        _exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _LocalWorkers:
    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, evaluate: Evaluate, point: Point) -> Future[Outcome]:
        return self._pool.submit(evaluate, point)

    def completed(self, pending: Collection[Any]) -> Iterator[Any]:
        for future in as_completed(pending):
            if isinstance(future.exception(), BrokenProcessPool):
                raise ToolError("a worker process died; the same command goes on from here")
            yield future


@contextmanager
def local_workers(jobs: int) -> Iterator[Workers]:
    """Start `jobs` processes; on leaving, what was not started is dropped."""
    # A forked PyTorch may hang on locks of threads that are not there any more.
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_prepare_worker
    )
    try:
        yield _LocalWorkers(pool)
    finally:
        pool.shutdown(cancel_futures=True)


class _DaskWorkers:
    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, evaluate: Evaluate, point: Point) -> Any:
        # pure=False: every submission is its own task. The scheduler gives the task of a lost
        # worker to another one, and a future has one result however often its task ran.
        return self._client.submit(evaluate, point, pure=False)

    def completed(self, pending: Collection[Any]) -> Iterator[Any]:
        from distributed import KilledWorker, as_completed  # noqa: PLC0415

        # Without its loop given, it asks for a default client, which this one is not.
        finished = as_completed(  # type: ignore[no-untyped-call]
            list(pending), loop=self._client.loop
        )
        for future in finished:
            if isinstance(future.exception(), KilledWorker):
                raise ToolError("every worker that took a trial died; see the workers' logs")
            yield future


@contextmanager
def dask_workers(address: str) -> Iterator[Workers]:
    """Connect to a Dask scheduler, such as `tcp://host:8786`.

    Raises:
        InputError: nothing answers there.
        ToolError: Dask is not installed.
    """
    require_extra("distributed")
    from distributed import Client  # noqa: PLC0415

    try:
        client = Client(  # type: ignore[no-untyped-call]
            address, timeout=CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise InputError(f"--dask: {address}: no Dask scheduler answers there") from error
    with client:
        yield _DaskWorkers(client)
