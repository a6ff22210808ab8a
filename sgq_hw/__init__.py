"""Turn a trained graph neural network into a small, verified FPGA accelerator."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout golden/, sim/ and templates/ lie beside this package; in a wheel, inside it.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "golden" / "fixed_point.py").is_file() and (_ROOT / "pyproject.toml").is_file():
    __path__.append(str(_ROOT))
