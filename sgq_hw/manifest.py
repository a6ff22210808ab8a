"""The manifest: everything about a quantised network that is not a large array."""

from typing import Annotated, Any, Literal

import msgspec

from sgq_hw.errors import InputError
from sgq_hw.formats import MAX_MULTIPLIER_BITS, Bits, Format, Key, Positive, Record, Scale
from sgq_hw.layers import LAYER_KINDS, AgnnAttention, GcnLayer, Layer, Step

BUNDLE_FORMAT = "sgq-hw-bundle"
BUNDLE_VERSION = 2


class NodeTable(Record, frozen=True):
    """A per-node unsigned factor and the rule that computes it for any graph.

    `degree` is `d ** -0.5` with d the row length of the aggregation matrix, `mean` is `1 / d`, both
    0 for an empty row; `input` is the real value of one input code step of the node's row (row
    normalisation and row range); `input-degree` is `input` times `degree`. Codes are
    `floor(real / scale + 0.5)`, saturated to `bits`.
    """

    name: str
    rule: Literal["degree", "mean", "input", "input-degree"]
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
    """Everything about the network that is not a large array.

    `degree_splits` are the first in-degrees (stored row length without added self loops) of every
    degree bucket but the lowest; empty where no tensor has windows.
    """

    format: str
    version: int
    normalisation: Literal["factored", "edge", "mean", "sum", "attention"]
    self_loops: bool
    input: InputSpec
    edge: Format | None
    node_tables: tuple[NodeTable, ...]
    layers: tuple[Layer, ...]
    degree_splits: tuple[Positive, ...] = ()

    @property
    def outputs(self) -> int:
        """Channels of the result, the classes."""
        return self.layers[-1].out_channels

    @property
    def reads_graphs(self) -> bool:
        """Whether whole graphs are classified, not nodes."""
        return any(layer.kind == "readout" for layer in self.layers)

    def steps(self) -> list[Step]:
        """Return every stage of the network in running order."""
        found: list[Step] = []
        previous: Key | None = None
        for index, layer in enumerate(self.layers):
            found += layer.steps(index, previous)
            previous = found[-1].key
        return found


