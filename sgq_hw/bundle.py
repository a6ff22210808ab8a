"""The bundle: a quantised network in integers, with the graph it was made for.

One `.npz` without pickles: a JSON manifest (`manifest`, UTF-8 bytes), integer arrays `layerI/...`
for the network and `workload/...` for the graph. `docs/bundle.md` documents every field. The
bundle fixes the arithmetic; what reads it (golden model, lowering) never rounds differently.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError
from sgq_hw.fields import Fields, compact_integers, utf8_array
from sgq_hw.formats import Key
from sgq_hw.layers import Step
from sgq_hw.manifest import BUNDLE_FORMAT, BUNDLE_VERSION, Manifest, parse_manifest
from sgq_hw.npz import read_npz, write_npz

IntArray = npt.NDArray[np.int64]

WORKLOAD_INTEGERS = (
    "indptr", "indices", "edge_codes", "x_indptr", "x_indices", "x_codes", "buckets",
    "graph_of_node", "labels",
)  # fmt: skip
MASKS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Network:
    """A quantised network: manifest and integer parameters.

    Attributes:
        manifest: Formats, epilogues and structure.
        weights: `(layer, stage)` to int64 [inputs, outputs], for the stages that multiply.
        biases: `(layer, stage)` to int64 [channels], for the stages that have one.
        multipliers: `(layer, stage)` to int64 [channels], for `channel` multipliers.
        exponentials: `(layer, stage)` to the unsigned table of an attention, int64 [entries].
        activations: `(layer, stage)` to the table of an activation, int64 [2**(bits - 1)].
    """

    manifest: Manifest
    weights: dict[Key, IntArray]
    biases: dict[Key, IntArray] = field(default_factory=dict)
    multipliers: dict[Key, IntArray] = field(default_factory=dict)
    exponentials: dict[Key, IntArray] = field(default_factory=dict)
    activations: dict[Key, IntArray] = field(default_factory=dict)

    def arrays(self) -> dict[str, dict[Key, IntArray]]:
        """Return all parameters by the name under which a bundle files them."""
        return {
            "weight": self.weights,
            "bias": self.biases,
            "multiplier": self.multipliers,
            "exponential": self.exponentials,
            "activation": self.activations,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """A graph and its input features as integers, bound to one network.

    Attributes:
        name: The graph's name.
        indptr, indices: CSR rows of the aggregation matrix (self loops included where the network
            has them), int64, columns sorted.
        edge_codes: int64 [edges] for `edge` normalisation, else None.
        x_indptr, x_indices: CSR rows of the input, int64.
        x_codes: int64 [non-zeros], or None where every stored input is code 1.
        node_tables: Table name to int64 [nodes].
        buckets: int64 [nodes], the degree bucket of each node, where the network has windows.
        graph_of_node: int64 [nodes], ascending, for the networks that classify whole graphs.
        labels: int64 [nodes] or [graphs], -1 where unknown, or None.
        masks: `train`, `val`, `test` to bool [nodes] or [graphs], where known.
    """

    name: str
    indptr: IntArray
    indices: IntArray
    edge_codes: IntArray | None
    x_indptr: IntArray
    x_indices: IntArray
    x_codes: IntArray | None
    node_tables: dict[str, IntArray]
    buckets: IntArray | None = None
    graph_of_node: IntArray | None = None
    labels: IntArray | None = None
    masks: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.indptr) - 1

    @property
    def num_results(self) -> int:
        """Rows of the network's result: graphs where whole graphs are classified, else nodes."""
        if self.graph_of_node is None:
            return self.num_nodes
        return int(self.graph_of_node[-1]) + 1

    @property
    def num_edges(self) -> int:
        """Number of stored entries of the aggregation matrix."""
        return len(self.indices)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A network and the graph it was quantised on."""

    network: Network
    workload: Workload


def save_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle; equal bundles give equal bytes."""
    network, workload = bundle.network, bundle.workload
    encoded = msgspec.json.format(msgspec.json.encode(network.manifest), indent=1)
    arrays: dict[str, npt.NDArray[Any]] = {"manifest": np.frombuffer(encoded, np.uint8)}
    for name, tensors in network.arrays().items():
        for (index, stage), values in sorted(tensors.items()):
            arrays[f"layer{index}/{stage}/{name}"] = compact_integers(values)
    arrays["workload/name"] = utf8_array(workload.name)
    for key in WORKLOAD_INTEGERS:
        value = getattr(workload, key)
        if value is not None:
            arrays[f"workload/{key}"] = compact_integers(value)
    for name, values in sorted(workload.node_tables.items()):
        arrays[f"workload/table/{name}"] = compact_integers(values)
    for name, mask in sorted(workload.masks.items()):
        arrays[f"workload/mask/{name}"] = mask
    write_npz(path, arrays)


def _read_manifest(fields: Fields) -> Manifest:
    raw = fields.array("manifest", "u", (None,)).astype(np.uint8).tobytes()
    try:
        head = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fields.fail("manifest", f"not JSON: {error}")
    if not isinstance(head, dict) or head.get("format") != BUNDLE_FORMAT:
        fields.fail("manifest.format", f"not a quantised bundle ({BUNDLE_FORMAT})")
    if head.get("version") != BUNDLE_VERSION:
        fields.fail(
            "manifest.version", f"{head.get('version')!r}; this program reads {BUNDLE_VERSION}"
        )
    try:
        return parse_manifest(head)
    except InputError as error:
        fields.fail("manifest", str(error))


