"""Proved bounds: reached by extreme values, never exceeded, and refused above 62 bits."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from sgq_hw.bundle import Bundle, Network
from sgq_hw.formats import Epilogue
from sgq_hw.golden.bounds import stage_bounds
from sgq_hw.golden.fixed_point import BoundError
from sgq_hw.golden.network import input_matrix, run
from tests.random_layers import random_layers
from tests.random_networks import gcn_layers, random_bundle


def extreme(bundle: Bundle) -> Bundle:
    """The same formats with every weight at its largest magnitude."""
    weights = {
        step.key: np.full_like(
            bundle.network.weights[step.key], -(2 ** (step.weight.bits - 1))
        )
        for step in bundle.network.manifest.steps()
        if step.weight is not None
    }
    return replace(bundle, network=replace(bundle.network, weights=weights))


def test_bounds_are_reached_and_never_exceeded() -> None:
    """The first stage's bound is tight; no stage leaves its own, whatever the weights."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        bundle = extreme(random_bundle(rng, graph="hub", features=6))
        workload, manifest = bundle.workload, bundle.network.manifest
        spec = manifest.input
        code = -(2 ** (spec.bits - 1)) if spec.signed else 2**spec.bits - 1
        full = replace(workload, x_codes=np.full(len(workload.x_indices), code))
        nonzeros, edges = np.diff(full.x_indptr).max(), np.diff(full.indptr).max()
        bounds = stage_bounds(manifest, int(nonzeros), int(edges))
        sums = input_matrix(bundle.network, full) @ bundle.network.weights[0, "combine"]
        first = bounds[0, "combine"]
        assert np.abs(sums).max() == first.accumulator
        assert -(2 ** (first.accumulator_bits - 1)) <= sums.min()
        assert sums.max() < 2 ** (first.accumulator_bits - 1)
        run(bundle.network, full)


def test_a_violated_bound_is_noticed() -> None:
    bundle = random_bundle(np.random.default_rng(2), nodes=6, layers=2, inputs="binary")
    for index, layer in enumerate(gcn_layers(bundle.network.manifest)):
        weights = dict(bundle.network.weights)
        key = index, "combine"
        weights[key] = np.full_like(weights[key], 1 << (layer.weight.bits + 6))
        broken = replace(bundle.network, weights=weights)
        with pytest.raises(BoundError, match=f"^layer {index} combine: accumulator left"):
            run(broken, bundle.workload)


def widest(network: Network, index: int, stage: str, bias_bits: int = 0) -> Network:
    """A network whose one stage has a 16-bit multiplier."""
    layers = list(network.manifest.layers)
    epilogue: Epilogue = getattr(layers[index], stage)
    multiplier = msgspec.structs.replace(epilogue.multiplier, kind="layer", bits=16)
    changed = msgspec.structs.replace(epilogue, multiplier=multiplier, bias_bits=bias_bits)
    layers[index] = msgspec.structs.replace(layers[index], **{stage: changed})
    return replace(
        network, manifest=msgspec.structs.replace(network.manifest, layers=tuple(layers))
    )


@pytest.mark.parametrize(("index", "stage"), [(0, "combine"), (0, "aggregate"), (1, "aggregate")])
def test_a_sum_above_62_bits_is_refused_by_name(index: int, stage: str) -> None:
    rng = np.random.default_rng(4)
    bundle = random_bundle(rng, layers=2, associations=["A(XW)"], normalisation="edge")
    manifest = widest(bundle.network, index, stage).manifest
    capacities = [1, 1]
    place = 0 if stage == "combine" else 1
    # The smallest capacity that is refused, by doubling; one step before it is still accepted.
    while capacities[place] < 1 << 62:
        try:
            stage_bounds(manifest, *capacities)
        except BoundError as error:
            assert str(error).startswith(f"layer {index} {stage}: ")  # noqa: PT017
            break
        capacities[place] *= 2
    assert 1 < capacities[place] < 1 << 62
    bound = stage_bounds(manifest, *(max(1, c // 2) for c in capacities))[index, stage]
    assert bound.total_bits <= 62


def test_attention_above_62_bits_is_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    manifest = random_layers(rng, kinds=("gat", "gat")).network.manifest
    stage_bounds(manifest, 4, 4)
    with pytest.raises(BoundError, match=r"^layer \d aggregate: attention: "):
        stage_bounds(manifest, 4, 1 << 55)


def test_total_bits_cover_bias_and_rounding() -> None:
    """The declared width holds the largest sum that formats allow, and is not wasteful."""
    for seed in range(20):
        bundle = random_bundle(np.random.default_rng(seed), nodes=5)
        manifest = bundle.network.manifest
        bounds = stage_bounds(manifest, 5, 5)
        for step in manifest.steps():
            epilogue, bound = step.epilogue, bounds[step.key]
            largest = bound.accumulator * (2**epilogue.multiplier.bits - 1)
            largest += 2 ** (epilogue.bias_bits - 1) if epilogue.bias_bits else 0
            largest += 2 ** (epilogue.shift - 1) if epilogue.shift else 0
            assert largest < 2 ** (bound.total_bits - 1) <= 2 * largest + 1
