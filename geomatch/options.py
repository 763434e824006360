"""Names and choices shared by the library and the command line. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class Device(StrEnum):
    """Where to compute. ``auto`` takes an NVIDIA GPU, else Apple's, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    """Arithmetic of training. ``auto`` takes bf16 if the hardware is faster with it."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Batches(StrEnum):
    """What the photographs of one training step have in common."""

    one_class = "one-class"
    mixed = "mixed"
    balanced = "balanced"  # a label, or the background, is drawn for each photograph first


class Discriminability(StrEnum):
    """Form of AnchorNet's loss (1): as printed in the paper, without a lower bound, or ours, which has one."""

    printed = "printed"
    bounded = "bounded"


class Recipe(StrEnum):
    """Named settings of a training."""

    shipped = "shipped"
    paper = "paper"


class Preset(StrEnum):
    """How much work a match is worth."""

    fast = "fast"
    default = "default"
    precise = "precise"


class FlowFormat(StrEnum):
    """File formats of a flow field."""

    flo = "flo"
    npy = "npy"
    npz = "npz"
    kitti = "kitti"


class AnnotationFormat(StrEnum):
    """Files of keypoints, masks and boxes."""

    coco = "coco"
    labelme = "labelme"
    png = "png"
    csv = "csv"


FOLDERS = frozenset({AnnotationFormat.labelme, AnnotationFormat.png})
"""Formats with a file for each image; of the others one file holds all images."""


class AnnotationKind(StrEnum):
    """What kind of annotation is transferred."""

    keypoints = "keypoints"
    masks = "masks"
    boxes = "boxes"


class Existing(Enum):
    """What to do about output that is there already: refuse all work, leave it and do the rest, or write over it."""

    refused = auto()
    kept = auto()
    replaced = auto()


class MaskEncoding(StrEnum):
    """How COCO writes a mask: polygons, the lengths of its runs, or those packed into a text."""

    polygons = "polygons"
    runs = "runs"
    packed_runs = "packed runs"


class FeatureFormat(StrEnum):
    """File formats of an image's features."""

    npz = "npz"
    safetensors = "safetensors"


@dataclass(frozen=True)
class PresetSettings:
    """working_size: the longer side images are resized to for the features, in pixels.
    cells: about how many cells the grid on which they are matched has along that side, at least.
    features, matcher: unless others are asked for by name."""

    features: str = "combined"
    working_size: int = 320
    cells: int = 40
    matcher: str = "fusion"


PRESETS: Mapping[Preset, PresetSettings] = {
    Preset.fast: PresetSettings(features="introspection", working_size=224, cells=28, matcher="affine"),
    Preset.default: PresetSettings(),
    Preset.precise: PresetSettings(features="combined:1+0.8+0.64", working_size=400, cells=50, matcher="fusion"),
}

DEFAULT_MAX_MEMORY = 2 << 30
