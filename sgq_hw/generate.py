"""Generating: a bundle becomes a folder with Verilog, memory images and verification vectors."""

import hashlib
import math
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sgq_hw.bundle import Bundle, load_bundle
from sgq_hw.cycles import inference_cycles
from sgq_hw.design import ERRORS, PACKET_TYPES, STREAM_BITS_CHOICES, Design, check_pes, make_design
from sgq_hw.errors import InputError
from sgq_hw.input_forms import compare_inputs
from sgq_hw.integration import Contents, integration_files
from sgq_hw.jobs import inference_job
from sgq_hw.lowering import Capacity, memory_order, own_first
from sgq_hw.mapping import map_for, map_workload
from sgq_hw.packer import edge_record_count, input_word_count, memory_images
from sgq_hw.registers import COUNTER_BASE, COUNTERS, MAP_VERSION, register_map
from sgq_hw.render import UNITS, RomGraph, parameters, render, units_of
from sgq_hw.words import hex_lines, write_lines

FOLDER_FORMAT = "sgq-hw-design"
FOLDER_VERSION = 4
DESIGN_FILE = "design.json"
BUNDLE_FILE = "bundle.npz"
SCHEDULE_ROOM = 1.1
"""Edge words for a graph of asked-for size, over those of a schedule without an idle slot."""
MIN_DEFAULT_STREAM_BITS = 64
MAX_SPARSE_FRACTION = 0.75
"""Above this density complete input rows take fewer stream bits, and hardly more cycles."""


class DesignFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `design.json` tells about a generated folder.

    The design is derived anew from the bundle and the options; the rest informs the reader.
    """

    format: str
    version: int
    bundle: str
    options: "Options"
    parameters: dict[str, int]
    graph: dict[str, int]
    input: dict[str, Any]
    passes: list[dict[str, Any]]
    memories: list[dict[str, Any]]
    records: dict[str, list[dict[str, Any]]]
    registers: list[dict[str, Any]]
    counters: list[dict[str, Any]]
    direct: bool
    map_version: int
    errors: dict[str, int]
    packet_types: dict[str, int]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices of `generate`."""

    pes: int
    lanes: int
    stream_bits: int
    sparse_input: bool
    rom: bool
    streamed: bool
    inputs_on_chip: bool
    capacity: dict[str, int | list[int]]


@dataclass(frozen=True, slots=True)
class GeneratedDesign:
    """A generated folder, read back.

    Attributes:
        folder: Where it lies.
        design: Derived from the bundle and the options.
        bundle: Network and graph.
        bundle_hash: Short hash, as written into the Verilog.
    """

    folder: Path
    design: Design
    bundle: Bundle
    bundle_hash: str

    @property
    def sources(self) -> list[Path]:
        """The Verilog files."""
        return sorted((self.folder / "rtl").glob("*.v"))