def _read_csr(fields: Fields, prefix: str, columns: int | None) -> tuple[IntArray, IntArray]:
    """Read the rows of a matrix; None: it is square."""
    rows = len(fields.array(f"{prefix}indptr", "iu", (None,))) - 1
    if rows < 1:
        fields.fail(f"{prefix}indptr", "a matrix without rows")
    width = rows if columns is None else columns
    return fields.csr(f"{prefix}indptr", f"{prefix}indices", rows, width)


def _read_workload(fields: Fields, manifest: Manifest) -> Workload:
    indptr, indices = _read_csr(fields, "workload/", None)
    nodes = len(indptr) - 1
    if manifest.self_loops and np.any(np.diff(indptr) == 0):
        fields.fail("workload/indptr", "a row is empty, although the network has self loops")
    x_indptr, x_indices = _read_csr(fields, "workload/x_", manifest.input.channels)
    if len(x_indptr) != nodes + 1:
        fields.fail("workload/x_indptr", f"{len(x_indptr) - 1} rows for {nodes} nodes")
    spec = manifest.input
    # A stored input of one bit is a one: its record holds no value.
    low = -spec.magnitude if spec.signed else int(spec.bits == 1)
    high = spec.magnitude - 1 if spec.signed else spec.magnitude
    x_codes = labels = edge_codes = buckets = graph_of_node = None
    if "workload/x_codes" in fields:
        x_codes = fields.integers("workload/x_codes", (len(x_indices),), low, high)
    if manifest.edge is not None:
        edge_codes = fields.integers(
            "workload/edge_codes", (len(indices),), 0, manifest.edge.magnitude
        )
    if manifest.degree_splits:
        highest = len(manifest.degree_splits)
        buckets = fields.integers("workload/buckets", (nodes,), 0, highest)
    results = nodes
    if manifest.reads_graphs:
        graph_of_node = fields.integers("workload/graph_of_node", (nodes,), 0)
        steps = np.diff(graph_of_node, prepend=-1)
        if np.any((steps != 0) & (steps != 1)) or graph_of_node[0] != 0:
            fields.fail("workload/graph_of_node", "not graphs in order, each with a node")
        results = int(graph_of_node[-1]) + 1
    if "workload/labels" in fields:
        labels = fields.integers("workload/labels", (results,), -1, manifest.outputs - 1)
    masks = {}
    for name in MASKS:
        if f"workload/mask/{name}" in fields:
            masks[name] = fields.booleans(f"workload/mask/{name}", results)
    return Workload(
        name=fields.text("workload/name"),
        indptr=indptr,
        indices=indices,
        edge_codes=edge_codes,
        x_indptr=x_indptr,
        x_indices=x_indices,
        x_codes=x_codes,
        node_tables={
            table.name: fields.integers(
                f"workload/table/{table.name}", (nodes,), 0, (1 << table.bits) - 1
            )
            for table in manifest.node_tables
        },
        buckets=buckets,
        graph_of_node=graph_of_node,
        labels=labels,
        masks=masks,
    )


def _array_limits(step: Step) -> dict[str, tuple[tuple[int | None, ...], int, int]]:
    """Return name to (shape, lowest, highest) of the parameters that a stage has."""
    found: dict[str, tuple[tuple[int | None, ...], int, int]] = {}
    epilogue = step.epilogue
    if step.weight is not None:
        limit = step.weight.magnitude
        found["weight"] = ((step.inputs, step.channels), -limit, limit - 1)
    if epilogue.bias_bits:
        limit = 1 << (epilogue.bias_bits - 1)
        found["bias"] = ((step.channels,), -limit, limit - 1)
    if epilogue.multiplier.kind == "channel":
        found["multiplier"] = ((step.channels,), 0, (1 << epilogue.multiplier.bits) - 1)
    if step.attention is not None:
        length = step.attention.table_length
        found["exponential"] = ((length,), 0, (1 << step.attention.bits) - 1)
    if step.activation == "elu":
        limit = 1 << (epilogue.output.bits - 1)
        found["activation"] = ((limit,), -limit, 0)
    return found


def _read_network(fields: Fields, manifest: Manifest) -> Network:
    network = Network(manifest, {})
    arrays = network.arrays()
    for step in manifest.steps():
        index, stage = step.key
        for name, (shape, low, high) in _array_limits(step).items():
            values = fields.integers(f"layer{index}/{stage}/{name}", shape, low, high)
            arrays[name][step.key] = values
    return network


def _known_arrays(manifest: Manifest) -> list[str]:
    """Return the names of all arrays that a bundle with this manifest may hold."""
    workload = ["name", *WORKLOAD_INTEGERS]
    workload += [f"table/{table.name}" for table in manifest.node_tables]
    workload += [f"mask/{name}" for name in MASKS]
    names = ["manifest", *(f"workload/{name}" for name in workload)]
    for step in manifest.steps():
        names += [f"layer{step.key[0]}/{step.key[1]}/{name}" for name in _array_limits(step)]
    unused = set()
    if manifest.edge is None:
        unused.add("workload/edge_codes")
    if not manifest.degree_splits:
        unused.add("workload/buckets")
    if not manifest.reads_graphs:
        unused.add("workload/graph_of_node")
    return [name for name in names if name not in unused]


def load_bundle(path: Path) -> Bundle:
    """Read and validate a bundle.

    Raises:
        InputError: one line naming the file, the field and the reason.
    """
    fields = Fields(read_npz(path), str(path))
    manifest = _read_manifest(fields)
    fields.only(_known_arrays(manifest))
    return Bundle(_read_network(fields, manifest), _read_workload(fields, manifest))
