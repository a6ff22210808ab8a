"""The bundle: a quantised network in integers, with the graph it was made for.

One `.npz` without pickles: a JSON manifest (`manifest`, UTF-8 bytes), integer arrays `layerI/...`
for the network and `workload/...` for the graph. `docs/bundle.md` documents every field. The
bundle fixes the arithmetic; what reads it (golden model, lowering) never rounds differently.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError
from sgq_hw.fields import Fields, compact_integers, utf8_array
from sgq_hw.npz import read_npz, write_npz

IntArray = npt.NDArray[np.int64]

BUNDLE_FORMAT = "sgq-hw-bundle"
BUNDLE_VERSION = 1
LAYER_KINDS = ("gcn",)
STAGES = ("combine", "aggregate")
MASKS = ("train", "val", "test")
MAX_MULTIPLIER_BITS = 16
MAX_BIAS_BITS = 56
MAX_SHIFT = 48

Bits = Annotated[int, msgspec.Meta(ge=1, le=16)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Scale = Annotated[float, msgspec.Meta(gt=0)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the manifest's records: immutable, unknown fields refused."""


class Format(Record, frozen=True):
    """A fixed-point format: real value = code * scale; code 0 is real 0."""

    bits: Bits
    signed: bool
    scale: Scale

    @property
    def magnitude(self) -> int:
        """Largest absolute value of a code."""
        return 1 << (self.bits - 1) if self.signed else (1 << self.bits) - 1


class Multiplier(Record, frozen=True):
    """The unsigned factor M of an epilogue: per layer, per output channel, or per node.

    `bits` is M's width. A `layer` multiplier has its `value` here; a `channel` multiplier is the
    array `layerI/STAGE/multiplier`; a `node` multiplier is the node table named `table`.
    """

    kind: Literal["layer", "channel", "node"]
    bits: Annotated[int, msgspec.Meta(ge=1, le=MAX_MULTIPLIER_BITS)] = 1
    value: Annotated[int, msgspec.Meta(ge=0, lt=1 << MAX_MULTIPLIER_BITS)] = 1
    table: str = ""


class Epilogue(Record, frozen=True):
    """What ends a pass: `sat(round_shift(acc * M + bias, shift))` in format `output`.

    `bias_bits` is the width of the bias codes (array `layerI/STAGE/bias`), 0 without a bias.
    """

    multiplier: Multiplier
    shift: Annotated[int, msgspec.Meta(ge=0, le=MAX_SHIFT)]
    bias_bits: Annotated[int, msgspec.Meta(ge=0, le=MAX_BIAS_BITS)]
    output: Format


class Layer(Record, frozen=True):
    """One graph convolution: a `combine` stage (times weights) and an `aggregate` stage."""

    kind: str
    association: Literal["A(XW)", "(AX)W"]
    in_channels: Positive
    out_channels: Positive
    weight: Format
    combine: Epilogue
    aggregate: Epilogue

    @property
    def stages(self) -> tuple[str, str]:
        """The two stages in the order in which they run."""
        return STAGES if self.association == "A(XW)" else (STAGES[1], STAGES[0])

    def epilogue(self, stage: str) -> Epilogue:
        """Return the epilogue of stage `combine` or `aggregate`."""
        return self.combine if stage == "combine" else self.aggregate

    def channels(self, stage: str) -> int:
        """Return the number of channels that a stage produces."""
        first = stage == self.stages[0]
        return self.in_channels if first and stage == "aggregate" else self.out_channels


class NodeTable(Record, frozen=True):
    """A per-node unsigned factor and the rule that computes it for any graph.

    `degree` is `d ** -0.5` with d the row length of the aggregation matrix; `input` is the real
    value of one input code step of the node's row (row normalisation and row range); `input-degree`
    is their product. Codes are `floor(real / scale + 0.5)`, saturated to `bits`.
    """

    name: str
    rule: Literal["degree", "input", "input-degree"]
    bits: Annotated[int, msgspec.Meta(ge=1, le=MAX_MULTIPLIER_BITS)]
    scale: Scale


