"""The space of bit configurations: named dimensions, and what a point of them means.

A space is data; the one function that knows what its names mean is `config_of`.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from sgq_hw.quantize.config import (
    COMPONENTS,
    LOGIT_BITS,
    RESULTS,
    Association,
    BitConfig,
    Component,
    LayerBits,
    Taq,
    turned,
)

Point = tuple[int, ...]
"""The index of the choice taken in each dimension."""

Inputs = Literal["binary", "unsigned", "signed"]

WEIGHT_BITS = (2, 3, 4, 6, 8)
COMBINE_BITS = (4, 6, 8, 10)
SCORE_BITS = (8, 10, 12)
ATTENTION_BITS = (2, 4, 6, 8)
READOUT_BITS = (10, 12, 16)
SIGNED_BITS = (2, 3, 4, 6, 8)
HIDDEN_BITS = (1, "2 2 1 1", 2, "4 3 2 1", 3, "4 4 3 2", 4, "8 4 2 1", 6, 8)
"""Four numbers are degree-aware bits, lowest degrees first (SGQuant's TAQ at its splits)."""
SPLITS = (4, 8, 16)
INPUT_BITS: dict[Inputs, tuple[int, ...]] = {
    "binary": (),
    "unsigned": (1, 2, 3, 4, 6, 8),
    "signed": (2, 3, 4, 6, 8),
}
"""Binary inputs take one bit whatever is asked for, signed ones at least two."""
NORMALISATIONS = ("factored 4", "factored 6", "factored 8", "edge 2", "edge 4", "edge 8")
"""GCN's normalisation and the bits of its values are one dimension: each form has its own bits, and
as separate dimensions many points would be the same network."""
ASSOCIATIONS: tuple[Association, ...] = get_args(Association)
"""`A(XW)`, and `(AX)W` where the normalisation is on the edges and the input is not streamed."""
MEAN_FACTOR_BITS = (8, 12, 16)

STAGES = {"combine": "first", "aggregate": "second"}
"""Names of the stages of a GCN layer whose association is a choice: it decides which is which."""

UNUSED_BITS = 8
"""Of the normalisation that a point does not choose."""

ENUMERABLE = 1 << 16
"""Spaces up to this size are listed for sampling; in larger ones a random point is hardly ever
drawn twice, and they may be too large to list."""


@dataclass(frozen=True, slots=True)
class Condition:
    """When a dimension is open: another one has taken one of some choices."""

    name: str
    choices: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One decision.

    Attributes:
        name: Its name.
        choices: In an order in which neighbours are alike.
        when: Otherwise only the first choice is possible; None: it is always open.
    """

    name: str
    choices: tuple[int | str, ...]
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """All possible combinations of the choices of some dimensions.

    A dimension that is not open has index 0, so every combination has one point only and none of
    them is impossible. Conditions name dimensions that are always open.
    """

    dimensions: tuple[Dimension, ...]

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(
            sum(self._opened_by(dimension.name, choice) for choice in dimension.choices)
            for dimension in self.dimensions
            if dimension.when is None
        )

    def _opened_by(self, name: str, choice: int | str) -> int:
        """Return how many combinations the dimensions that depend on one have at its choice."""
        return math.prod(
            len(dimension.choices) if choice in dimension.when.choices else 1
            for dimension in self.dimensions
            if dimension.when is not None and dimension.when.name == name
        )

    def canonical(self, point: Point) -> Point:
        """Return a combination of choices with those that are not open put back to the first."""
        found = list(point)
        for position, dimension in enumerate(self.dimensions):
            if dimension.when is None or not point[position]:
                continue
            names = [other.name for other in self.dimensions]
            opener = names.index(dimension.when.name)
            if self.dimensions[opener].choices[point[opener]] not in dimension.when.choices:
                found[position] = 0
        return tuple(found)

    def __iter__(self) -> Iterator[Point]:
        """List every point once, the last dimension changing fastest."""
        combinations = itertools.product(*(range(len(d.choices)) for d in self.dimensions))
        return (point for point in combinations if self.canonical(point) == point)

    def choices(self, point: Point) -> dict[str, int | str]:
        """Return the choice of each dimension by name.

        Raises:
            ValueError: the point is not one of this space.
        """
        if not self._contains(point):
            raise ValueError(f"{point} is not a point of this space")
        return {d.name: d.choices[i] for d, i in zip(self.dimensions, point, strict=True)}

    def _contains(self, point: Point) -> bool:
        return (
            len(point) == len(self.dimensions)
            and all(
                0 <= index < len(dimension.choices)
                for dimension, index in zip(self.dimensions, point, strict=True)
            )
            and self.canonical(point) == point
        )

    def sample(
        self, generator: np.random.Generator, count: int, exclude: Collection[Point] = ()
    ) -> list[Point]:
        """Draw distinct points uniformly, none of `exclude`; fewer where no more are left."""
        excluded = set(exclude)
        if self.size <= ENUMERABLE:
            left = [point for point in self if point not in excluded]
            drawn = generator.choice(len(left), min(count, len(left)), replace=False)
            return [left[index] for index in drawn]
        count = min(count, self.size - len(excluded))
        lengths = [len(dimension.choices) for dimension in self.dimensions]
        found: dict[Point, None] = {}
        while len(found) < count:
            for row in generator.integers(lengths, size=(count, len(lengths))).tolist():
                point = tuple(row)
                # Rejecting impossible points, not mending them, keeps the others uniform.
                if self._contains(point) and point not in excluded and len(found) < count:
                    found[point] = None
        return list(found)

    def neighbours(self, point: Point) -> Iterator[Point]:
        """List the points that differ from `point` by one step in one open dimension.

        Where that step closes other dimensions, these go back to their first choices.
        """
        for position, dimension in enumerate(self.dimensions):
            for step in (-1, 1):
                index = point[position] + step
                if not 0 <= index < len(dimension.choices):
                    continue
                moved = self.canonical((*point[:position], index, *point[position + 1 :]))
                if moved != point:
                    yield moved


EDGE_VALUES = Condition(
    "normalisation", tuple(form for form in NORMALISATIONS if form.startswith("edge"))
)


def _layer_choices(kind: str, last: bool) -> dict[str, tuple[int | str, ...]]:
    """Return the choices for each component of a layer; logits keep their bits.

    Those of GCN are of `A(XW)`.
    """
    found: dict[str, tuple[int | str, ...]] = {
        "weight": WEIGHT_BITS, "combine": COMBINE_BITS, "root": COMBINE_BITS,
        "score": SCORE_BITS, "attention": ATTENTION_BITS, "aggregate": HIDDEN_BITS,
        "mlp": HIDDEN_BITS, "readout": READOUT_BITS,
    }  # fmt: skip
    if kind == "gat":
        found["aggregate"] = SIGNED_BITS  # ELU has negative values, and no degree windows
    result = RESULTS.get(kind, "aggregate")
    if kind == "linear":
        found["combine"] = HIDDEN_BITS
    if last:
        del found[result]
    return {name: found[name] for name in COMPONENTS[kind] if name in found}


def space_of(kinds: Sequence[str], inputs: Inputs) -> Space:
    """Return the space of a network's bits.

    Args:
        kinds: Kinds of its layers, as in a bit configuration.
        inputs: The kind of input features.
    """
    dimensions = [Dimension("input", INPUT_BITS[inputs])] if INPUT_BITS[inputs] else []
    if "gcn" in kinds:
        dimensions.append(Dimension("normalisation", NORMALISATIONS))
    if "sage" in kinds:
        dimensions.append(Dimension("factor", MEAN_FACTOR_BITS))
    for index, kind in enumerate(kinds):
        turnable = kind == "gcn" and index > 0
        if turnable:
            name = f"layer{index}.association"
            dimensions.append(Dimension(name, ASSOCIATIONS, EDGE_VALUES))
        for name, choices in _layer_choices(kind, index == len(kinds) - 1).items():
            shown = STAGES.get(name, name) if turnable else name
            dimensions.append(Dimension(f"layer{index}.{shown}", choices))
    return Space(tuple(dimensions))


def _component(choice: int | str) -> Component:
    """Return the bits that a choice stands for."""
    if isinstance(choice, int):
        return choice
    return Taq(splits=SPLITS, bits=tuple(int(width) for width in choice.split()))


def config_of(space: Space, kinds: Sequence[str], point: Point) -> BitConfig:
    """Return the bit configuration that a point of `space_of` stands for.

    Raises:
        ValueError: the point is not one of the space.
    """
    chosen = space.choices(point)
    form, _, value_bits = str(chosen.get("normalisation", "factored 8")).partition(" ")
    # The other form's bits are part of the file format, but of no network.
    edge, factor = UNUSED_BITS, int(value_bits)
    if form == "edge":
        edge, factor = factor, edge
    layers = []
    for index, kind in enumerate(kinds):
        found: dict[str, Any] = {RESULTS.get(kind, "aggregate"): LOGIT_BITS}
        association = chosen.get(f"layer{index}.association")
        for name in COMPONENTS[kind]:
            shown = f"layer{index}.{name if association is None else STAGES.get(name, name)}"
            if shown in chosen:
                found[name] = _component(chosen[shown])
        layer = LayerBits(**found)
        layers.append(turned(layer) if association == "(AX)W" else layer)
    return BitConfig(
        input=int(chosen.get("input", 1)),
        edge=edge,
        factor=int(chosen.get("factor", factor)),
        normalisation="edge" if form == "edge" else "factored",
        layers=tuple(layers),
    )
