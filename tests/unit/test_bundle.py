"""The bundle file: what is saved comes back, equal bytes, and one-line refusals of bad files."""

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sgq_hw.bundle import Bundle, Network, Workload, load_bundle, save_bundle
from sgq_hw.errors import InputError
from tests.random_networks import gcn_layers, random_bundle

Arrays = dict[str, npt.NDArray[Any]]
Json = dict[str, Any]


def one_layer(seed: int = 0, **choices: Any) -> Bundle:
    """A network with a bias, a node table and edge codes: every array that a bundle can hold."""
    choices = {
        "nodes": 6, "features": 5, "classes": 3, "layers": 1, "graph": "random",
        "inputs": "signed", "normalisation": "edge", "self_loops": True, "bias": True,
        "multipliers": ["node"], **choices,
    }  # fmt: skip
    return random_bundle(np.random.default_rng(seed), **choices)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid file of two layers; the second one has channel multipliers."""
    bundle = one_layer(layers=2, hidden=4, associations=["A(XW)"])
    target = tmp_path_factory.mktemp("valid") / "bundle.npz"
    save_bundle(target, bundle)
    arrays, manifest = read(target)
    manifest["layers"][1]["combine"]["multiplier"] = {"kind": "channel", "bits": 4, "value": 1}
    arrays["layer1/combine/multiplier"] = np.array([1, 15, 0])
    write(target, arrays, manifest)
    load_bundle(target)
    return target.read_bytes()


@pytest.fixture
def path(tmp_path: Path, valid: bytes) -> Path:
    """The valid file, in a folder of its own."""
    target = tmp_path / "bundle.npz"
    target.write_bytes(valid)
    return target


def read(path: Path) -> tuple[Arrays, Json]:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(arrays["manifest"].tobytes())


def write(path: Path, arrays: Arrays, manifest: Json | None = None) -> None:
    """Write arrays (those that are None left out) and, where given, another manifest."""
    if manifest is not None:
        arrays = arrays | {"manifest": np.frombuffer(json.dumps(manifest).encode(), np.uint8)}
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(path, allow_pickle=True, **kept)


def refusal(path: Path) -> str:
    """Return what follows the file's name in the one line that a file is refused with."""
    with pytest.raises(InputError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def same(left: object, right: object) -> bool:
    """Whether two values of the bundle are equal, arrays in type and content."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("seed", range(25))
def test_every_field_comes_back(tmp_path: Path, seed: int) -> None:
    bundle = random_bundle(np.random.default_rng(seed))
    if seed % 5 == 0:
        bundle = replace(bundle, workload=replace(bundle.workload, labels=None, masks={}))
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    save_bundle(first, bundle)
    loaded = load_bundle(first)
    for part in ("network", "workload"):
        mine, theirs = getattr(bundle, part), getattr(loaded, part)
        for field in dataclass_fields(Network if part == "network" else Workload):
            assert same(getattr(mine, field.name), getattr(theirs, field.name)), field.name
    save_bundle(second, loaded)
    assert first.read_bytes() == second.read_bytes()


def test_saving_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "bundle.npz"
    target.write_bytes(b"something else")
    save_bundle(target, one_layer())
    assert load_bundle(target).workload.num_nodes == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle.npz"]


def test_files_that_are_no_bundles(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert refusal(path) == "no such file"
    for content in (b"", b"not an archive", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        assert "npz archive" in refusal(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert "npz archive" in refusal(path)
    np.savez(path, weights=np.zeros(3))
    assert refusal(path) == "manifest: missing"
    with zipfile.ZipFile(path, "w") as archive:  # an archive of something else
        archive.writestr("manifest", "text")
    assert refusal(path).startswith("manifest: ")
    directory = tmp_path / "folder.npz"
    directory.mkdir()
    assert refusal(directory) == "no such file"


ARRAYS = (
    "manifest", "layer0/combine/weight", "layer1/combine/weight", "layer0/aggregate/bias",
    "layer1/combine/bias", "layer1/combine/multiplier", "workload/name", "workload/indptr",
    "workload/indices", "workload/edge_codes", "workload/x_indptr", "workload/x_indices",
    "workload/table/table_0",
)  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array_is_needed(path: Path, name: str) -> None:
    arrays, _ = read(path)
    del arrays[name]
    write(path, arrays)
    assert refusal(path) == f"{name}: missing"


INTEGERS = (*ARRAYS[1:6], *ARRAYS[7:], "workload/x_codes", "workload/labels")
CHANGES: list[tuple[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]], str]] = [
    ("float", lambda a: a.astype(np.float64), "float64"),
    ("NaN", lambda a: np.full(a.shape, np.nan), "float64"),
    ("complex", lambda a: a.astype(np.complex64), "complex64"),
    ("boolean", lambda a: a.astype(np.bool_), "bool"),
    ("text", lambda a: a.astype("U3"), "<U3"),
    ("objects", lambda a: a.astype(object), "object"),
    ("one more axis", lambda a: a[None], "shape"),
    ("one more", lambda a: np.concatenate([a, a[:1]]), "shape|decreases|ends at"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_wrong_types_and_shapes(path: Path, change: Callable[[Any], Any], reason: str) -> None:
    arrays, _ = read(path)
    for name in INTEGERS:
        write(path, arrays | {name: change(arrays[name])})
        message = refusal(path)
        # A longer `indptr` is a graph of more nodes: then other arrays no longer fit it.
        # More columns than the rows hold are seen at the rows.
        graph = "|workload/.*" if name.endswith(("indptr", "indices")) else ""
        assert re.match(f"({name}{graph}): ", message)
        assert re.search(reason, message)


def limits(bundle: Bundle) -> dict[str, tuple[int, int]]:
    """The codes that each array may hold, from the formats."""
    manifest = bundle.network.manifest
    assert manifest.edge is not None
    found = {"workload/edge_codes": (0, 2**manifest.edge.bits - 1)}
    half = 2 ** (manifest.input.bits - 1)
    found["workload/x_codes"] = (-half, half - 1)
    for index, layer in enumerate(gcn_layers(manifest)):
        half = 2 ** (layer.weight.bits - 1)
        found[f"layer{index}/combine/weight"] = (-half, half - 1)
        for stage in ("combine", "aggregate"):
            half = 2 ** (getattr(layer, stage).bias_bits - 1)
            found[f"layer{index}/{stage}/bias"] = (-half, half - 1)
    found["layer1/combine/multiplier"] = (0, 15)
    for table in manifest.node_tables:
        found[f"workload/table/{table.name}"] = (0, 2**table.bits - 1)
    nodes = bundle.workload.num_nodes
    found["workload/labels"] = (-1, manifest.outputs - 1)
    found["workload/indices"] = (0, nodes - 1)
    found["workload/x_indices"] = (0, manifest.input.channels - 1)
    return found


def test_codes_out_of_range(path: Path) -> None:
    arrays, _ = read(path)
    checked = limits(load_bundle(path))
    assert len(checked) >= 12
    for name, (low, high) in checked.items():
        for value in (low - 1, high + 1):
            changed = arrays[name].astype(np.int64)
            changed.flat[-1] = value
            write(path, arrays | {name: changed})
            message = refusal(path)
            assert message.startswith(f"{name}: values ")
            assert message.endswith(f" are not all in {low}..{high}")
        if "indices" not in name:
            for value in (low, high):
                changed = arrays[name].astype(np.int64)
                changed.flat[-1] = value
                write(path, arrays | {name: changed})
                load_bundle(path)
        huge = np.full(arrays[name].shape, 2**64 - 1, np.uint64)
        write(path, arrays | {name: huge})
        assert refusal(path).startswith(f"{name}: ")


@pytest.mark.parametrize("prefix", ["workload/", "workload/x_"])
def test_graphs_that_are_no_csr(path: Path, prefix: str) -> None:
    arrays, _ = read(path)
    indptr, indices = arrays[f"{prefix}indptr"], arrays[f"{prefix}indices"]
    row = int(np.argmax(np.diff(indptr) > 1))
    first = int(indptr[row])
    swapped, repeated = indices.copy(), indices.copy()
    swapped[[first, first + 1]] = indices[[first + 1, first]]
    repeated[first + 1] = indices[first]
    for wrong in (swapped, repeated):
        write(path, arrays | {f"{prefix}indices": wrong})
        assert re.match(f"{prefix}indices: column.* in row {row}$", refusal(path))
    down, late = indptr.astype(np.int64), indptr.astype(np.int64)
    down[2] = down[-1] + 1
    late[0] = 1
    for wrong in (down, late, indptr[:1]):
        write(path, arrays | {f"{prefix}indptr": wrong})
        reason = "(decreases|does not start at 0|a matrix without rows|shape)"
        assert re.match(f"{prefix}indptr: {reason}", refusal(path))
    write(path, arrays | {f"{prefix}indices": indices[:-1]})
    assert refusal(path).startswith(f"{prefix}indptr: ends at")


def test_masks_and_labels(path: Path) -> None:
    arrays, _ = read(path)
    write(path, arrays | {"workload/mask/val": np.ones(5, np.bool_)})
    assert refusal(path).startswith("workload/mask/val: shape [5]")
    write(path, arrays | {"workload/mask/test": np.ones(6, np.int8)})
    assert refusal(path) == "workload/mask/test: wrong type int8"


def test_names_and_unknown_arrays(path: Path) -> None:
    arrays, _ = read(path)
    write(path, arrays | {"workload/name": np.frombuffer(b"a\x1b[31m", np.uint8)})
    assert refusal(path) == "workload/name: holds control characters"
    write(path, arrays | {"layer9/weight": np.zeros((1, 1), np.int8)})
    assert refusal(path) == "layer9/weight: unknown field"


def test_a_row_without_edges_contradicts_self_loops(path: Path) -> None:
    """The hardware's records have no place for it then."""
    arrays, manifest = read(path)
    assert manifest["self_loops"]
    indptr = np.array([0, 0, 1, 2, 3, 4, 5])
    changed = arrays | {
        "workload/indptr": indptr, "workload/indices": np.arange(1, 6),
        "workload/edge_codes": np.zeros(5, np.uint8),
    }  # fmt: skip
    write(path, changed)
    assert refusal(path).startswith("workload/indptr: ")
    write(path, changed, manifest | {"self_loops": False})
    assert load_bundle(path).workload.num_edges == 5


def test_binary_inputs_are_all_ones(tmp_path: Path) -> None:
    """A record of a one-bit input holds no value, so a stored zero could not be told from a one."""
    path = tmp_path / "binary.npz"
    bundle = one_layer(inputs="binary")
    save_bundle(path, bundle)
    arrays, _ = read(path)
    ones = np.ones(len(bundle.workload.x_indices), np.uint8)
    write(path, arrays | {"workload/x_codes": ones})
    load_bundle(path)
    ones[2] = 0
    write(path, arrays | {"workload/x_codes": ones})
    assert refusal(path).startswith("workload/x_codes: ")


def edit(manifest: Json, where: str, value: Any) -> Json:
    """Return a copy of a manifest with one field changed; `where` is a dotted path."""
    copy: Json = json.loads(json.dumps(manifest))
    target: Any = copy
    *parents, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return copy


MANIFESTS: list[tuple[str, Any, str]] = [
    ("format", "other", r"manifest\.format: "),
    ("format", ..., r"manifest\.format: "),
    ("version", 3, r"manifest\.version: 3; this program reads 2"),
    ("version", ..., r"manifest\.version: None"),
    ("version", "1", r"manifest\.version: '1'"),
    ("colour", "red", r"manifest: .*unknown field `colour`"),
    ("layers.0.colour", 1, r"manifest: .*unknown field `colour` - at `\$\.layers\[0\]`"),
    ("layers", [], "manifest: layers: empty"),
    ("layers", ..., "manifest: .*missing required field `layers`"),
    ("layers.0.kind", "cheb", r"manifest: layers\[0\]\.kind: layer 'cheb' is not supported.*gcn"),
    ("layers.1.kind", "x\ny", r"manifest: layers\[1\]\.kind: "),
    ("layers.0.association", "(AX)W", r"manifest: layers\[0\]\.association: "),
    ("layers.1.association", "AXW", r"manifest: .*association"),
    ("layers.0.in_channels", 4, r"manifest: layers\[0\]\.in_channels: 4 instead of 5"),
    ("layers.1.in_channels", 5, r"manifest: layers\[1\]\.in_channels: 5 instead of 4"),
    ("layers.0.out_channels", 0, r"manifest: .*out_channels"),
    ("layers.0.weight.bits", 17, r"manifest: .*weight\.bits"),
    ("layers.0.weight.bits", 1, r"manifest: layers\[0\]\.weight: "),
    ("layers.0.weight.signed", False, r"manifest: layers\[0\]\.weight: "),
    ("layers.0.weight.scale", 0, r"manifest: .*weight\.scale"),
    ("layers.0.weight.scale", -1.0, r"manifest: .*weight\.scale"),
    ("layers.0.weight.scale", "1", r"manifest: .*weight\.scale"),
    ("layers.1.aggregate.output", {"bits": 1, "signed": True, "scale": 1.0},
     r"manifest: layers\[1\]\.aggregate\.output\.bits"),
    ("layers.0.combine.shift", -1, r"manifest: .*combine\.shift"),
    ("layers.0.combine.shift", 49, r"manifest: .*combine\.shift"),
    ("layers.0.combine.bias_bits", 57, r"manifest: .*combine\.bias_bits"),
    ("layers.0.combine.multiplier.kind", "edge", r"manifest: .*multiplier\.kind"),
    ("layers.0.combine.multiplier.table", "other",
     r"manifest: layers\[0\]\.combine\.multiplier\.table: no table 'other'"),
    ("layers.0.combine.multiplier", {"kind": "layer", "bits": 3, "value": 8},
     r"manifest: layers\[0\]\.combine\.multiplier\.value"),
    ("layers.0.combine.multiplier.bits", 17, r"manifest: .*multiplier\.bits"),
    ("node_tables.0.bits", 17, r"manifest: .*node_tables\[0\]\.bits"),
    ("node_tables.0.rule", "other", r"manifest: .*node_tables\[0\]\.rule"),
    ("edge", None, "manifest: edge: "),
    ("edge.signed", True, r"manifest: edge\.signed: "),
    ("normalisation", "factored", "manifest: edge: "),
    ("normalisation", "other", "manifest: .*normalisation"),
    ("self_loops", 1, "manifest: .*self_loops"),
    ("input.bits", 0, r"manifest: .*input\.bits"),
    ("input.bits", 1, r"manifest: input\.bits: "),  # signed inputs need two
    ("input.channels", "5", r"manifest: .*input\.channels"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "value", "reason"), MANIFESTS, ids=[f"{m[0]}={m[1]}" for m in MANIFESTS]
)
def test_wrong_manifests(path: Path, where: str, value: Any, reason: str) -> None:
    arrays, manifest = read(path)
    write(path, arrays, edit(manifest, where, value))
    assert re.match(reason, refusal(path))


def test_tables_of_one_name_and_of_other_bits(path: Path) -> None:
    arrays, manifest = read(path)
    first = manifest["node_tables"][0]
    write(path, arrays, manifest | {"node_tables": [first, *manifest["node_tables"]]})
    assert refusal(path) == "manifest: node_tables: two tables have one name"
    other = edit(manifest, "node_tables.0.bits", first["bits"] % 16 + 1)
    write(path, arrays, other)
    assert re.match(r"manifest: layers\[.\]\..*\.multiplier\.bits: ", refusal(path))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"a": "\xff"}', b"[]", b"null", b"[" * 10**5]
)
def test_manifests_that_are_no_json_object(path: Path, content: bytes) -> None:
    arrays, _ = read(path)
    write(path, arrays | {"manifest": np.frombuffer(content, np.uint8)})
    assert refusal(path).startswith("manifest")
