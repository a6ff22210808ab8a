"""What an engineer needs beside the Verilog: test bench, build scripts, register map, host driver.

All of it works in a copy of the folder, without this package; see docs/integration.md.
"""

from dataclasses import asdict, dataclass
from importlib.resources import files

from sgq_hw import __version__
from sgq_hw.design import ERRORS, PACKET_TYPES, Design
from sgq_hw.host import IDENTITY
from sgq_hw.registers import (
    BIT_NAMES,
    COUNTER_BASE,
    COUNTERS,
    ERROR_TEXTS,
    constant_values,
    markdown,
    register_map,
)
from sgq_hw.render import environment, parameters

TEMPLATES = {
    "Makefile": "Makefile.j2",
    "include/sgq_registers.h": "sgq_registers.h.j2",
    "scripts/synth.ys": "synth.ys.j2",
    "scripts/vivado.tcl": "vivado.tcl.j2",
    "sgq_accelerator.core": "sgq_accelerator.core.j2",
    "tb/sgq_tb.v": "sgq_tb.v.j2",
}
PATIENCE = 100_000
"""Cycles without a beat that the test bench allows on top of an inference."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What the rest of the folder holds.

    Attributes:
        bundle_hash: Short hash of the bundle.
        rtl: Names of the Verilog files.
        rom_images: Names of the images of baked-in memories.
        load_beats, input_beats, output_beats: Lines of `load.hex`, `input.hex` and `output.hex`.
        cycles: Of one inference.
    """

    bundle_hash: str
    rtl: list[str]
    rom_images: list[str]
    load_beats: int
    input_beats: int
    output_beats: int
    cycles: int


def integration_files(design: Design, contents: Contents) -> dict[str, str]:
    """Return file name to text, for everything but RTL, images and vectors.

    Args:
        design: The accelerator.
        contents: The rest of its folder.
    """
    registers = register_map(design)
    addresses = {register.name: register.address for register in registers}
    addresses |= {counter.name: COUNTER_BASE + 8 * i for i, counter in enumerate(COUNTERS)}
    vectors = [("images/input.hex", "input.hex"), ("golden/output.hex", "output.hex")]
    if contents.load_beats:
        vectors.insert(0, ("images/load.hex", "load.hex"))
    context = {
        **asdict(contents),
        "version": __version__,
        "ip_version": ".".join(__version__.split(".")[:2]),  # IP-XACT tools know two numbers
        "unit": {
            "module": "sgq_tb",
            "template": TEMPLATES["tb/sgq_tb.v"],
            "version": __version__,
            "bundle_hash": contents.bundle_hash,
        },
        "p": parameters(design),
        "vectors": vectors,
        "watchdog": contents.cycles + PATIENCE,
        "identity": IDENTITY,
        "addresses": addresses,
        "registers": registers,
        "bit_names": BIT_NAMES,
        "counters": COUNTERS,
        "counter_base": COUNTER_BASE,
        "errors": ERRORS,
        "error_texts": ERROR_TEXTS,
        "packet_types": PACKET_TYPES,
        "constants": {name: f"{value}u" for name, value in constant_values(design).items()},
    }
    env = environment()
    texts = {name: env.get_template(source).render(context) for name, source in TEMPLATES.items()}
    texts["docs/registers.md"] = markdown()
    texts["host/sgq_host.py"] = files("sgq_hw").joinpath("host.py").read_text(encoding="utf-8")
    return texts
