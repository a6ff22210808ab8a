"""Spaces: enumeration, sampling, and the bit configurations that points stand for."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sgq_hw.quantize.config import LOGIT_BITS, check_config, config_text, load_config
from sgq_hw.search.space import ENUMERABLE, Condition, Dimension, Space, config_of, space_of

SMALL = Space((Dimension("a", (1, 2, 4)), Dimension("b", ("x", "y"))))


GCN = ("gcn", "gcn")


def test_enumeration() -> None:
    assert list(SMALL) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert SMALL.size == 6
    assert SMALL.choices((2, 1)) == {"a": 4, "b": "y"}
    assert list(SMALL.neighbours((0, 1))) == [(1, 1), (0, 0)]


@pytest.mark.parametrize("point", [(3, 0), (-1, 0), (0,)])
def test_a_point_outside(point: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is not a point"):
        SMALL.choices(point)


def test_sampling_draws_each_point_at_most_once() -> None:
    generator = np.random.default_rng(0)
    assert sorted(SMALL.sample(generator, 100)) == list(SMALL)
    assert set(SMALL.sample(generator, 100, [(0, 0), (2, 1)])) == set(SMALL) - {(0, 0), (2, 1)}
    assert SMALL.sample(generator, 3, list(SMALL)) == []


def test_sampling_is_uniform() -> None:
    """Each of 6 points is expected 1000 times in 3000 pairs; 5 sigma is 130."""
    generator = np.random.default_rng(1)
    counts = Counter(point for _ in range(3000) for point in SMALL.sample(generator, 2))
    assert all(abs(counts[point] - 1000) < 130 for point in SMALL)


@pytest.mark.parametrize("layers", [2, 12])
def test_sampling_repeats_with_its_seed_in_spaces_of_any_size(layers: int) -> None:
    space = space_of(("gcn",) * layers, "unsigned")
    drawn = space.sample(np.random.default_rng(2), 500)
    assert space.size > ENUMERABLE
    assert len(set(drawn)) == 500
    assert drawn == space.sample(np.random.default_rng(2), 500)
    more = space.sample(np.random.default_rng(2), 500, drawn)
    assert not set(more) & set(drawn)


def test_gcn_points_are_valid_and_distinct_configurations(tmp_path: Path) -> None:
    """Three of six normalisations leave the last layer's association open."""
    space = space_of(("gcn",) * 2, "binary")
    assert space.size == (3 + 3 * 2) * (5 * 4 * 10) * (5 * 4)
    configurations = {config_of(space, GCN, point) for point in space}
    assert len(configurations) == space.size
    for config in configurations:
        check_config(config, GCN)
    associations = {(c.normalisation, c.layers[1].association) for c in configurations}
    assert associations == {("factored", "A(XW)"), ("edge", "A(XW)"), ("edge", "(AX)W")}
    path = tmp_path / "bits.toml"
    for point in space.sample(np.random.default_rng(0), 20):
        config = config_of(space, GCN, point)
        path.write_text(config_text(config))
        assert load_config(path, 2) == config


def test_a_deep_gcn_has_an_association_in_every_layer_but_the_first() -> None:
    """Drawn points and all their neighbours can be built; turned hidden layers may have 1 bit."""
    kinds = ("gcn",) * 4
    space = space_of(kinds, "unsigned")
    assert space.size == 6 * (3 + 3 * 2**3) * (5 * 4 * 10) ** 3 * (5 * 4)
    assert space.size > ENUMERABLE
    drawn = space.sample(np.random.default_rng(3), 300)
    seen: set[object] = set()
    for point in drawn:
        near = list(space.neighbours(point))
        assert len({*near, point}) == len(near) + 1
        for other in (point, *near):
            config = config_of(space, kinds, other)
            check_config(config, kinds)
            seen |= {(i, layer.association) for i, layer in enumerate(config.layers)}
            seen |= {layer.combine for layer in config.layers[:-1] if layer.association == "(AX)W"}
    assert {*((i, "(AX)W") for i in (1, 2, 3)), 1} <= seen
    assert (0, "(AX)W") not in seen


def test_closed_dimensions_have_one_choice() -> None:
    """One that depends on another is enumerated, counted, drawn and left only where it is open."""
    on = Condition("a", (2, 4))
    space = Space((Dimension("a", (1, 2, 4)), Dimension("b", ("x", "y"), on), Dimension("c", (0,))))
    points = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0)]
    assert list(space) == points
    assert space.size == len(points)
    assert space.canonical((0, 1, 0)) == (0, 0, 0)
    assert list(space.neighbours((1, 1, 0))) == [(0, 0, 0), (2, 1, 0), (1, 0, 0)]
    assert list(space.neighbours((0, 0, 0))) == [(1, 0, 0)]
    with pytest.raises(ValueError, match="is not a point"):
        space.choices((0, 1, 0))
    assert sorted(space.sample(np.random.default_rng(0), 9)) == points


def test_drawing_from_a_large_space_with_closed_dimensions_is_uniform() -> None:
    """Of 10 choices of the first four dimensions, each is expected 500 times; 5 sigma is 110."""
    on = Condition("a", ("on",))
    switched = [Dimension(name, (0, 1), on) for name in "bcd"]
    wide = Dimension("wide", tuple(range(ENUMERABLE)))
    space = Space((Dimension("a", ("off", "out", "on")), *switched, wide))
    assert space.size == 10 * ENUMERABLE
    drawn = space.sample(np.random.default_rng(4), 5000)
    counts = Counter(point[:4] for point in drawn)
    assert len(counts) == 10
    assert all(abs(count - 500) < 110 for count in counts.values())


def test_gcn_choices_reach_their_fields() -> None:
    space = space_of(("gcn",) * 2, "unsigned")
    config = config_of(space, GCN, (2, 4, 0, 1, 4, 0, 3, 0))
    assert (config.input, config.normalisation, config.edge) == (3, "edge", 4)
    first, last = config.layers
    assert (first.weight, first.combine, first.aggregate) == (2, 6, 3)
    assert (last.weight, last.combine, last.aggregate) == (6, 4, LOGIT_BITS)
    assert last.association == "A(XW)"
    assert config_of(space, GCN, (0, 1, 0, 0, 0, 0, 0, 0)).factor == 6
    last = config_of(space, GCN, (2, 4, 0, 1, 4, 1, 3, 0)).layers[1]
    assert (last.weight, last.aggregate, last.combine) == (6, 4, LOGIT_BITS)
    assert last.association == "(AX)W"


def test_signed_inputs_have_a_sign_bit() -> None:
    """One bit would be taken as two: the same network at another point."""
    assert space_of(("gcn",) * 2, "signed").dimensions[0] == Dimension("input", (2, 3, 4, 6, 8))
