"""Reading and writing `.npz` archives of plain numeric arrays, never pickles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError
from sgq_hw.files import atomic_path


def write_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Replace `path` by a compressed `.npz` whose bytes depend only on `arrays`."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **dict(arrays))


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a `.npz` of plain numeric arrays, never unpickling.

    Raises:
        InputError: missing file, not a `.npz`, or an array that would need pickle.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {}
            for name in archive.files:
                try:
                    arrays[name] = archive[name]
                except ValueError as error:
                    raise InputError(
                        f"{path}: {name}: object arrays (pickles) are not read"
                    ) from error
                if not isinstance(arrays[name], np.ndarray):  # another file inside the archive
                    raise InputError(f"{path}: {name}: not a NumPy array")
            return arrays
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each raise their own kinds here
        raise InputError(f"{path}: not a readable .npz archive") from error
