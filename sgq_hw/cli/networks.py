"""Commands about networks: train, quantize, search, golden."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sgq_hw.cli.common import (
    EXIT_NO,
    json_option,
    percent,
    pickle_option,
    seed_option,
    unused_seed_option,
    write_json,
)
from sgq_hw.errors import InputError

if TYPE_CHECKING:
    from sgq_hw.graph_sets import GraphSet
    from sgq_hw.graphs import Graph
    from sgq_hw.quantize.config import Taq
    from sgq_hw.quantize.tuning import Clipping


def _load_data(
    name: str, split: int, fold: int | None, allow_pickle: bool
) -> "Graph | GraphSet":
    from sgq_hw.graph_sets import load_graph_set  # noqa: PLC0415
    from sgq_hw.graphs import load_graph  # noqa: PLC0415

    if fold is None:
        return load_graph(name, split=split, allow_pickle=allow_pickle)
    if split != 0:
        raise InputError("give one of --split and --fold")
    return load_graph_set(name, fold=fold)


@click.command()
@click.argument("graph")
@click.option(
    "--model", default="gcn", show_default=True, help="Network: gcn, gat, agnn, sage or gin."
)
@click.option(
    "--hidden", type=int, help="Hidden channels, default 16; of gat, channels a head, default 8."
)
@click.option("--epochs", type=int, help="Full-graph steps; default from the recipe.")
@click.option("--split", type=int, default=0, show_default=True, help="Which of several splits.")
@click.option("--fold", type=int, help="Of a set of graphs: which tenth tests, 0 to 9.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@seed_option
@pickle_option
@json_option
def train(
    graph: str, model: str, hidden: int | None, epochs: int | None, split: int, fold: int | None,
    output: Path, seed: int, allow_pickle: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Train a float network on GRAPH: a name, an .npz, or a Planetoid folder."""
    from sgq_hw import train as training  # noqa: PLC0415

    loaded = _load_data(graph, split, fold, allow_pickle)
    trained = training.train(
        loaded, model=model, hidden=hidden, epochs=epochs, seed=seed, progress=True
    )
    training.save_trained(output, trained, loaded)
    write_json(json_path, {"accuracy": trained.accuracy, "seed": seed, "model": model})
    click.echo(f"{output}: {model} on {loaded.name}, {percent(trained.accuracy)}")


def _numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Parse `number,number`."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option}: '{text}' is not a list of numbers") from None


def _taq(splits: str | None, bits: str | None) -> "Taq | None":
    from sgq_hw.quantize.config import make_taq  # noqa: PLC0415

    found = (_numbers(splits, "--taq-splits"), _numbers(bits, "--taq-bits"))
    if found[1] is None:
        if found[0] is not None:
            raise InputError("--taq-splits: needs --taq-bits")
        return None
    return make_taq(found[0] or (4, 8, 16), found[1])


@click.command()
@click.argument("network", type=click.Path(path_type=Path))
@click.option("--bits", type=int, help="Bits of hidden features, 1 to 16; the rest follows.")
@click.option("--config", type=click.Path(path_type=Path), help="Bit configuration, TOML.")
@click.option("--taq-splits", help="First in-degrees of the buckets; default 4,8,16.")
@click.option("--taq-bits", help="Bits of hidden features by bucket, low degrees first: 8,4,2,1.")
@click.option("--taq-everywhere", is_flag=True,
              help="--taq-bits also for what is kept inside the layers (at least 2 bits).")
@click.option(
    "--calibration", type=click.Choice(["error", "range", "row-range", "percentile"]),
    help="How scales follow from values; default error (least squares).",
)
@click.option("--finetune", is_flag=True, help="Tune the weights for the rounded network.")
@click.option("--epochs", type=int, default=150, show_default=True, help="Fine-tuning steps.")
@click.option("--distill", type=float, default=3.0, show_default=True,
              help="Fine-tuning: weight of the float network's outputs on all nodes.")
@click.option("--protect", type=float, nargs=2, help="Fine-tuning: Degree-Quant's probabilities.")
@click.option("--clipping", type=click.Choice(["tracked", "learned"]), default="tracked",
              show_default=True, help="Fine-tuning: scales follow the values, or are trained.")
