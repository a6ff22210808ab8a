"""Number formats and epilogues: the records of a bundle's manifest that fix the arithmetic."""

from typing import Annotated, Literal

import msgspec

MAX_MULTIPLIER_BITS = 16
MAX_BIAS_BITS = 56
MAX_SHIFT = 48

Key = tuple[int, str]
"""Layer and stage: what a stage's result, weights and biases are filed under."""

Bits = Annotated[int, msgspec.Meta(ge=1, le=16)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Scale = Annotated[float, msgspec.Meta(gt=0)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the manifest's records: immutable, unknown fields refused."""


class Window(Record, frozen=True):
    """The bits `[exponent, exponent + bits)` of a word that the nodes of one degree bucket keep."""

    exponent: Annotated[int, msgspec.Meta(ge=0, le=15)]
    bits: Bits


class Format(Record, frozen=True):
    """A fixed-point format: real value = code * scale; code 0 is real 0.

    With `windows`, one for each degree bucket, a node's codes are multiples of `2**exponent` that
    fit the bucket's bits; `bits` is the width of the word that holds all windows.
    """

    bits: Bits
    signed: bool
    scale: Scale
    windows: tuple[Window, ...] = ()

    @property
    def magnitude(self) -> int:
        """Largest absolute value of a code."""
        return 1 << (self.bits - 1) if self.signed else (1 << self.bits) - 1


class Multiplier(Record, frozen=True):
    """The unsigned factor M of an epilogue: per layer, per output channel, or per node.

    `bits` is M's width. A `layer` multiplier has its `value` here; a `channel` multiplier is the
    array `layerI/STAGE/multiplier`; a `node` multiplier is the node table named `table`; a
    `reciprocal` is one over the row's sum of attention, computed (`golden.attention_unit`).
    """

    kind: Literal["layer", "channel", "node", "reciprocal"]
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