def bundle_hash(path: Path) -> str:
    """Return the first 12 hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def default_capacity(
    bundle: Bundle,
    wanted: dict[str, int] | None = None,
    pes: int = 1,
    inputs_on_chip: bool = False,
) -> Capacity:
    """Return the capacity for a bundle's own graph, enlarged where the user asks for it.

    Edge words follow the edges; on several PEs another graph's schedule may need some more. The
    nodes of the degree buckets (`bucket0` and so on) follow the nodes.

    Raises:
        InputError: an unknown name, or less than the bundle's own graph needs.
    """
    check_pes(pes)
    workload, manifest = bundle.workload, bundle.network.manifest
    order = memory_order(manifest)
    mapping = map_workload(workload, pes, order=order, own_first=own_first(manifest))
    values = {
        "nodes": workload.num_nodes,
        "edges": edge_record_count(workload),
        "edge_words": mapping.edges.steps,
        "row_edges": max(1, int(np.diff(workload.indptr).max(initial=0))),
        "row_nonzeros": max(1, int(np.diff(workload.x_indptr).max(initial=0))),
        "input_words": 0,
    }
    if inputs_on_chip:
        values["input_words"] = mapping.inputs.steps
    if order:
        assert workload.buckets is not None
        sizes = np.bincount(workload.buckets, minlength=len(order))
        values |= {f"bucket{bucket}": int(size) for bucket, size in enumerate(sizes)}
    for name, value in (wanted or {}).items():
        if name not in values:
            raise InputError(f"--capacity: unknown '{name}'; known: {', '.join(values)}")
        if value < values[name]:
            raise InputError(
                f"--capacity: {name}={value}; graph '{workload.name}' needs {values[name]}"
            )
        values[name] = value
    if "edge_words" not in (wanted or {}):
        room = 1.0 if pes == 1 else SCHEDULE_ROOM
        if "edges" in (wanted or {}):
            values["edge_words"] = max(
                values["edge_words"], math.ceil(values["edges"] * room / pes)
            )
    growth = values["nodes"] / workload.num_nodes
    bucket_nodes = []
    for bucket in order:
        nodes = values.pop(f"bucket{bucket}")
        if f"bucket{bucket}" not in (wanted or {}):
            nodes = math.ceil(nodes * growth)
        bucket_nodes.append(nodes)
    return Capacity(**values, bucket_nodes=tuple(bucket_nodes))


def default_sparse_input(bundle: Bundle) -> bool:
    """Return whether inputs should come as records of what is stored."""
    workload = bundle.workload
    places = workload.num_nodes * bundle.network.manifest.input.channels
    return len(workload.x_indices) <= MAX_SPARSE_FRACTION * places


def design_for(
    bundle: Bundle,
    *,
    pes: int = 1,
    lanes: int = 16,
    stream_bits: int | None = None,
    sparse_input: bool | None = None,
    rom: bool = False,
    streamed: bool = False,
    inputs_on_chip: bool = False,
    capacity: dict[str, int] | None = None,
) -> Design:
    """Size an accelerator for a bundle; see `make_design`.

    Without `stream_bits` the streams are as narrow as they can be, from 64 bits on, without
    costing cycles. Without `sparse_input` streamed inputs take the form of their density, those
    on chip the form of less memory.
    """
    planned = inputs_on_chip and sparse_input is None
    if sparse_input is None:
        sparse_input = planned or default_sparse_input(bundle)
    design = make_design(
        bundle.network.manifest,
        pes=pes,
        lanes=lanes,
        stream_bits=STREAM_BITS_CHOICES[-1] if stream_bits is None else stream_bits,
        sparse_input=sparse_input,
        rom=rom,
        streamed=streamed,
        inputs_on_chip=inputs_on_chip,
        capacity=default_capacity(bundle, capacity, pes, inputs_on_chip),
    )
    if planned:
        design = compare_inputs(design, bundle).best.design
    if stream_bits is not None:
        return design
    best = inference_cycles(design, bundle.workload)
    narrower = (
        replace(design, stream_bits=bits)
        for bits in STREAM_BITS_CHOICES
        if bits >= MIN_DEFAULT_STREAM_BITS
    )
    return next(d for d in narrower if inference_cycles(d, bundle.workload) == best)


def rom_graph(design: Design, bundle: Bundle) -> RomGraph:
    """Return the sizes that a ROM design bakes in, zeros for a loadable one."""
    if not design.rom:
        return RomGraph()
    mapping = map_for(design, bundle.workload)
    inputs = input_word_count(design, mapping) if design.inputs_on_chip else 0
    return RomGraph(bundle.workload.num_nodes, mapping.edges.steps, inputs, mapping.bounds)


def _design_file(design: Design, bundle: Bundle, digest: str) -> DesignFile:
    capacity = asdict(design.capacity)
    capacity["bucket_nodes"] = list(design.capacity.bucket_nodes)
    options = Options(
        design.pes, design.lanes, design.stream_bits, design.sparse_input, design.rom,
        design.streamed, design.inputs_on_chip, capacity,
    )  # fmt: skip
    workload, spec = bundle.workload, design.manifest.input
    passes = [
        {
            "name": step.name, "front": step.front, "source": step.source,
            "destination": step.destination, "channels": step.out_channels,
            "chunks": step.chunks, "bits": step.bits, "signed": step.signed,
            "windows": [[window.exponent, window.bits] for window in step.windows],
            "accumulator_bits": step.bound.accumulator_bits,
            "accumulator_bound": step.bound.accumulator, "total_bits": step.bound.total_bits,
        }
        for step in design.passes
    ]  # fmt: skip
    return DesignFile(
        format=FOLDER_FORMAT,
        version=FOLDER_VERSION,
        bundle=digest,
        options=options,
        parameters=parameters(design),
        graph={
            "nodes": workload.num_nodes,
            "edge_words": map_for(design, workload).edges.steps,
        },
        input={"channels": spec.channels, "bits": spec.bits, "signed": spec.signed},
        passes=passes,
        memories=[
            {"name": m.name, "width": m.width, "depth": m.depth, "copies": m.copies,
             "style": m.style, "rom": m.rom}
            for m in design.memories
        ],
        records={
            "edge": [asdict(field) for field in design.edge_record.fields],
            "input": [asdict(field) for field in design.input_record.fields],
        },
        registers=[
            {"address": r.address, "name": r.name, "access": r.access, "text": r.text}
            for r in register_map(design)
        ],
        counters=[
            {"address": COUNTER_BASE + 8 * index, "name": c.name, "text": c.text}
            for index, c in enumerate(COUNTERS)
        ],
        direct=design.direct,
        map_version=MAP_VERSION,
        errors=ERRORS,
        packet_types=PACKET_TYPES,
    )


def read_capacity(values: dict[str, int | list[int]]) -> Capacity:
    """Return the capacities of a design file.

    Raises:
        TypeError: a name that is unknown or missing, or a value that is none.
    """
    bucket_nodes = values.get("bucket_nodes")
    sizes = {name: value for name, value in values.items() if isinstance(value, int)}
    if not isinstance(bucket_nodes, list):
        raise TypeError("bucket_nodes: not a list")
    return Capacity(**sizes, bucket_nodes=tuple(bucket_nodes))


def _is_ours(folder: Path) -> bool:
    """Whether this program wrote a folder, in whatever version."""
    try:
        data = msgspec.json.decode((folder / DESIGN_FILE).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("format") == FOLDER_FORMAT


def check_output_folder(folder: Path, force: bool) -> None:
    """Refuse to replace a folder that this program did not write.

    Raises:
        InputError: naming the folder and the way out.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder")
    if any(folder.iterdir()) and not force and not _is_ours(folder):
        raise InputError(f"{folder}: not empty and not written by sgq-hw; --force replaces it")


