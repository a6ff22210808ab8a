"""The whole chain in one command."""

from pathlib import Path
from typing import Any

import click

from sgq_hw.cli.common import seed_option
from sgq_hw.cli.cost import budget
from sgq_hw.cli.hardware import cosim, generate
from sgq_hw.cli.networks import golden, quantize, train


@click.command()
@click.argument("graph", default="karate")
@click.option("--model", default="gcn", show_default=True, help="As of `train`.")
@click.option("--bits", type=int, default=4, show_default=True)
@click.option("--pes", type=int, default=1, show_default=True)
@click.option("--lanes", type=int, default=16, show_default=True)
@click.option("-o", "--output", default="build/demo", type=click.Path(path_type=Path))
@seed_option
@click.pass_context
def demo(
    context: click.Context, graph: str, model: str, bits: int, pes: int, lanes: int, output: Path,
    seed: int,
) -> None:
    """Take GRAPH through the whole chain: train, quantise, generate, simulate, budget."""
    steps: list[tuple[click.Command, dict[str, Any]]] = [
        (train, {"graph": graph, "model": model, "output": output / "float.npz", "seed": seed}),
        (quantize, {"network": output / "float.npz", "bits": bits, "finetune": True,
                    "output": output / "quantised.npz", "seed": seed}),
        (golden, {"bundle": output / "quantised.npz", "json_path": output / "golden.json"}),
        (generate, {"bundle": output / "quantised.npz", "pes": pes, "lanes": lanes,
                    "output": output / "rtl"}),
        (cosim, {"folder": output / "rtl", "seed": seed, "json_path": output / "cosim.json"}),
        (budget, {"target": output / "rtl", "every": True, "json_path": output / "budget.json"}),
    ]  # fmt: skip
    for command, arguments in steps:
        click.secho(f"\n== {command.name}", bold=True)
        context.invoke(command, **arguments)
