"""Progress bars that stay silent when nobody watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(label: str, total: int, *, enabled: bool = True) -> Iterator[Callable[[], None]]:
    """Yield a function that advances a bar on stderr by one; no bar unless it is a terminal."""
    if not enabled:
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 (heavy, and needed on a terminal only)
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def spinner(label: str) -> Iterator[None]:
    """Show on stderr that work of unknown length goes on; nothing unless it is a terminal."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(label):
        yield
