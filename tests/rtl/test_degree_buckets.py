"""Degree-aware bits on whole graphs: every word of every pass, from training to Verilog."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cosim import bind_graph, cosim, judge, simulate
from sgq_hw.generate import generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.jobs import inference_job
from sgq_hw.quantize.config import (
    BitConfig,
    kinds_for,
    load_config,
    make_taq,
    uniform_config,
    with_taq,
)
from sgq_hw.quantize.pipeline import quantize
from sgq_hw.throughput import arrays_of, predict
from sgq_hw.train import TrainedModel, train
from tests.rtl.test_whole_graphs import check_slots

GRAPHS = ("cora", "citeseer", "dblp", "amazon_computers")
WINNERS = Path(__file__).parents[2] / "docs/results/configs"
MAX_BUCKETS = 8
_TRAINED: dict[str, TrainedModel] = {}


def hub_splits(graph: Graph) -> tuple[int, ...]:
    """Return splits that leave each of the highest degrees a bucket of its own."""
    degrees, counts = np.unique(np.diff(graph.indptr), return_counts=True)
    single = degrees[counts == 1]
    return tuple(single[-(MAX_BUCKETS - 1) :].tolist())


BITS: dict[str, tuple[tuple[int, ...] | None, tuple[int, ...]]] = {
    "8421": ((4, 8, 16), (8, 4, 2, 1)),
    "4321": ((4, 8, 16), (4, 3, 2, 1)),
    "1111": ((4, 8, 16), (1, 1, 1, 1)),
    "16-1": ((8,), (16, 1)),
    "rising": ((4, 8, 16), (1, 2, 5, 8)),
    "empty-last": ((4, 8, 1 << 20), (8, 4, 2, 1)),
    "empty-first": ((1, 2, 8), (3, 8, 4, 2)),
    "one-hub-each": (None, (8, 7, 6, 5, 4, 3, 2, 1)),
}
"""Splits and bits; None: those of `hub_splits`."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is quantised and built; shown as the test's name."""

    graph: str
    bits: str
    pes: int = 2
    lanes: int = 8

    def __str__(self) -> str:
        return f"{self.graph}-{self.bits}-{self.pes}x{self.lanes}"


def trained_on(name: str) -> tuple[Graph, TrainedModel]:
    graph = load_graph(name)
    if name not in _TRAINED:
        _TRAINED[name] = train(graph, epochs=20)
    return graph, _TRAINED[name]


def bundle_of(graph: Graph, trained: TrainedModel, bits: str) -> Bundle:
    kinds = kinds_for(trained, graph)
    if bits == "winner":
        return quantize(trained, graph, load_config(WINNERS / f"gcn-{graph.name}.toml", kinds))
    splits, widths = BITS[bits]
    taq = make_taq(splits or hub_splits(graph), widths)
    config: BitConfig = with_taq(uniform_config(8, kinds), kinds, taq, everywhere=True)
    return quantize(trained, graph, config)


def run(case: Case, folder: Path) -> Bundle:
    bundle = bundle_of(*trained_on(case.graph), case.bits)
    save_bundle(folder / "q.npz", bundle)
    generated = generate(folder / "q.npz", folder / "rtl", pes=case.pes, lanes=case.lanes)
    result = cosim(generated, inferences=2, random_init=True, timeout_seconds=1800)
    assert result.equal, result.details[:5] or result.message
    channels = sum(step.out_channels for step in generated.design.passes)
    assert result.words_compared == 2 * bundle.workload.num_nodes * channels
    check_slots(result)
    return bundle


MATRIX = [Case(graph, bits) for graph in GRAPHS for bits in BITS]
MATRIX += [Case(graph, "8421", *shape) for graph in GRAPHS for shape in ((1, 16), (8, 8))]


@pytest.mark.full
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_every_word(case: Case, tmp_path: Path, data_folder: Path) -> None:
    bundle = run(case, tmp_path)
    assert bundle.workload.buckets is not None
    sizes = np.bincount(bundle.workload.buckets, minlength=len(BITS[case.bits][1]))
    if case.bits == "empty-last":
        assert sizes[-1] == 0
    if case.bits == "one-hub-each":
        assert (sizes[1:] == 1).any()


