"""Options of fine-tuning out of range are refused by name."""

import math
from typing import Any

import pytest

from sgq_hw.errors import InputError
from sgq_hw.quantize.tuning import FineTuning


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"clipping": "guessed"}, "--clipping"),
        ({"distill": -1.0}, "--distill"),
        ({"distill": math.nan}, "--distill"),
        ({"distill": math.inf}, "--distill"),
        ({"protect": (0.2, 0.1)}, "--protect"),
        ({"protect": (-0.1, 0.1)}, "--protect"),
        ({"protect": (0.0, 1.1)}, "--protect"),
        ({"protect": (math.nan, 0.1)}, "--protect"),
    ],
)
def test_refusals(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: "):
        FineTuning(**options)
