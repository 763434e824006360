"""Recipes by name, as `--preset` of the commands `geomatch train` offers them, and changes to them.

A recipe states only what differs from the defaults of its dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from geomatch.datasets.pascal_ilsvrc import RIGID_CLASSES, VOC_CLASSES
from geomatch.errors import InputError, did_you_mean
from geomatch.features.anchornet import AnchorConfig
from geomatch.features.introspection import IntrospectionConfig
from geomatch.features.scnet import SCNetConfig
from geomatch.geometry.homography import WarpRanges
from geomatch.options import Batches, Discriminability, Recipe
from geomatch.parameters import parse_parameters, with_parameters
from geomatch.training.anchornet.recipe import AnchorRecipe
from geomatch.training.augmentation import ColourRanges
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.keypoints.pseudo_labels import PseudoLabelRecipe
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.scnet.recipe import SCNetRecipe
from geomatch.training.trainer import Optimisation

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AnyRecipe = TypeVar("AnyRecipe", IntrospectionRecipe, AnchorRecipe, KeypointRecipe, SCNetRecipe)

SHIPPED = (
    IntrospectionRecipe(
        network=IntrospectionConfig(trunk="resnet50v2+vit-tiny", stages=("3", "vit7", "vit8k")),
        view_size=225,  # one more than a multiple of the stride: cells lie from edge to edge
        similarity_weight=200.0,
    ),
    Optimisation(steps=700, wise_ft_alpha=0.4, warmup_steps=50, trunk_learning_rate=5e-5, head_learning_rate=2e-4),
)
"""How the shipped weights are made: all our choice, except for the paper's loss."""

PAPER = (
    IntrospectionRecipe(
        network=IntrospectionConfig(trunk="resnet50", stages=("4",), descriptor_size=2048),
        batches=Batches.mixed,
        classes=RIGID_CLASSES,
        similarity_weight=0.0,
    ),
    Optimisation(epochs=10.0),
)
"""The paper's network (ResNet-50, its last stage dilated at stride 16, descriptors of 2048 numbers), views, loss and 12
rigid classes, mixed in a batch. What the paper leaves open is ours: photographs a batch, epochs, optimiser, learning
rates, schedule, sigma's activation, ranges of warps and colours, and the head's start from principal components.
"""

SHIPPED_ANCHORS = (
    AnchorRecipe(
        network=AnchorConfig(
            classes=VOC_CLASSES,
            trunk="resnet50v2+vit-tiny",
            stages=("2", "3", "vit7", "vit8k"),
            filters=48,
            code_size=192,
        )
    ),
    Optimisation(steps=700, warmup_steps=20, trunk_learning_rate=0.0, head_learning_rate=1e-2),
)
"""How the shipped anchors are made: on the frozen trunk of the shipped introspection weights."""

PAPER_ANCHORS = (
    AnchorRecipe(
        network=AnchorConfig(
            classes=VOC_CLASSES,
            stages=("1", "3", "4"),
            tap_size=256,
            stride=4,
            filters=200,
            mean_share=1.0,
            dilated=False,
            centre_descriptors=False,
        ),
        view_size=224,
        batch_size=4,
        discriminability=Discriminability.printed,
        auxiliary=1.0,
        max_filter_norm=2.0,
        code_steps=2000,
        held_out=0.0,
    ),
    Optimisation(epochs=1.0, trunk_learning_rate=0.0),
)
"""The paper's network (ResNet-50, not dilated, taps res2c, res4 and res5c, 56 x 56 cells, 20 banks of 200 filters),
centred responses and losses. What the paper leaves open is ours: the weights of the losses, photographs a batch,
epochs, optimiser, learning rates, and that the trunk stays as it is. Loss (1) as printed has no lower bound, so filters
are kept at a norm of at most 2; they start at 1.7.
"""

RECIPES: Mapping[Recipe, tuple[IntrospectionRecipe, Optimisation]] = {Recipe.shipped: SHIPPED, Recipe.paper: PAPER}

ANCHOR_RECIPES: Mapping[Recipe, tuple[AnchorRecipe, Optimisation]] = {
    Recipe.shipped: SHIPPED_ANCHORS,
    Recipe.paper: PAPER_ANCHORS,
}

KEYPOINTS = (
    KeypointRecipe(),
    Optimisation(steps=2500, warmup_steps=50, trunk_learning_rate=0.0, head_learning_rate=1e-3),
)
"""The heads of the shipped introspection network learn, and its descriptors to hear the cells around."""

