"""The bit configuration: which tensor gets how many bits, as a small TOML file a person edits."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sgq_hw.bundle import Record
from sgq_hw.errors import InputError

Bits = Annotated[int, msgspec.Meta(ge=1, le=16)]
SignedBits = Annotated[int, msgspec.Meta(ge=2, le=16)]


class LayerBits(Record, frozen=True):
    """Bits of one layer.

    Attributes:
        weight: Weights, signed.
        combine: Result of the combination stage (features times weights).
        aggregate: Result of the aggregation stage.
        association: Which stage runs first: `A(XW)` the combination, `(AX)W` the aggregation.
    """

    weight: SignedBits
    combine: SignedBits
    aggregate: Bits
    association: Literal["A(XW)", "(AX)W"] = "A(XW)"


class BitConfig(Record, frozen=True, kw_only=True):
    """Bits of a whole network.

    Attributes:
        input: Input features; binary inputs always take exactly 1.
        edge: Edge values of the `edge` normalisation (SGQuant's attention component).
        factor: Per-node degree factors of the `factored` normalisation.
        input_factor: Per-node factors of the first combination (row normalisation and, where
            factored, the degree).
        normalisation: `factored` or `edge`.
        layers: One entry per layer.
    """

    input: Bits
    edge: Bits
    factor: Bits = 8
    input_factor: Bits = 12
    normalisation: Literal["factored", "edge"] = "factored"
    layers: tuple[LayerBits, ...]


LOGIT_BITS = 16
"""Logits are never narrower: the argmax is taken on them."""


def uniform_config(bits: int, layers: int, normalisation: str = "factored") -> BitConfig:
    """Return the configuration that `--bits N` stands for.

    Hidden features and multi-bit inputs get N bits, weights and edge values max(N, 2), the
    pre-aggregation tensors max(N, 8), logits 16.

    Args:
        bits: N, 1 to 16.
        layers: Number of layers of the network.
        normalisation: `factored` or `edge`.

    Raises:
        InputError: bits outside 1 to 16.
    """
    if not 1 <= bits <= 16:
        raise InputError(f"--bits: {bits} is outside 1 to 16")
    chosen: list[LayerBits] = []
    for index in range(layers):
        last = index == layers - 1
        chosen.append(
            LayerBits(
                weight=max(bits, 2),
                combine=max(bits, 8),
                aggregate=LOGIT_BITS if last else bits,
            )
        )
    return msgspec.convert(
        {
            "input": bits,
            "edge": max(bits, 2),
            "normalisation": normalisation,
            "layers": [msgspec.to_builtins(layer) for layer in chosen],
        },
        BitConfig,
    )


def load_config(path: Path, layers: int) -> BitConfig:
    """Read a bit configuration.

    Raises:
        InputError: one line naming file, field and reason.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    try:
        config = msgspec.convert(data, BitConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from error
    if len(config.layers) != layers:
        raise InputError(f"{path}: layers: {len(config.layers)} entries for {layers} layers")
    final = config.layers[-1]
    last_bits = final.aggregate if final.association == "A(XW)" else final.combine
    if last_bits != LOGIT_BITS:
        raise InputError(f"{path}: layers[{layers - 1}]: logits have {LOGIT_BITS} bits")
    return config


def config_text(config: BitConfig) -> str:
    """Return a bit configuration as the TOML that `load_config` reads."""
    fields = msgspec.to_builtins(config)
    layers = fields.pop("layers")
    # A JSON string or integer is the same in TOML.
    blocks = [fields, *layers]
    lines = [[f"{name} = {json.dumps(value)}" for name, value in b.items()] for b in blocks]
    return "\n\n[[layers]]\n".join("\n".join(block) for block in lines) + "\n"