@pytest.mark.full
@pytest.mark.parametrize("graph", GRAPHS)
def test_winners_of_the_search(graph: str, tmp_path: Path, data_folder: Path) -> None:
    if not (WINNERS / f"gcn-{graph}.toml").is_file():
        pytest.skip(f"no search of GCN on {graph} has finished yet")
    run(Case(graph, "winner"), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("slots", [16, 64, 256])
@pytest.mark.parametrize("graph", GRAPHS)
def test_slots_stay_useful(graph: str, slots: int, data_folder: Path) -> None:
    """Buckets cost at most 2 points of the slots of the array that is best without them."""
    loaded, trained = trained_on(graph)
    uniform = quantize(trained, loaded, uniform_config(8, trained.num_layers))
    best = arrays_of(uniform, slots)[0]
    windowed = bundle_of(loaded, trained, "8421")
    found = next(
        array for array in arrays_of(windowed, slots)
        if (array.design.pes, array.design.lanes) == (best.design.pes, best.design.lanes)
    )
    # Other codes are other zeros: what counts are the cycles of the same work.
    lost = best.cycles / found.cycles
    assert lost > 1 - 0.02, (best.cycles, found.cycles)
    assert predict(found.design, windowed).cycles == found.cycles


def variation(graph: Graph, rng: np.random.Generator, nodes: int, kept: float) -> Graph:
    """Return some nodes of a graph with some of the edges among them."""
    chosen = np.sort(rng.choice(graph.num_nodes, nodes, replace=False))
    full = sparse.csr_array(
        (np.ones(len(graph.indices), np.int64), graph.indices, graph.indptr),
        shape=(graph.num_nodes, graph.num_nodes),
    )
    part = sparse.coo_array(full[chosen][:, chosen])
    stays = rng.random(part.nnz) < kept
    rows, columns = part.coords
    thin = sparse.csr_array(
        (part.data[stays], (rows[stays], columns[stays])), shape=(nodes, nodes)
    )
    thin.sort_indices()
    inputs = sparse.csr_array(
        (np.ones(len(graph.x_indices), np.float64), graph.x_indices, graph.x_indptr),
        shape=(graph.num_nodes, graph.num_features),
    )[chosen]
    inputs.sort_indices()
    return replace(
        graph, name=f"{graph.name} {nodes}", indptr=thin.indptr.astype(np.int64),
        indices=thin.indices.astype(np.int64), x_indptr=inputs.indptr.astype(np.int64),
        x_indices=inputs.indices.astype(np.int64), y=None, train_mask=None, val_mask=None,
        test_mask=None,
    )  # fmt: skip


def test_one_design_runs_three_graphs(tmp_path: Path, data_folder: Path) -> None:
    """Bounds, order, edges and factors are data: nothing is generated anew."""
    graph, trained = trained_on("cora")
    bundle = bundle_of(graph, trained, "8421")
    save_bundle(tmp_path / "q.npz", bundle)
    generated = generate(
        tmp_path / "q.npz", tmp_path / "rtl", pes=4, lanes=4,
        capacity={"edge_words": 2 * bundle.workload.num_edges // 4, "bucket0": graph.num_nodes},
    )  # fmt: skip
    rng = np.random.default_rng(5)
    others = [variation(graph, rng, 2000, 0.8), variation(graph, rng, 1201, 1.0)]
    bundles = [bundle, *(bind_graph(bundle.network, other) for other in others)]
    jobs = [
        inference_job(generated.design, each, run_golden(each.network, each.workload))
        for each in bundles
    ]
    result = judge(generated, jobs, simulate(generated, jobs, random_init=True))
    assert result.equal, result.details[:5] or result.message
    assert result.words_compared == sum(job.real_words for job in jobs)
    sizes = []
    for each in bundles:
        assert each.workload.buckets is not None
        sizes.append(tuple(np.bincount(each.workload.buckets).tolist()))
    assert len(set(sizes)) == len(bundles)
