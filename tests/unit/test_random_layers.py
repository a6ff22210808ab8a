"""Random networks for hardware: what they cover, and that other parameters change everything."""

from typing import Any

import numpy as np
import pytest

from sgq_hw.bundle import Bundle
from sgq_hw.formats import Format
from sgq_hw.generate import design_for
from sgq_hw.golden.network import attention_rows, run
from sgq_hw.layers import AgnnAttention, GatAttention, SageLayer, Step
from sgq_hw.packer import check_fits
from tests.layer_models import dense_run, scalar_run
from tests.random_layers import BUILT_KINDS, NORMALISATIONS, random_kinds, random_layers
from tests.random_networks import other_parameters, spread
from tests.random_workloads import choose

DRAWS = 200


def drawn(seed: int) -> tuple[np.random.Generator, Bundle]:
    rng = np.random.default_rng([3, seed])
    return rng, random_layers(rng, nodes=16, built=True, buckets=choose(rng, (1, 2, 5)))


def seen_in(step: Step) -> set[object]:
    """Return what of a stage is drawn."""
    epilogue, output = step.epilogue, step.epilogue.output
    found: set[object] = {("bias", step.operation, epilogue.bias_bits > 0)}
    found.add(epilogue.multiplier.kind)
    found.add(("windows", step.operation, step.key[1], step.activation, bool(output.windows)))
    rule = step.attention
    if rule is None:
        return found
    found |= {("weights", rule.bits), ("table", rule.table_length), step.activation}
    if isinstance(rule, AgnnAttention):
        return found | {("logit", rule.score_bits), ("beta", int(np.sign(rule.beta)))}
    return found | {("heads", rule.heads), ("width", step.channels // rule.heads), rule.bound}


def test_the_draws_cover_what_they_promise() -> None:
    seen: set[object] = set()
    stages = flat = rows = zeroed = 0
    for seed in range(DRAWS):
        _, bundle = drawn(seed)
        manifest, trace = bundle.network.manifest, run(bundle.network, bundle.workload)
        seen |= {("loops", manifest.self_loops), manifest.normalisation, len(manifest.layers)}
        for layer in manifest.layers:
            seen.add(layer.kind)
            assert layer.kind != "agnn" or manifest.self_loops
        for step in manifest.steps():
            seen |= seen_in(step)
            if step.key[1] == "score":
                seen.add(("score", step.epilogue.output.bits))
            stages += trace[step.key].size >= 4
            flat += not spread(trace[step.key])
        for entry in attention_rows(bundle, trace):
            rows, zeroed = rows + entry.rows, zeroed + entry.zeroed_rows
    wanted: set[object] = {*BUILT_KINDS, *NORMALISATIONS, 1, 2, 3, 4, "elu", "none", "row"}
    wanted |= {"layer", "channel", "node", "reciprocal", ("loops", True), ("loops", False)}
    wanted |= {(name, number) for name in ("heads", "width") for number in range(1, 10)}
    wanted |= {("weights", bits) for bits in range(1, 9)}
    wanted |= {("score", bits) for bits in range(2, 17)}
    wanted |= {("logit", bits) for bits in (2, 16)}
    wanted |= {("table", 1 << bits) for bits in range(1, 11)}
    wanted |= {("beta", sign) for sign in (-1, 0, 1)}
    for name in ("combine", "aggregate", "attend"):
        wanted |= {("bias", name, True), ("bias", name, False)}
    for stage in ("combine", "root", "mlp"):
        wanted |= {("windows", "combine", stage, "none", some) for some in (True, False)}
    wanted.add(("windows", "attend", "aggregate", "none", True))
    assert wanted <= seen
    assert sum(("logit", bits) in seen for bits in range(2, 17)) > 10
    assert "global" not in seen
    assert ("windows", "attend", "aggregate", "elu", True) not in seen
    assert ("windows", "combine", "score", "none", True) not in seen
    assert flat <= 0.01 * stages
    assert 0 < zeroed < 0.3 * rows


@pytest.mark.parametrize("seed", range(30))
def test_the_models_agree_on_wide_rows(seed: int) -> None:
    _, bundle = drawn(seed)
    found = run(bundle.network, bundle.workload)
    for expected in (scalar_run(bundle), dense_run(bundle)):
        assert {key: codes.tolist() for key, codes in found.items()} == expected


def loaded(bundle: Bundle) -> dict[str, Any]:
    """Return all that a network loads and that may differ in a retrained one."""
    found: dict[str, Any] = {
        f"{name} {key}": values.tolist()
        for name, arrays in bundle.network.arrays().items()
        for key, values in arrays.items()
    }
    for step in bundle.network.manifest.steps():
        output: Format = step.epilogue.output
        if step.epilogue.multiplier.kind == "layer":
            found[f"multiplier {step.key}"] = step.epilogue.multiplier.value
        if output.windows:
            found[f"windows {step.key}"] = output.windows
        if isinstance(step.attention, GatAttention | AgnnAttention):
            found[f"index_shift {step.key}"] = step.attention.index_shift
            found[f"table_length {step.key}"] = step.attention.table_length
            found[f"bits {step.key}"] = step.attention.bits
        if isinstance(step.attention, AgnnAttention):
            found[f"beta {step.key}"] = step.attention.beta
    for index, layer in enumerate(bundle.network.manifest.layers):
        if isinstance(layer, SageLayer):
            found[f"root_factor {index}"] = layer.root_factor
    return found


def test_other_parameters_change_all_that_is_loaded() -> None:
    changed: dict[str, int] = {}
    for seed in range(DRAWS // 5):
        rng, bundle = drawn(seed)
        design = design_for(bundle, pes=choose(rng, (1, 2)), lanes=choose(rng, (1, 3, 8)))
        for _ in range(2):
            other = other_parameters(rng, bundle)
            check_fits(design, other)
            old, new = loaded(bundle), loaded(other)
            assert old.keys() == new.keys()
            for name in old:
                kind = name.split(" ")[0]
                changed[kind] = changed.get(kind, 0) + (old[name] != new[name])
    assert set(changed) == {
        "weight", "bias", "multiplier", "exponential", "activation", "windows", "index_shift",
        "table_length", "bits", "beta", "root_factor",
    }  # fmt: skip
    assert min(changed.values()) > 10


def test_kinds_that_are_built() -> None:
    rng = np.random.default_rng(5)
    found = {kind for _ in range(100) for kind in random_kinds(rng, built=True)}
    assert found == set(BUILT_KINDS)
