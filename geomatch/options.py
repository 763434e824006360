"""The choices that the library and the command line share. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class Device(StrEnum):
    """The device that computes. ``auto`` takes an NVIDIA GPU, else an Apple GPU, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    """Arithmetic of networks. ``auto`` takes bfloat16 where the hardware multiplies it natively, else float32."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class EngineName(StrEnum):
    """Who does the work on a list: this process, or those of a Ray cluster."""

    local = "local"
    ray = "ray"


class Batches(StrEnum):
    """What the photographs of one training step have in common."""

    one_class = "one-class"
    mixed = "mixed"
    balanced = "balanced"  # a label, or the background, is drawn for each photograph first


class Discriminability(StrEnum):
    """Form of AnchorNet's loss (1): as printed in the paper, without a lower bound, or ours, which has one."""

    printed = "printed"
    bounded = "bounded"


class Responding(StrEnum):
    """Features whose channels `geomatch show responses` draws: filters of AnchorNet, or channels of phi."""

    anchornet = "anchornet"
    introspection = "introspection"


class Detector(StrEnum):
    """How `geomatch crops` finds objects: by what is common in the middle of a label's images, or by WSDDN."""

    centre = "centre"
    wsddn = "wsddn"


class Recipe(StrEnum):
    """Named settings of a training."""

    shipped = "shipped"
    paper = "paper"


class Preset(StrEnum):
    """Trade-offs between speed and precision of a match."""

    fast = "fast"
    default = "default"
    precise = "precise"


class Mirror(StrEnum):
    """Whether the source is flipped left to right before it is matched. ``auto`` decides it for each pair."""

    off = "off"
    auto = "auto"
    on = "on"


class Refine(StrEnum):
    """Whether matches are searched again on fine maps, which shifts those of one object by less than a cell."""

    on = "on"
    off = "off"


class Beyond(StrEnum):
    """What a smooth flow is where it is not valid: that of the matches, or the plate's that was fitted to them."""

    match = "match"
    plate = "plate"


class Flow(StrEnum):
    """The flow that is written: that of the matches, or a smooth one fitted to them."""

    raw = "raw"
    smooth = "smooth"


class Warped(StrEnum):
    """What is warped: images, read bilinearly, or labels and masks, read at the nearest pixel."""

    image = "image"
    labels = "labels"


class PointsOf(StrEnum):
    """The image of a match that points lie in."""

    source = "source"
    target = "target"


class FlowFormat(StrEnum):
    """File formats of a flow field."""

    flo = "flo"
    npy = "npy"
    npz = "npz"
    kitti = "kitti"
    pfm = "pfm"
    tiff = "tiff"


class Picture(StrEnum):
    """Pictures of a match."""

    warped = "warped"
    confidence = "confidence"
    overview = "overview"
    flow_colours = "flow-colours"
    lines = "lines"
    positions = "positions"


DEFAULT_PICTURES = (Picture.warped, Picture.confidence, Picture.overview)


class AnnotationFormat(StrEnum):
    """File formats of keypoints, masks and boxes."""

    coco = "coco"
    labelme = "labelme"
    png = "png"
    csv = "csv"
    yolo = "yolo"
    cvat = "cvat"
    label_studio = "label-studio"


FOLDER_FORMATS = frozenset({AnnotationFormat.labelme, AnnotationFormat.png, AnnotationFormat.yolo})
"""Formats with one file per image in a folder; the other formats have one file for all images."""


class AnnotationKind(StrEnum):
    """Kinds of annotations that can be transferred."""

    keypoints = "keypoints"
    masks = "masks"
    boxes = "boxes"


DEFAULT_REFERENCES: Mapping[AnnotationKind, int] = {
    AnnotationKind.keypoints: 20,
    AnnotationKind.masks: 5,
    AnnotationKind.boxes: 5,
}
"""From how many of many references an image's annotations are transferred. Masks and boxes match each of them."""


class Existing(Enum):
    """What to do if output exists: refuse to start, keep it and do the rest, or replace it."""

    refused = auto()
    kept = auto()
    replaced = auto()


class MaskEncoding(StrEnum):
    """COCO's encodings of a mask: polygons, run lengths, or run lengths packed into a string."""

    polygons = "polygons"
    runs = "runs"
    packed_runs = "packed runs"


class FeatureFormat(StrEnum):
    """File formats of an image's features."""

    npz = "npz"
    safetensors = "safetensors"


class Zoom(StrEnum):
    """Whether features are those of the part of an image that shows an object, looked at again in larger size."""

    on = "on"
    off = "off"


@dataclass(frozen=True)
class PresetSettings:
    """The settings of a preset.

    features, matcher: names. working_size: the longer side, in pixels, of images for the features. cells: least number
    of cells, approximately, along the longer side of the matched grid. refine: whether matches are refined. zoom:
    whether images are looked at again where they show an object, if features and weights are the preset's.
    """

    features: str = "distilled"
    working_size: int = 320
    cells: int = 40
    matcher: str = "fusion"
    refine: Refine = Refine.on
    zoom: Zoom = Zoom.off


PRESETS: Mapping[Preset, PresetSettings] = {
    Preset.fast: PresetSettings(working_size=224, cells=28, matcher="affine", refine=Refine.off),
    Preset.default: PresetSettings(zoom=Zoom.on),
    Preset.precise: PresetSettings(features="combined", working_size=400, cells=50, zoom=Zoom.on),
}

DEFAULT_MAX_MEMORY = 2 << 30
"""Bytes that a matcher may work in, besides the features and its result."""
