"""Raw Planetoid folders (Yang, Cohen & Salakhutdinov 2016), read without running their pickles.

A folder holds `ind.NAME.allx`, `.tx` (features, SciPy CSR), `.ally`, `.ty`, `.y` (one-hot labels),
`.graph` (dictionary of neighbour lists) and `.test.index` (text). `.x` repeats the first rows of
`.allx` and is not needed. All but the last are pickles of Python 2 or 3.
"""

import pickle
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError
from sgq_hw.fields import MAX_COUNT, Fields, IntArray

VALIDATION_NODES: Final = 500  # those that follow the training nodes, in every Planetoid loader
_PART = re.compile(r"ind\.(?P<name>.+)\.(x|y|tx|ty|allx|ally|graph|test\.index)")


# Stand-ins take the place of every class that a pickle may name: they keep the plain data that a
# NumPy or SciPy constructor would have received, so a hostile file reaches no library code.
class _Dtype:
    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"b1|[iu][1248]|f[48]", code):
            raise pickle.UnpicklingError(f"arrays of type {code}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    def __init__(self, *_: object) -> None:
        self.array: npt.NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        content = data.encode("latin-1") if isinstance(data, str) else data
        flat = np.frombuffer(content, dtype=dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


class _Csr:
    def __init__(self, *_: object) -> None:
        self.parts: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.parts = dict(state)


class _Neighbours(defaultdict[int, list[int]]):
    def __init__(self, *_: object) -> None:
        super().__init__(list)


def _from_buffer(data: bytes, dtype: _Dtype, shape: object, order: str, *_: object) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _old_style_instance(kind: type, *_: object) -> object:
    return kind()


def _latin1(text: str, *_: object) -> bytes:
    return text.encode("latin-1")


_ALLOWED: Final[dict[tuple[str, str], object]] = {
    ("__builtin__", "list"): list,
    ("__builtin__", "object"): object,
    ("_codecs", "encode"): _latin1,
    ("builtins", "list"): list,
    ("builtins", "object"): object,
    ("collections", "defaultdict"): _Neighbours,
    ("copy_reg", "_reconstructor"): _old_style_instance,
    ("copyreg", "_reconstructor"): _old_style_instance,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("scipy.sparse._csr", "csr_matrix"): _Csr,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _ALLOWED[module, name]


def is_planetoid(path: Path) -> bool:
    """Whether `path` means a Planetoid set: a folder, or one of its `ind.NAME.*` files."""
    return path.is_dir() or _PART.fullmatch(path.name) is not None


def read_planetoid(path: Path, *, allow_pickle: bool) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """Read a raw Planetoid set into arrays of the documented `.npz` form, still unchecked there.

    Edges are made symmetric; duplicates and self loops are dropped, as other loaders do. Nodes in
    gaps of the test index (Citeseer) get no features and no label.

    Args:
        path: a folder with one set, or one `ind.NAME.*` file of the wanted set.
        allow_pickle: must be true, since the files are pickles.

    Returns:
        The name of the set and its arrays.

    Raises:
        InputError: pickles are not allowed, a file is missing or holds something else.
    """
    folder, name = _locate(path)
    if not allow_pickle:
        raise InputError(
            f"{folder}: ind.{name}.graph: pickled; give --allow-pickle if you trust this folder"
        )
    allx, tx = (_features(folder / f"ind.{name}.{part}") for part in ("allx", "tx"))
    train_count = _one_hot(folder / f"ind.{name}.y").size
    ally, ty = (_one_hot(folder / f"ind.{name}.{part}") for part in ("ally", "ty"))
    test_nodes = _test_index(folder / f"ind.{name}.test.index", ally.size)
    edges = _edges(folder / f"ind.{name}.graph")
    if not allx.rows == ally.size >= train_count:
        raise InputError(f"{folder}: ind.{name}.ally: {ally.size} rows, allx has {allx.rows}")
    if not tx.rows == ty.size == test_nodes.size:
        raise InputError(f"{folder}: ind.{name}.test.index: {test_nodes.size} nodes, tx {tx.rows}")
    if allx.columns != tx.columns:
        raise InputError(f"{folder}: ind.{name}.tx: {tx.columns} columns, allx {allx.columns}")

    n = 1 + max(int(test_nodes.max(initial=ally.size - 1)), int(edges.max(initial=-1)))
    y = np.full(n, -1, dtype=np.int64)
    y[: ally.size] = ally
    y[test_nodes] = ty
    rows = np.concatenate([allx.row_of, test_nodes[tx.row_of]])
    columns = np.concatenate([allx.indices, tx.indices])
    order = np.lexsort((columns, rows))
    edges = edges[:, edges[0] != edges[1]]
    adjacency = np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)
    node = np.arange(n)
    val_end = min(train_count + VALIDATION_NODES, ally.size)
    return name, {
        "x_shape": np.array([n, allx.columns]),
        "indptr": np.searchsorted(adjacency[0], np.arange(n + 1)),
        "indices": adjacency[1],
        "x_indptr": np.searchsorted(rows[order], np.arange(n + 1)),
        "x_indices": columns[order],
        "x_data": np.concatenate([allx.values, tx.values])[order],
        "y": y,
        "train_mask": node < train_count,
        "val_mask": (node >= train_count) & (node < val_end),
        "test_mask": np.isin(node, test_nodes),
    }


def _locate(path: Path) -> tuple[Path, str]:
    """Return the folder and the NAME of the one set that `path` means."""
    if not path.is_dir():
        match = _PART.fullmatch(path.name)
        return path.parent, match["name"] if match else ""
    names = sorted(graph.name[4:-6] for graph in path.glob("ind.?*.graph"))
    if not names:
        raise InputError(f"{path}: ind.NAME.graph: missing, so this is no Planetoid folder")
    if len(names) > 1:
        raise InputError(f"{path}: holds {', '.join(names)}; give {path / f'ind.{names[0]}.graph'}")
    return path, names[0]


def _unpickle(path: Path) -> object:
    """Return the content of a pickle that needs nothing but what `_ALLOWED` lists."""
    try:
        with path.open("rb") as stream:
            return _RestrictedUnpickler(stream, encoding="latin-1").load()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: pickle: not plain arrays and lists: {reason}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f"{path}: pickle: damaged ({type(error).__name__})") from error


class _Features:
    """A CSR matrix out of a pickle: row_of, indices, values [nnz]; columns may be unsorted."""

    def __init__(self, path: Path, parts: dict[str, Any]) -> None:
        stored = {key: item.array for key, item in parts.items() if isinstance(item, _Array)}
        fields = Fields(stored, str(path))
        shape = parts.get("_shape")
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(map(_is_count, shape)):
            fields.fail("shape", "missing or not two counts")
        self.rows, self.columns = shape
        indptr, self.indices = fields.csr(
            "indptr", "indices", self.rows, self.columns, ordered=False
        )
        self.values = fields.reals("data", (self.indices.size,))
        self.row_of = np.repeat(np.arange(self.rows), np.diff(indptr))


def _features(path: Path) -> _Features:
    content = _unpickle(path)
    if not isinstance(content, _Csr):
        raise InputError(f"{path}: pickle: not a SciPy CSR matrix")
    return _Features(path, content.parts)


def _one_hot(path: Path) -> IntArray:
    """Return int64 [rows]: the class of each row of a one-hot matrix, -1 for a row of zeros."""
    content = _unpickle(path)
    if not isinstance(content, _Array):
        raise InputError(f"{path}: pickle: not a NumPy array")
    fields = Fields({"labels": content.array}, str(path))
    matrix = fields.reals("labels", (None, None))
    ones = matrix == 1
    if matrix.shape[1] == 0 or np.any(matrix[~ones] != 0) or np.any(ones.sum(axis=1) > 1):
        fields.fail("labels", "not one-hot")
    return np.where(ones.any(axis=1), ones.argmax(axis=1), -1).astype(np.int64)


def _test_index(path: Path, first: int) -> IntArray:
    """Return the test nodes in file order; they follow the `first` other nodes."""
    try:
        words = path.read_text(encoding="ascii").split()
        nodes = [int(word) for word in words]
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: test.index: not a list of node numbers") from error
    if len(set(nodes)) < len(nodes) or not all(first <= node < MAX_COUNT for node in nodes):
        raise InputError(f"{path}: test.index: repeats a node or holds one below {first}")
    return np.array(nodes, dtype=np.int64)


def _edges(path: Path) -> IntArray:
    """Return int64 [2, e]: every (node, neighbour) of the dictionary of lists."""
    content = _unpickle(path)
    if not isinstance(content, dict) or not all(map(_is_neighbourhood, content.items())):
        raise InputError(f"{path}: pickle: not a dictionary of lists of node numbers")
    pairs: Iterator[tuple[int, int]] = (
        (node, other) for node, others in content.items() for other in others
    )
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T


def _is_neighbourhood(item: tuple[object, object]) -> bool:
    node, others = item
    return _is_count(node) and isinstance(others, list) and all(map(_is_count, others))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < MAX_COUNT
