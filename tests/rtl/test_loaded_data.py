"""One build, one simulation: several weight sets and graphs within capacity, all exact."""

from pathlib import Path

import numpy as np
import pytest

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cosim import bind_graph, judge, simulate
from sgq_hw.generate import generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.jobs import Stalls, inference_job
from sgq_hw.quantize.config import uniform_config
from sgq_hw.quantize.pipeline import quantize
from sgq_hw.train import train


def subgraph(graph: Graph, nodes: int) -> Graph:
    """Return the first nodes of a graph and the edges among them."""
    rows = np.repeat(np.arange(graph.num_nodes), graph.degrees)
    kept = (rows < nodes) & (graph.indices < nodes)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=nodes)[:nodes])])
    end = int(graph.x_indptr[nodes])
    return Graph(
        name=f"{graph.name}-{nodes}",
        indptr=indptr.astype(np.int64),
        indices=graph.indices[kept],
        x_indptr=graph.x_indptr[: nodes + 1],
        x_indices=graph.x_indices[:end],
        x_values=None if graph.x_values is None else graph.x_values[:end],
        num_features=graph.num_features,
        y=None if graph.y is None else graph.y[:nodes],
    )


@pytest.mark.parametrize(("pes", "lanes"), [(1, 16), (4, 5)])
def test_two_weight_sets_and_two_graphs_in_one_simulation(
    pes: int, lanes: int, tmp_path: Path
) -> None:
    graph = load_graph("karate")
    config = uniform_config(4, 2)
    first = quantize(train(graph, epochs=20, seed=0), graph, config)
    second = quantize(train(graph, epochs=30, seed=1), graph, config)
    key = 0, "combine"
    assert not np.array_equal(first.network.weights[key], second.network.weights[key])
    save_bundle(tmp_path / "q.npz", first)
    generated = generate(
        tmp_path / "q.npz", tmp_path / "rtl", pes=pes, lanes=lanes,
        capacity={"nodes": 40, "edges": 300},
    )  # fmt: skip
    small = subgraph(graph, 21)
    bundles = [
        first,
        second,
        bind_graph(first.network, small),
        bind_graph(second.network, small),
        first,
    ]
    jobs = [
        inference_job(generated.design, bundle, run_golden(bundle.network, bundle.workload),
                      inferences=2, stalls=Stalls(40 * index, 30 * index, 7 + index))
        for index, bundle in enumerate(bundles)
    ]  # fmt: skip
    outcome = simulate(generated, jobs, random_init=True, seed=3)
    result = judge(generated, jobs, outcome)
    assert result.equal, result.details or result.message
    assert len(result.jobs) == len(jobs)
    assert all(report.inferences == 2 for report in result.jobs)
    assert _outputs_differ(bundles[:2])


def _outputs_differ(bundles: list[Bundle]) -> bool:
    traces = [run_golden(bundle.network, bundle.workload) for bundle in bundles]
    return any(not np.array_equal(traces[0][key], traces[1][key]) for key in traces[0])