class InputSpec(Record, frozen=True):
    """The network's input: one code per feature, real value `code * row factor of the node`.

    Codes are relative to the largest magnitude of their row, so that a binary row is exactly the
    codes 0 and 1. With `row_normalised` the row factor also divides by the row's sum.
    """

    channels: Positive
    bits: Bits
    signed: bool
    row_normalised: bool

    @property
    def magnitude(self) -> int:
        """Largest absolute value of a code."""
        return 1 << (self.bits - 1) if self.signed else (1 << self.bits) - 1


class Manifest(Record, frozen=True):
    """Everything about the network that is not a large array."""

    format: str
    version: int
    normalisation: Literal["factored", "edge"]
    self_loops: bool
    input: InputSpec
    edge: Format | None
    node_tables: tuple[NodeTable, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """A quantised network: manifest and integer parameters.

    Attributes:
        manifest: Formats, epilogues and structure.
        weights: Per layer int64 [in_channels, out_channels].
        biases: `(layer, stage)` to int64 [channels], for the stages that have one.
        multipliers: `(layer, stage)` to int64 [channels], for `channel` multipliers.
    """

    manifest: Manifest
    weights: tuple[IntArray, ...]
    biases: dict[tuple[int, str], IntArray] = field(default_factory=dict)
    multipliers: dict[tuple[int, str], IntArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
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
        labels: int64 [nodes], -1 where unknown, or None.
        masks: `train`, `val`, `test` to bool [nodes], where known.
    """

    name: str
    indptr: IntArray
    indices: IntArray
    edge_codes: IntArray | None
    x_indptr: IntArray
    x_indices: IntArray
    x_codes: IntArray | None
    node_tables: dict[str, IntArray]
    labels: IntArray | None = None
    masks: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.indptr) - 1

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
    for index, weight in enumerate(network.weights):
        arrays[f"layer{index}/weight"] = compact_integers(weight)
    for (index, stage), values in sorted(network.biases.items()):
        arrays[f"layer{index}/{stage}/bias"] = compact_integers(values)
    for (index, stage), values in sorted(network.multipliers.items()):
        arrays[f"layer{index}/{stage}/multiplier"] = compact_integers(values)
    arrays["workload/name"] = utf8_array(workload.name)
    for key in ("indptr", "indices", "edge_codes", "x_indptr", "x_indices", "x_codes", "labels"):
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
        manifest = msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        fields.fail("manifest", str(error))
    try:
        check_manifest(manifest)
    except InputError as error:
        fields.fail("manifest", str(error))
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Refuse manifests that are well formed but contradict themselves.

    Raises:
        InputError: naming the field.
    """
    tables = {table.name: table for table in manifest.node_tables}
    if len(tables) != len(manifest.node_tables):
        raise InputError("node_tables: two tables have one name")
    if (manifest.edge is None) != (manifest.normalisation == "factored"):
        raise InputError(f"edge: does not fit normalisation '{manifest.normalisation}'")
    if manifest.edge is not None and manifest.edge.signed:
        raise InputError("edge.signed: edge values are unsigned")
    if manifest.input.signed and manifest.input.bits < 2:
        raise InputError("input.bits: signed tensors have 2 to 16 bits")
    if not manifest.layers:
        raise InputError("layers: empty")
    width = manifest.input.channels
    for index, layer in enumerate(manifest.layers):
        if layer.in_channels != width:
            raise InputError(f"layers[{index}].in_channels: {layer.in_channels} instead of {width}")
        _check_layer(index, layer, tables)
        width = layer.out_channels


def _check_layer(index: int, layer: Layer, tables: dict[str, NodeTable]) -> None:
    where = f"layers[{index}]"
    if layer.kind not in LAYER_KINDS:
        raise InputError(
            f"{where}.kind: layer '{layer.kind}' is not supported; "
            f"supported: {', '.join(LAYER_KINDS)}"
        )
    if index == 0 and layer.association != "A(XW)":
        raise InputError(f"{where}.association: the first layer streams its input: A(XW) only")
    if not layer.weight.signed or layer.weight.bits < 2:
        raise InputError(f"{where}.weight: weights are signed with 2 to 16 bits")
    for stage in layer.stages:
        epilogue = layer.epilogue(stage)
        if epilogue.output.signed and epilogue.output.bits < 2:
            raise InputError(f"{where}.{stage}.output.bits: signed tensors have 2 to 16 bits")
        multiplier = epilogue.multiplier
        if multiplier.kind == "node" and multiplier.table not in tables:
            raise InputError(f"{where}.{stage}.multiplier.table: no table {multiplier.table!r}")
        if multiplier.kind == "node" and tables[multiplier.table].bits != multiplier.bits:
            raise InputError(f"{where}.{stage}.multiplier.bits: not those of its table")
        if multiplier.kind == "layer" and multiplier.value >= 1 << multiplier.bits:
            raise InputError(f"{where}.{stage}.multiplier.value: wider than its bits")


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
    x_codes = labels = None
    if "workload/x_codes" in fields:
        x_codes = fields.integers("workload/x_codes", (len(x_indices),), low, high)
    if "workload/labels" in fields:
        classes = manifest.layers[-1].out_channels
        labels = fields.integers("workload/labels", (nodes,), -1, classes - 1)
    edge_codes = None
    if manifest.edge is not None:
        edge_codes = fields.integers(
            "workload/edge_codes", (len(indices),), 0, manifest.edge.magnitude
        )
    masks = {}
    for name in MASKS:
        if f"workload/mask/{name}" in fields:
            masks[name] = fields.booleans(f"workload/mask/{name}", nodes)
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
        labels=labels,
        masks=masks,
    )


def _known_arrays(manifest: Manifest) -> list[str]:
    """Return the names of all arrays that a bundle with this manifest may hold."""
    workload = ["name", "indptr", "indices", "x_indptr", "x_indices", "x_codes", "labels"]
    workload += ["edge_codes"] if manifest.edge is not None else []
    workload += [f"table/{table.name}" for table in manifest.node_tables]
    workload += [f"mask/{name}" for name in MASKS]
    names = ["manifest", *(f"workload/{name}" for name in workload)]
    for index, layer in enumerate(manifest.layers):
        names.append(f"layer{index}/weight")
        for stage in layer.stages:
            epilogue = layer.epilogue(stage)
            if epilogue.bias_bits:
                names.append(f"layer{index}/{stage}/bias")
            if epilogue.multiplier.kind == "channel":
                names.append(f"layer{index}/{stage}/multiplier")
    return names


def load_bundle(path: Path) -> Bundle:
    """Read and validate a bundle.

    Raises:
        InputError: one line naming the file, the field and the reason.
    """
    fields = Fields(read_npz(path), str(path))
    manifest = _read_manifest(fields)
    fields.only(_known_arrays(manifest))
    weights: list[IntArray] = []
    biases: dict[tuple[int, str], IntArray] = {}
    multipliers: dict[tuple[int, str], IntArray] = {}
    for index, layer in enumerate(manifest.layers):
        magnitude = layer.weight.magnitude
        shape = (layer.in_channels, layer.out_channels)
        weights.append(fields.integers(f"layer{index}/weight", shape, -magnitude, magnitude - 1))
        for stage in layer.stages:
            epilogue = layer.epilogue(stage)
            channels = (layer.channels(stage),)
            if epilogue.bias_bits:
                limit = 1 << (epilogue.bias_bits - 1)
                biases[index, stage] = fields.integers(
                    f"layer{index}/{stage}/bias", channels, -limit, limit - 1
                )
            if epilogue.multiplier.kind == "channel":
                multipliers[index, stage] = fields.integers(
                    f"layer{index}/{stage}/multiplier",
                    channels,
                    0,
                    (1 << epilogue.multiplier.bits) - 1,
                )
    network = Network(manifest, tuple(weights), biases, multipliers)
    return Bundle(network, _read_workload(fields, manifest))
