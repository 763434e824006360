"""torchvision, imported so that it also works beside a CPU build of torch.

torchvision's ordinary wheel carries a C++ library compiled against the CUDA build of torch. Beside a CPU build that
library cannot load, and importing torchvision fails because two operators it decorates do not exist. Declaring
their schemas first lets the import succeed: models and transforms work, only those two operators do not.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_MISSING = "operator torchvision::nms does not exist"


def import_torchvision_models() -> ModuleType:
    """Return ``torchvision.models``, declaring the missing operators only where they really are missing."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    # The declaration lives as long as this object; torchvision.ops keeps it from then on.
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    models = importlib.import_module("torchvision.models")
    models._geomatch_declared_operators = library  # type: ignore[attr-defined]
    return models