def _fill(folder: Path, design: Design, bundle: Bundle, bundle_path: Path) -> None:
    from sgq_hw.golden.network import run  # noqa: PLC0415 (scipy is slow to import)

    digest = bundle_hash(bundle_path)
    rtl = render(design, digest, rom_graph(design, bundle))
    for name, text in rtl.items():
        write_lines(folder / "rtl" / name, text.splitlines())
    write_lines(folder / "filelist.f", [f"rtl/{name}" for name in sorted(rtl)])
    shutil.copyfile(bundle_path, folder / BUNDLE_FILE)
    job = inference_job(design, bundle, run(bundle.network, bundle.workload), load=not design.rom)
    loads = [line for line in job.stream if line[0] in "01"]
    images = folder / "images"
    if loads:
        write_lines(images / "load.hex", loads)
    write_lines(images / "input.hex", job.stream[len(loads) :])
    baked = memory_images(design, bundle) if design.rom else {}
    for name, (words, bits) in baked.items():
        write_lines(images / f"{name}.hex", hex_lines(words, bits))
    for pe, lines in enumerate(job.results):
        write_lines(folder / "golden" / f"results{pe}.hex", lines)
    write_lines(folder / "golden" / "output.hex", job.output)
    contents = Contents(
        bundle_hash=digest,
        rtl=sorted(rtl),
        rom_images=[f"{name}.hex" for name in baked],
        load_beats=len(loads),
        input_beats=len(job.stream) - len(loads),
        output_beats=len(job.output),
        cycles=inference_cycles(design, bundle.workload),
    )
    for name, text in integration_files(design, contents).items():
        write_lines(folder / name, text.splitlines())
    described = msgspec.json.encode(_design_file(design, bundle, digest))
    lines = msgspec.json.format(described, indent=1).decode("utf-8").splitlines()
    write_lines(folder / DESIGN_FILE, lines)