DISTILLED = (
    replace(
        KEYPOINTS[0],
        warps=WarpRanges(smallest_view=0.5, largest_view=1.2),
        pseudo_labels=PseudoLabelRecipe(photographs=1200),
    ),
    replace(KEYPOINTS[1], steps=1400, wise_ft_alpha=0.5),
)
"""The same from matches alone, with views as large as a closer look. Some are wrong, so half of the way is kept."""

DISTILLED_RECIPES: Mapping[Recipe, tuple[KeypointRecipe, Optimisation]] = {Recipe.shipped: DISTILLED}

KEYPOINT_RECIPES: Mapping[Recipe, tuple[KeypointRecipe, Optimisation]] = {Recipe.shipped: KEYPOINTS}

SCNET = (
    SCNetRecipe(),
    Optimisation(steps=1500, warmup_steps=15, trunk_learning_rate=0.0, head_learning_rate=1e-3),
)
"""Embeddings of regions of the shipped introspection network's phi, which is not tuned, as the paper's trunk is not."""

PAPER_SCNET = (
    SCNetRecipe(
        network=SCNetConfig(trunk="timm:vgg16.tv_in1k", stages=("3",), embedding_size=2048),
        view_size=225,
        least_shared=3,
        across=0.0,
        warps=WarpRanges(1.0, 1.0, rotation_degrees=0, aspect=0, shear=0, perspective=0, translation=0),
        colours=ColourRanges(brightness=0, contrast=0, saturation=0, tint=0, shading=0, grey_probability=0),
    ),
    Optimisation(steps=140_000, trunk_learning_rate=0.0, weight_decay=1e-2),
)
"""The paper's network (VGG-16 up to the maps that its pool4 pools, 7 x 7 bins, embeddings of 2048 numbers), loss, 500
boxes and 200 passes over the 700 pairs of PF-PASCAL; photographs are not warped, and mirrored at random. Ours are the
crop to the object, the optimiser, random boxes, and cells of unit length.
"""

SCNET_RECIPES: Mapping[Recipe, tuple[SCNetRecipe, Optimisation]] = {
    Recipe.shipped: SCNET,
    Recipe.paper: PAPER_SCNET,
}

_OWNERS: Mapping[type, str] = {
    IntrospectionRecipe: "training introspection",
    AnchorRecipe: "training anchornet",
    KeypointRecipe: "training keypoints",
    SCNetRecipe: "training scnet",
}
"""What has the settings of a recipe, for messages."""


def with_settings(
    recipe: AnyRecipe, optimisation: Optimisation, texts: Mapping[str, str], /, **values: object
) -> tuple[AnyRecipe, Optimisation]:
    """A recipe and an optimisation with other values for some settings.

    A setting is a field of the recipe, its parts (``network``, ``warps``, ``colours``) or the optimisation. Its name is
    the field's, with or without the part: ``stage`` or ``network.stage``.

    Args:
        texts: values by name, as ``--set`` takes them.
        values: more values by name, of the field's type; None leaves a setting as it is.

    Raises:
        InputError: for a name that is not a setting, or a value that does not fit.
    """
    owner = _OWNERS[type(recipe)]
    parts: dict[str, DataclassInstance] = {"": recipe, **parts_of(recipe), "optimisation": optimisation}
    changes: dict[str, dict[str, object]] = {part: {} for part in parts}
    for name, text in texts.items():
        part, field = _find(name, parts, owner)
        changes[part] |= parse_parameters(type(parts[part]), {field: text}, owner)
    for name, value in values.items():
        if value is not None:
            part, field = _find(name, parts, owner)
            changes[part][field] = value
    nested = {part: with_parameters(parts[part], changes[part], owner) for part in parts_of(recipe)}
    recipe = with_parameters(recipe, {**changes[""], **nested}, owner)
    return recipe, with_parameters(optimisation, changes["optimisation"], owner)


def parts_of(recipe: DataclassInstance) -> dict[str, DataclassInstance]:
    """The parts of a recipe that have settings of their own, by name."""
    values = ((field.name, getattr(recipe, field.name)) for field in fields(recipe))
    return {name: value for name, value in values if is_dataclass(value) and not isinstance(value, type)}


def _find(name: str, parts: Mapping[str, DataclassInstance], owner: str) -> tuple[str, str]:
    """The part that has a setting, and the setting's name in it."""
    given, dot, field = name.rpartition(".")
    known = {part: [each.name for each in fields(of) if each.name not in parts] for part, of in parts.items()}
    for part, names in known.items():
        if field in names and (not dot or part == given):
            return part, field
    hint = did_you_mean(field, [each for names in known.values() for each in names])
    raise InputError(f"{owner} has no setting '{name}'{hint}: --help lists those there are")