@click.option(
    "--norm", type=click.Choice(["factored", "edge"]), help="GCN normalisation; default factored."
)
@click.option("--attention-bound", type=click.Choice(["row", "global"]),
              help="GAT: what a row's logits are subtracted from; default row.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@seed_option
@json_option
def quantize(
    network: Path, bits: int | None, config: Path | None, taq_splits: str | None,
    taq_bits: str | None, taq_everywhere: bool, calibration: str | None, finetune: bool,
    epochs: int, distill: float, protect: tuple[float, float] | None, clipping: "Clipping",
    norm: str | None, attention_bound: str | None, output: Path, seed: int,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Quantise NETWORK, a file written by train, into integers."""
    if (bits is None) == (config is None):
        raise InputError("give one of --bits and --config")
    for option, value in (
        ("norm", norm), ("taq-bits", taq_bits), ("calibration", calibration),
        ("attention-bound", attention_bound),
    ):  # fmt: skip
        if config is not None and value is not None:
            raise InputError(f"--{option}: the configuration file decides it")
    from sgq_hw.quantize import config as configs  # noqa: PLC0415

    if bits is not None:
        configs.uniform_config(bits, 1)  # a bad number is refused before the slow imports
    taq = _taq(taq_splits, taq_bits)
    if taq_everywhere and taq is None:
        raise InputError("--taq-everywhere: needs --taq-bits")
    if clipping == "learned" and not finetune:
        raise InputError("--clipping: learned needs --finetune")
    from sgq_hw.quantize.tuning import FineTuning  # noqa: PLC0415

    tuning = FineTuning(
        epochs=epochs, distill=distill, protect=protect or None, clipping=clipping
    )
    from sgq_hw.bundle import save_bundle  # noqa: PLC0415
    from sgq_hw.train import load_trained  # noqa: PLC0415

    trained, data = load_trained(network)
    kinds = configs.kinds_for(trained, data)
    if config is not None:
        chosen = configs.load_config(config, kinds)
    else:
        chosen = configs.uniform_config(
            bits or 0, kinds, norm or "factored", calibration or "error", attention_bound or "row"
        )
        chosen = chosen if taq is None else configs.with_taq(chosen, kinds, taq, taq_everywhere)
    from sgq_hw.golden import network as golden_network  # noqa: PLC0415
    from sgq_hw.quantize import pipeline  # noqa: PLC0415

    bundle = pipeline.quantize(
        trained, data, chosen, tuning=tuning if finetune else None, seed=seed, progress=True
    )
    save_bundle(output, bundle)
    from sgq_hw.compression import as_json, compression  # noqa: PLC0415

    accuracy = golden_network.evaluate(bundle)
    figures = as_json(compression(bundle))
    write_json(json_path, {"accuracy": accuracy, "accuracy_float": trained.accuracy} | figures)
    click.echo(f"{output}: {percent(accuracy)} (float: {percent(trained.accuracy)})")


@click.command()
@click.argument("graph")
@click.option(
    "--model", default="gcn", show_default=True, help="Network: gcn, gat, agnn, sage or gin."
)
@click.option("--hidden", type=int, help="Hidden channels; default from the recipe.")
@click.option("--split", type=int, default=0, show_default=True, help="Which of several splits.")
@click.option("--fold", type=int, help="Of a set of graphs: which tenth tests, 0 to 9.")
@click.option("--max-drop", type=float, default=0.4, show_default=True,
              help="Allowed loss of validation accuracy, points.")
@click.option("--trials", type=int, default=40, show_default=True, help="Points to measure.")
@click.option("--method", type=click.Choice(["abs", "random", "exhaustive"]), default="abs",
              show_default=True)
@click.option("--epochs", type=int, default=150, show_default=True, help="Fine-tuning steps.")
@click.option("--jobs", type=int, help="Local processes; default one for each core.")
@click.option("--dask", help="Run on the Dask cluster whose scheduler has this address.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@seed_option
@pickle_option
@json_option
def search(
    graph: str, model: str, hidden: int | None, split: int, fold: int | None, max_drop: float,
    trials: int, method: str, epochs: int, jobs: int | None, dask: str | None, output: Path,
    seed: int, allow_pickle: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Find the bits of least memory for a network on GRAPH; the same call again continues."""
    loaded = _load_data(graph, split, fold, allow_pickle)
    from sgq_hw.report import print_search  # noqa: PLC0415
    from sgq_hw.search import session  # noqa: PLC0415

    options = session.Options(
        model=model, hidden=hidden, method=session.Method(method), max_drop=max_drop,
        trials=trials, epochs=epochs, seed=seed, jobs=jobs, dask=dask,
    )  # fmt: skip
    result = session.search(loaded, output, options)
    write_json(json_path, result.as_json())
    print_search(result)
    if result.winner is None:
        sys.exit(EXIT_NO)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@unused_seed_option
@json_option
def golden(bundle: Path, json_path: Path | None) -> None:
    """Run BUNDLE on the bit-accurate integer model."""
    from sgq_hw.bundle import load_bundle  # noqa: PLC0415
    from sgq_hw.golden import network  # noqa: PLC0415

    loaded = load_bundle(bundle)
    trace = network.run(loaded.network, loaded.workload)
    accuracy = network.accuracy_of(loaded, trace)
    attention = network.attention_rows(loaded, trace)
    nodes = loaded.workload.num_nodes
    rows = [asdict(layer) for layer in attention]
    write_json(json_path, {"accuracy": accuracy, "nodes": nodes, "attention": rows})
    click.echo(f"{bundle}: {nodes} nodes, {percent(accuracy)}")
    for layer in attention:
        click.echo(
            f"layer {layer.layer}: attention bound {layer.bound}, {layer.zeroed_rows:,} of "
            f"{layer.rows:,} rows lose all weights"
        )
