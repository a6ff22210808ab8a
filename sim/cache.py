"""A folder cache that several processes may use at once."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sgq_hw.errors import ToolError

CACHE_VARIABLE = "SGQ_HW_CACHE"


def cache_root() -> Path:
    """Return the folder of all cached simulations.

    It is `sim` in $SGQ_HW_CACHE, or else in `sgq-hw` in $XDG_CACHE_HOME or ~/.cache.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).absolute() / "sim"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgq-hw" / "sim"


def cache_key(content: dict[str, Any]) -> str:
    """Return the name of something that depends on `content`, JSON values, and nothing else."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_hash(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def cached_folder(name: str, fill: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the folder `name` of the cache, made by `fill` unless it is there.

    The folder appears under its name by one rename when `fill` has returned, so that it is whole
    or absent. While one process fills it, others that want it wait; what a killed process left
    behind is removed by the next.

    Args:
        name: The folder's name.
        fill: Called with an empty temporary folder. If it raises, nothing is kept.

    Returns:
        The folder, and whether it was there.

    Raises:
        ToolError: the cache cannot be written.
    """
    folder = cache_root() / name
    if folder.is_dir():
        return folder, True
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f"{name}.lock"):
            if folder.is_dir():
                return folder, True
            for left in folder.parent.glob(f"{name}.*.tmp"):
                shutil.rmtree(left, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{name}.", suffix=".tmp"))
            try:
                fill(temporary)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ToolError(f"{folder.parent}: cannot be used as cache: {error}") from error
    return folder, False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The lock file stays: removing it would let two processes hold locks on two files of one name.
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
