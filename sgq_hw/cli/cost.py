"""Commands about cost: budget, devices."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgq_hw.cli.common import EXIT_NO, json_option, pairs, unused_seed_option, write_json
from sgq_hw.errors import InputError

if TYPE_CHECKING:
    from sgq_hw.budget import Budget


def _budget_of(
    target: Path, options: dict[str, int], capacity: str | None, devices: Sequence[Any]
) -> "Budget":
    from sgq_hw.budget import make_budget  # noqa: PLC0415
    from sgq_hw.bundle import load_bundle  # noqa: PLC0415
    from sgq_hw.generate import design_for, load_generated  # noqa: PLC0415

    if target.is_dir():
        if options or capacity:
            raise InputError(f"{target}: --pes, --lanes and --capacity were decided by generate")
        generated = load_generated(target)
        return make_budget(generated.bundle, generated.design, tuple(devices))
    bundle = load_bundle(target)
    design = design_for(
        bundle,
        pes=options.get("pes", 1),
        lanes=options.get("lanes", 16),
        capacity=pairs(capacity, "--capacity"),
    )
    return make_budget(bundle, design, tuple(devices))


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--pes", type=int, help="Processing elements of a bundle's design, default 1.")
@click.option("--lanes", type=int, help="Its lanes, 1 to 64, default 16.")
@click.option("--capacity", help="Larger capacities: nodes=,edges=,row_edges=,row_nonzeros=.")
@click.option("--device", help="Exit with 1 if this device does not hold it.")
@click.option("--all", "every", is_flag=True, help="Try every known device.")
@unused_seed_option
@json_option
def budget(
    target: Path, pes: int | None, lanes: int | None, capacity: str | None, device: str | None,
    every: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Price the memories of TARGET, a bundle or a generated folder, on real devices."""
    from sgq_hw.cost.devices import find_device, load_devices  # noqa: PLC0415
    from sgq_hw.report import print_budget  # noqa: PLC0415

    devices: Sequence[Any] = load_devices() if every else ()
    if device is not None:
        devices = [find_device(device)]
    given = {"pes": pes, "lanes": lanes}
    options = {name: value for name, value in given.items() if value is not None}
    result = _budget_of(target, options, capacity, devices)
    write_json(json_path, result.as_json())
    print_budget(result)
    if result.fits and not any(fit.fits for fit in result.fits):
        sys.exit(EXIT_NO)


@click.command()
@unused_seed_option
@json_option
def devices(json_path: Path | None) -> None:
    """List the known devices and where their figures come from."""
    from sgq_hw.cost.devices import load_devices  # noqa: PLC0415
    from sgq_hw.report import print_devices  # noqa: PLC0415

    known = load_devices()
    write_json(json_path, {"devices": [{"part": d.part, "family": d.family} for d in known]})
    print_devices(known)
