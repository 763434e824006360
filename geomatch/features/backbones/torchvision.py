"""Import of torchvision that also works with a CPU build of torch.

The ordinary wheel of torchvision has a C++ library compiled against the CUDA build of torch. With a CPU build that
library cannot load, and the import of torchvision fails because two of its operators do not exist. Declaring their
schemas first makes the import succeed: models and transforms work, those two operators do not.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_MISSING = "operator torchvision::nms does not exist"


def import_torchvision_models() -> ModuleType:
    """The module ``torchvision.models``; the missing operators are declared only if they are really missing."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    # The declaration lives as long as this object, which the module keeps below.
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    models = importlib.import_module("torchvision.models")
    models._geomatch_declared_operators = library  # type: ignore[attr-defined]
    return models
