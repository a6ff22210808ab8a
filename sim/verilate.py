"""From Verilog to a simulation program with Verilator, without its makefiles.

Measured on two cores: the makefiles, as the runner of cocotb calls them, take 26 to 36 s of
processor time for designs of 3,000 to 5,000 flip-flops, 24 s of them for Verilator's own C++
(verilated.cpp, verilated_vpi.cpp and so on) and for reading its headers. Here those objects, the
main program and a precompiled header are made once for each tool, in 18 s, and kept in the cache;
a design costs 1 to 3 s.

The other choices, each measured as well:

- cocotb sees the top module alone. `--public-flat-rw` would make every signal of the design a
  global that no optimisation may touch: 2.3 times slower, twice the C++, and unused signals would
  not be reported. Naming single signals of the top module gains nothing over all of them.
- `-O1` simulates whole graphs as fast as `-O2`, synthetic designs up to 15 % slower, and compiles
  in two thirds of the time.
- `--output-split-cfuncs`: GCC's time grows faster than the length of a function. A design of 42,000
  flip-flops took 22 s at -O1 and 189 s at -O2 without it, 10 s and 14 s with it.
- `--x-initial unique` costs no speed: one build serves every power-up state, chosen when it runs.
- The makefiles of the PyPI wheel 5.48 fail for large designs: whoever configured them left the
  compiler's options for precompiled headers empty.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sgq_hw.errors import SourceError
from sgq_hw.sim.cache import cache_key, cached_folder
from sgq_hw.sim.tools import VerilatorTool, find_ccache

PROGRAM = "simulation"
"""File name of the program, in the folder of the build."""

VERILATOR_FLAGS = (
    "--cc", "--prefix", "Vtop", "--Mdir", "obj", "--vpi", "--timing", "-Wall", "-Wno-DECLFILENAME",
    "--x-initial", "unique", "--x-assign", "unique", "--output-split-cfuncs", "2000",
)  # fmt: skip
COVERAGE_FLAGS = ("--coverage-line", "--coverage-toggle")
# VL_TIME_CONTEXT: simulated time lives in the Verilated context, where the main program puts it.
COMPILER_FLAGS = ("-O1", "-std=c++20", "-DVERILATOR=1", "-DVM_TIMING=1", "-DVL_TIME_CONTEXT")

MAIN_SOURCE = Path(__file__).with_name("verilator_main.cpp")
MODEL_SOURCE = Path(__file__).with_name("verilator_model.cpp")
WAIVERS = Path(__file__).with_name("lint_waivers.vlt")

HEADER = "verilated_all.h"
HEADER_TEXT = '#include "verilated.h"\n#include "verilated_dpi.h"\n#include "verilated_timing.h"\n'
PART_BYTES = 600_000
"""Verilated C++ that one compiler run takes; shorter parts lose more time reading headers again."""


def verilate(
    tool: VerilatorTool,
    folder: Path,
    sources: Sequence[str],
    top: str,
    *,
    options: Sequence[str],
    visible: Sequence[str],
    clock: str | None,
    waves: bool,
    coverage: bool,
    cocotb_libraries: Path,
) -> None:
    """Make the program of a design.

    Args:
        tool: Verilator and compiler.
        folder: Holds the sources; gets the program and `build.log`.
        sources: Files to compile, relative to `folder`.
        top: The top module.
        options: Further options of Verilator.
        visible: Those of its signals that cocotb will see; may hold wildcards.
        clock: An input that the main program toggles.
        waves: Let the program write `dump.vcd` where it runs.
        coverage: Let it count lines and toggles.
        cocotb_libraries: The folder of cocotb's VPI library.

    Raises:
        SourceError: Verilator has an error or a warning, or the compiler fails.
    """
    lines = [f'public_flat_rw -module "{top}" -var "{name}"\n' for name in visible]
    (folder / "visible.vlt").write_text("`verilator_config\n" + "".join(lines), encoding="utf-8")
    (folder / WAIVERS.name).write_bytes(WAIVERS.read_bytes())
    command = [
        str(tool.executable), *VERILATOR_FLAGS, *options, *(["--trace-vcd"] if waves else []),
        *(COVERAGE_FLAGS if coverage else []),
        "--top-module", top, "visible.vlt", WAIVERS.name, *sources,
    ]  # fmt: skip
    execute(command, folder, tool.environment())
    objects = folder / "obj"
    listing = (objects / "Vtop_classes.mk").read_text(encoding="utf-8")
    defines = f"#define SGQ_HW_WAVES {int(waves)}\n#define SGQ_HW_COVERAGE {int(coverage)}\n"
    defines += f"#define SGQ_HW_CLOCK {clock}\n" if clock is not None else ""
    parts = _write_parts(objects, _listed(listing, "VM_CLASSES_", "VM_SUPPORT_"), defines)
    runtime = [tool.root / "include" / f"{name}.cpp" for name in _listed(listing, "VM_GLOBAL_")]
    header = _header(tool)
    with ThreadPoolExecutor(_processors()) as pool:
        jobs = [pool.submit(_cached_object, tool, path, header) for path in [MAIN_SOURCE, *runtime]]
        jobs += [pool.submit(_compile, tool, part, objects, header) for part in parts]
        linked = [str(job.result()) for job in jobs]
    link = [
        str(tool.compiler), *linked, f"-L{cocotb_libraries}", f"-Wl,-rpath,{cocotb_libraries}",
        "-lcocotbvpi_verilator", "-pthread", "-o", PROGRAM,
    ]  # fmt: skip
    execute(link, folder, os.environ)
    shutil.rmtree(objects)  # half a megabyte stays of every design, not five


def execute(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a tool in `folder`, append what it prints to `build.log` there, and return it.

    Raises:
        SourceError: it fails; the message holds its first complaint, the notes the others.
    """
    done = subprocess.run(
        command, cwd=folder, env=dict(environment), text=True, check=False, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with (folder / "build.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}")
    if done.returncode != 0:
        raise complaint(Path(command[0]).name, done.stdout)
    return done.stdout


def complaint(program: str, output: str) -> SourceError:
    """Return the error that tells what a tool has against its input."""
    lines = [line for line in output.splitlines() if line.strip()]
    first = next((line for line in lines if "rror" in line or "arning" in line), None)
    error = SourceError(f"{program}: {first or (lines[0] if lines else 'failed without a word')}")
    error.add_note("\n".join(lines[:100]))
    return error


def _listed(listing: str, *prefixes: str) -> list[str]:
    # The file holds lists in the form `VM_CLASSES_FAST += \`, one indented name a line.
    names, wanted = [], False
    for line in listing.splitlines():
        if line.startswith("VM_"):
            wanted = line.startswith(prefixes)
        elif wanted and line.startswith(" "):
            names.append(line.rstrip("\\").strip())
    return names


def _write_parts(objects: Path, names: Sequence[str], defines: str) -> list[Path]:
    """Gather the Verilated C++ into as few files as keep all processors busy."""
    sizes = {name: (objects / f"{name}.cpp").stat().st_size for name in names}
    count = max(1, min(_processors(), sum(sizes.values()) // PART_BYTES))
    parts: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        min(parts, key=lambda part: sum(sizes[one] for one in part)).append(name)
    (objects / MODEL_SOURCE.name).write_bytes(MODEL_SOURCE.read_bytes())
    paths = []
    for index, part in enumerate(parts):
        text = "".join(f'#include "{name}.cpp"\n' for name in part)
        if index == 0:
            text += f'{defines}#include "{MODEL_SOURCE.name}"\n'
        paths.append(objects / f"part{index}.cpp")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def _header(tool: VerilatorTool) -> Path:
    """Return Verilator's headers as one, precompiled: reading them takes GCC 1.3 s."""

    def fill(folder: Path) -> None:
        (folder / HEADER).write_text(HEADER_TEXT, encoding="utf-8")
        command = [*_compiler(tool), "-x", "c++-header", HEADER, "-o", f"{HEADER}.gch"]
        execute(command, folder, _compiler_environment())

    key = cache_key({"tool": tool.identity, "flags": COMPILER_FLAGS, "text": HEADER_TEXT})
    folder, _ = cached_folder(f"header-{key}", fill)
    return folder / HEADER


def _cached_object(tool: VerilatorTool, source: Path, header: Path) -> Path:
    def fill(folder: Path) -> None:
        (folder / source.name).write_bytes(text)
        _compile(tool, folder / source.name, folder, header)

    text = source.read_bytes()
    key = cache_key({"header": header.parent.name, "source": text.decode()})
    folder, _ = cached_folder(f"{source.stem}-{key}", fill)
    return folder / f"{source.stem}.o"


def _compile(tool: VerilatorTool, source: Path, folder: Path, header: Path) -> Path:
    # The precompiled header is taken only if it comes first and the flags are those it was made
    # with. With another -O, GCC 12 crashes: that is why there is one set of flags.
    target = f"{source.stem}.o"
    command = [*_compiler(tool), "-include", str(header), "-I.", "-c", source.name, "-o", target]
    execute(command, folder, _compiler_environment())
    return folder / target


def _compiler(tool: VerilatorTool) -> list[str]:
    include = tool.root / "include"
    ccache = find_ccache()
    return [
        *([str(ccache)] if ccache else []), str(tool.compiler), *COMPILER_FLAGS, f"-I{include}",
        f"-I{include / 'vltstd'}",
    ]  # fmt: skip


def _compiler_environment() -> dict[str, str]:
    # Without this ccache passes on everything that uses a precompiled header.
    return {"CCACHE_SLOPPINESS": "pch_defines,time_macros", **os.environ}


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
