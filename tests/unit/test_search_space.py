"""Spaces: enumeration, sampling, and the bit configurations that points stand for."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sgq_hw.quantize.config import LOGIT_BITS, config_text, load_config
from sgq_hw.search.space import ENUMERABLE, Dimension, Space, config_of, space_of

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
    space = space_of(("gcn",) * 2, "binary")
    assert space.size == 6 * (5 * 4 * 10) * (5 * 4)
    configurations = {config_of(space, GCN, point) for point in space}
    assert len(configurations) == space.size
    path = tmp_path / "bits.toml"
    for point in space.sample(np.random.default_rng(0), 20):
        config = config_of(space, GCN, point)
        path.write_text(config_text(config))
        assert load_config(path, 2) == config


def test_gcn_choices_reach_their_fields() -> None:
    space = space_of(("gcn",) * 2, "unsigned")
    config = config_of(space, GCN, (2, 4, 0, 1, 4, 3, 0))
    assert (config.input, config.normalisation, config.edge) == (3, "edge", 4)
    first, last = config.layers
    assert (first.weight, first.combine, first.aggregate) == (2, 6, 3)
    assert (last.weight, last.combine, last.aggregate) == (6, 4, LOGIT_BITS)
    assert config_of(space, GCN, (0, 1, 0, 0, 0, 0, 0)).factor == 6


def test_signed_inputs_have_a_sign_bit() -> None:
    """One bit would be taken as two: the same network at another point."""
    assert space_of(("gcn",) * 2, "signed").dimensions[0] == Dimension("input", (2, 3, 4, 6, 8))
