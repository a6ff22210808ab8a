"""What each pass writes, against the golden model's stages and maxima found by a plain loop."""

from typing import Any

import numpy as np
import pytest

from sgq_hw.bundle import Network, Workload
from sgq_hw.golden.attention_unit import elu_table
from sgq_hw.golden.network import run
from sgq_hw.manifest import Manifest
from sgq_hw.pass_results import epilogue_of, pass_codes, windows_of
from tests.attention_designs import NETWORKS, TABLE, design_of
from tests.random_workloads import Rng, draw_workload, random_codes


def drawn(rng: Rng, manifest: Manifest, nodes: int) -> tuple[Network, Workload]:
    """Draw parameters and a graph; rows without neighbours among them where there may be some."""
    arrays: dict[str, dict[Any, Any]] = {
        name: {} for name in ("weights", "biases", "multipliers", "exponentials", "activations")
    }
    for step in manifest.steps():
        if step.weight is not None:
            limit = step.weight.magnitude
            shape = (step.inputs, step.channels)
            arrays["weights"][step.key] = random_codes(rng, -limit, limit - 1, shape)
        if step.epilogue.bias_bits:
            arrays["biases"][step.key] = random_codes(rng, -99, 99, step.channels)
        if step.epilogue.multiplier.kind == "channel":
            arrays["multipliers"][step.key] = random_codes(rng, 1, 31, step.channels)
        if step.attention is not None:
            length, top = step.attention.table_length, (1 << step.attention.bits) - 1
            arrays["exponentials"][step.key] = random_codes(rng, 0, top, length)
        if step.activation == "elu":
            output = step.epilogue.output
            arrays["activations"][step.key] = elu_table(output.bits, output.scale)
    workload = draw_workload(
        rng, manifest.input, manifest.edge, (), self_loops=manifest.self_loops,
        classes=manifest.outputs, nodes=nodes, buckets=len(manifest.degree_splits) + 1,
    )  # fmt: skip
    workload.node_tables[TABLE.name] = random_codes(rng, 1, (1 << TABLE.bits) - 1, nodes)
    return Network(manifest, **arrays), workload


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_pass(name: str) -> None:
    design = design_of(name)
    network, workload = drawn(np.random.default_rng(len(name)), design.manifest, 12)
    trace = run(network, workload)
    stages = {step.key: step for step in design.manifest.steps()}
    written: dict[str, Any] = {}
    for step in design.passes:
        codes = written[step.name] = pass_codes(design.passes, step, workload, trace)
        assert codes.shape == (workload.num_nodes, step.out_channels)
        if step.stage == "bound":
            continue
        stage = trace[step.key]
        heads = stages[step.key].channels // 2
        wanted = {"_target": stage[:, :heads], "_source": stage[:, heads:]}
        suffix = step.name.removeprefix(f"layer{step.layer}.{step.stage}")
        assert np.array_equal(codes, wanted.get(suffix, stage))
    bounds = [step for step in design.passes if step.stage == "bound"]
    assert len(bounds) == sum(layer.kind == "gat" for layer in design.manifest.layers)
    for step in bounds:
        assert step.source_pass is not None
        scores = written[design.passes[step.source_pass].name]
        for node in range(workload.num_nodes):
            row = workload.indices[workload.indptr[node] : workload.indptr[node + 1]].tolist()
            for column in range(step.out_channels):
                most = max((int(scores[neighbour, column]) for neighbour in row), default=0)
                assert written[step.name][node, column] == most
        # What attention compares with are the sources.
        source = trace[step.layer, "score"][:, step.out_channels // 2 :]
        if design.passes[step.source_pass].name.endswith("_source"):
            source = trace[step.layer, "score"][:, step.out_channels :]
        assert np.array_equal(scores[:, -source.shape[1] :], source)


def test_epilogues_and_windows_of_passes() -> None:
    design = design_of("gat-windows")
    stages = {step.key: step.epilogue for step in design.manifest.steps()}
    for step in design.passes:
        epilogue = epilogue_of(design.manifest, step)
        if step.stage == "bound":
            assert epilogue is None
            assert windows_of(design.manifest, step) == ()
            continue
        assert epilogue == stages[step.key]
        assert windows_of(design.manifest, step) == stages[step.key].output.windows
        # In the order of memory, where the design has them.
        order = [stages[step.key].output.windows[bucket] for bucket in design.order] if (
            step.windows
        ) else []  # fmt: skip
        assert list(step.windows) == order
    assert any(step.windows for step in design.passes)