def generate(
    bundle_path: Path,
    folder: Path,
    *,
    pes: int = 1,
    lanes: int = 16,
    stream_bits: int | None = None,
    sparse_input: bool | None = None,
    rom: bool = False,
    streamed: bool = False,
    inputs_on_chip: bool = False,
    capacity: dict[str, int] | None = None,
    force: bool = False,
) -> GeneratedDesign:
    """Write an accelerator for a bundle into a folder, whole or not at all.

    Args:
        bundle_path: The quantised network and its graph.
        folder: Replaced if this program wrote it, or with `force`.
        pes: Processing elements, a power of two up to 64.
        lanes: Lanes, 1 to 64.
        stream_bits: Bits of a stream beat, or None for the narrowest that costs no cycles.
        sparse_input: Records of stored inputs (True), complete rows (False), or by density; on
            chip by memory.
        rom: Bake parameters and graph in instead of loading them.
        streamed: Let the graph come past with every inference instead of keeping it on chip.
        inputs_on_chip: Load the inputs once instead of sending them with every inference.
        capacity: Capacities above the graph's own: nodes, edges, row_edges, row_nonzeros,
            input_words.
        force: Replace a folder that holds other files.

    Raises:
        InputError: the bundle or an option cannot be used, or the folder cannot be written.
    """
    bundle = load_bundle(bundle_path)
    design = design_for(
        bundle, pes=pes, lanes=lanes, stream_bits=stream_bits, sparse_input=sparse_input, rom=rom,
        streamed=streamed, inputs_on_chip=inputs_on_chip, capacity=capacity,
    )  # fmt: skip
    folder = Path(os.path.normpath(folder))
    check_output_folder(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(f"{folder}: cannot write: {error.strerror}") from error
    try:
        fresh = temporary / "new"
        fresh.mkdir()
        _fill(fresh, design, bundle, bundle_path)
        old = temporary / "old"
        try:
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
        except OSError as error:
            if old.exists():
                old.rename(folder)
            raise InputError(f"{folder}: cannot write: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return GeneratedDesign(folder, design, bundle, bundle_hash(folder / BUNDLE_FILE))


def generate_unit(bundle_path: Path, unit: str, folder: Path, **options: Any) -> list[Path]:
    """Write the Verilog of one unit (and the memories it may need) alone.

    Args:
        bundle_path: The quantised network and its graph.
        unit: One of `sgq_hw.render.UNITS`.
        folder: Files in it are replaced, others stay.
        options: Of `design_for`.

    Raises:
        InputError: an unknown unit, or an option that cannot be used.
    """
    if unit not in UNITS:
        raise InputError(f"--unit: unknown '{unit}'; known: {', '.join(UNITS)}")
    bundle = load_bundle(bundle_path)
    design = design_for(bundle, **options)
    if unit not in units_of(design):
        needs = {
            "serial_expander": "--pes 2 or more and --graph streamed",
            "degree_window": "degree-aware bits",
            "output_buffer": "--pes 2 or more, or degree-aware bits,",
            "input_reader": "--inputs on-chip",
            "input_unpacker": "streamed inputs or --graph streamed",
            "agnn_scores": "'agnn' layers",
            "inverse_norm": "'agnn' layers",
            "gat_scores": "'gat' layers",
            "leaky_slope": "'gat' layers",
            "elu": "ELU in 'gat' layers",
        }.get(unit, "'gat' or 'agnn' layers")
        raise InputError(f"--unit: {unit}: only designs with {needs} have it")
    texts = render(design, bundle_hash(bundle_path), unit=unit)
    for name, text in texts.items():
        write_lines(folder / name, text.splitlines())
    return [folder / name for name in texts]


def load_generated(folder: Path) -> GeneratedDesign:
    """Read a generated folder back.

    Raises:
        InputError: not such a folder, or one of another version.
    """
    path = folder / DESIGN_FILE
    if not path.is_file():
        raise InputError(f"{folder}: no {DESIGN_FILE}; not a folder written by 'sgq-hw generate'")
    try:
        data = msgspec.json.decode(path.read_bytes(), type=DesignFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from error
    if data.format != FOLDER_FORMAT or data.version != FOLDER_VERSION:
        raise InputError(f"{path}: version: {data.version}; this program reads {FOLDER_VERSION}")
    bundle_path = folder / BUNDLE_FILE
    bundle = load_bundle(bundle_path)
    options = data.options
    try:
        capacity = read_capacity(options.capacity)
    except TypeError as error:
        raise InputError(f"{path}: options.capacity: {error}") from error
    design = make_design(
        bundle.network.manifest,
        pes=options.pes,
        lanes=options.lanes,
        stream_bits=options.stream_bits,
        sparse_input=options.sparse_input,
        rom=options.rom,
        streamed=options.streamed,
        inputs_on_chip=options.inputs_on_chip,
        capacity=capacity,
    )
    return GeneratedDesign(folder, design, bundle, bundle_hash(bundle_path))