def parse_manifest(head: Any) -> Manifest:
    """Turn decoded JSON into a manifest that does not contradict itself.

    Raises:
        InputError: naming the field.
    """
    layers = head.get("layers") if isinstance(head, dict) else None
    for index, layer in enumerate(layers if isinstance(layers, list) else ()):
        kind = layer.get("kind") if isinstance(layer, dict) else None
        if kind not in LAYER_KINDS:
            raise InputError(
                f"layers[{index}].kind: layer '{kind}' is not supported; "
                f"supported: {', '.join(LAYER_KINDS)}"
            )
    try:
        manifest = msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from error
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Refuse manifests that are well formed but contradict themselves.

    Raises:
        InputError: naming the field.
    """
    tables = {table.name: table for table in manifest.node_tables}
    if len(tables) != len(manifest.node_tables):
        raise InputError("node_tables: two tables have one name")
    if (manifest.edge is None) != (manifest.normalisation != "edge"):
        raise InputError(f"edge: does not fit normalisation '{manifest.normalisation}'")
    if manifest.edge is not None and manifest.edge.signed:
        raise InputError("edge.signed: edge values are unsigned")
    if manifest.input.signed and manifest.input.bits < 2:
        raise InputError("input.bits: signed tensors have 2 to 16 bits")
    if list(manifest.degree_splits) != sorted(set(manifest.degree_splits)):
        raise InputError("degree_splits: do not ascend")
    if not manifest.layers:
        raise InputError("layers: empty")
    width = manifest.input.channels
    for index, layer in enumerate(manifest.layers):
        if layer.in_channels != width:
            raise InputError(f"layers[{index}].in_channels: {layer.in_channels} instead of {width}")
        if isinstance(layer, GcnLayer) and index == 0 and layer.association != "A(XW)":
            raise InputError(
                f"layers[{index}].association: the first layer streams its input: A(XW) only"
            )
        width = layer.out_channels
    rows_are_graphs = False
    for step in manifest.steps():
        _check_step(step, tables, len(manifest.degree_splits) + 1)
        _check_attention(step)
        _check_place(step, rows_are_graphs)
        rows_are_graphs |= step.operation == "readout"


def _check_place(step: Step, rows_are_graphs: bool) -> None:
    where = f"layers[{step.key[0]}]"
    if step.operation != "combine" and step.source is None:
        raise InputError(f"{where}.kind: the first layer must multiply")
    if step.operation != "combine" and rows_are_graphs:
        raise InputError(f"{where}.kind: no edges or nodes after a readout")
    node_wise = step.epilogue.multiplier.kind == "node" or step.epilogue.output.windows
    if node_wise and (rows_are_graphs or step.operation == "readout"):
        raise InputError(f"{where}.{step.key[1]}: has one row for each graph, not for each node")


def _check_step(step: Step, tables: dict[str, NodeTable], buckets: int) -> None:
    where = f"layers[{step.key[0]}]"
    if step.weight is not None and (not step.weight.signed or step.weight.bits < 2):
        name = "weight" if step.key[1] == "combine" else f"{step.key[1]}_weight"
        raise InputError(f"{where}.{name}: weights are signed with 2 to 16 bits")
    where += f".{step.key[1]}"
    output = step.epilogue.output
    if output.signed and output.bits < 2:
        raise InputError(f"{where}.output.bits: signed tensors have 2 to 16 bits")
    if step.key[1] == "score" and not output.signed:
        raise InputError(f"{where}.output.signed: scores are signed")
    if output.windows:
        _check_windows(where, output, buckets)
    multiplier = step.epilogue.multiplier
    if multiplier.kind == "node" and multiplier.table not in tables:
        raise InputError(f"{where}.multiplier.table: no table {multiplier.table!r}")
    if multiplier.kind == "node" and tables[multiplier.table].bits != multiplier.bits:
        raise InputError(f"{where}.multiplier.bits: not those of its table")
    if multiplier.kind == "layer" and multiplier.value >= 1 << multiplier.bits:
        raise InputError(f"{where}.multiplier.value: wider than its bits")


def _check_attention(step: Step) -> None:
    where = f"layers[{step.key[0]}]"
    output, kind = step.epilogue.output, step.epilogue.multiplier.kind
    if (kind == "reciprocal") != (step.operation == "attend"):
        raise InputError(f"{where}.{step.key[1]}.multiplier.kind: '{kind}' in {step.operation}")
    if step.activation == "elu" and (not output.signed or output.windows):
        raise InputError(
            f"{where}.{step.key[1]}.output: ELU needs signed codes without degree windows"
        )
    attention = step.attention
    if attention is not None and attention.table_length.bit_count() != 1:
        raise InputError(f"{where}.attention.table_length: no power of two")
    if isinstance(attention, AgnnAttention):
        if abs(attention.beta) >= 1 << (attention.score_bits - 1):
            raise InputError(f"{where}.attention.beta: wider than score_bits")
    elif attention is not None:
        if step.channels % attention.heads:
            raise InputError(f"{where}.attention.heads: do not divide the channels")
        if attention.slope_code > 1 << attention.slope_shift:
            raise InputError(f"{where}.attention.slope_code: a slope above 1")


def _check_windows(where: str, output: Format, buckets: int) -> None:
    if buckets == 1 or len(output.windows) != buckets:
        raise InputError(f"{where}.output.windows: {len(output.windows)} for {buckets} buckets")
    if output.signed and min(window.bits for window in output.windows) < 2:
        raise InputError(f"{where}.output.windows: signed windows have 2 to 16 bits")
    top = max(window.exponent + window.bits for window in output.windows)
    if top != output.bits:
        raise InputError(f"{where}.output.bits: {output.bits}; its windows end at {top}")
