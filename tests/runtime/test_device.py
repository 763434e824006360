"""The precision that a device computes in."""

import pytest
import torch

from geomatch.options import Precision
from geomatch.runtime.device import autocast, find_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(
    able: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert find_precision(Precision.auto, CPU) == expected
    assert find_precision(Precision.float32, CPU) == torch.float32
    assert find_precision(Precision.bfloat16, CPU) == torch.bfloat16
    assert find_precision(Precision.auto, torch.device("mps")) == torch.float32


def test_autocast_computes_products_in_the_precision() -> None:
    a = torch.rand(4, 4)
    for precision, expected in ((Precision.float32, torch.float32), (Precision.bfloat16, torch.bfloat16)):
        with autocast(CPU, precision):
            assert (a @ a).dtype == expected
