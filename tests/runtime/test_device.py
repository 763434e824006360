"""The precision that a device computes in."""

import warnings

import pytest
import torch

from geomatch.options import Precision
from geomatch.runtime.device import autocast, find_precision, warn_if_slow

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


@pytest.mark.parametrize(("able", "slow"), [({"avx512_bf16": True}, False), ({"avx512_f": True}, True)])
def test_bfloat16_without_hardware_is_said_to_be_slow(
    able: dict[str, bool], slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for precision in Precision:
            warn_if_slow(precision, CPU)
    assert ["1.4 times as long as in float32" in str(each.message) for each in said] == [True] * slow


def test_autocast_computes_products_in_the_precision() -> None:
    a = torch.rand(4, 4)
    for precision, expected in ((Precision.float32, torch.float32), (Precision.bfloat16, torch.bfloat16)):
        with autocast(CPU, precision):
            assert (a @ a).dtype == expected
