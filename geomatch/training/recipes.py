"""Recipes by name: what to learn and how, as `--preset` of `geomatch train introspection` and `anchornet` offers them.

Every setting that the command line can change stands here; the paper's constants that it cannot (points, radii, the
hardest 30; the share of channels left out) are `IntrospectionRecipe`'s and `AnchorRecipe`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

from geomatch.datasets.pascal_ilsvrc import RIGID_CLASSES, VOC_CLASSES
from geomatch.features.anchornet import AnchorConfig
from geomatch.features.introspection import IntrospectionConfig
from geomatch.options import Batches, Discriminability, Recipe
from geomatch.training.anchornet.task import AnchorRecipe
from geomatch.training.introspection.task import IntrospectionRecipe
from geomatch.training.trainer import Optimisation

SHIPPED = (
    IntrospectionRecipe(
        network=IntrospectionConfig(trunk="resnet50v2", stage=3, descriptor_size=256),
        view_size=225,  # one more than a multiple of the stride: cells lie from edge to edge
        photographs_per_step=4,
        batches=Batches.one_class,
        classes=(),
        keep_similarity=200.0,
    ),
    Optimisation(
        steps=1100,
        batches_per_step=1,
        averaging=0.0,
        share_kept=0.7,
        warm_up=50,
        trunk_rate=5e-5,
        head_rate=2e-4,
    ),
)
"""How the shipped weights are made: our choice throughout, but for the paper's loss."""

PAPER = (
    IntrospectionRecipe(
        network=IntrospectionConfig(trunk="resnet50", stage=4, descriptor_size=2048),
        view_size=224,
        photographs_per_step=4,
        batches=Batches.mixed,
        classes=RIGID_CLASSES,
        keep_similarity=0.0,
    ),
    Optimisation(
        steps=2400,
        batches_per_step=1,
        averaging=0.0,
        share_kept=1.0,
        warm_up=100,
        trunk_rate=3e-5,
        head_rate=1e-4,
    ),
)
"""The paper's network (ResNet-50, its last stage dilated at stride 16, 2048 numbers a descriptor), views of 224 x 224,
loss and 12 rigid classes, of photographs drawn together whatever they show.

Its sources leave open, and these are ours: photographs a batch, optimiser, learning rates and schedule, sigma's
activation, the ranges of warps and colours, the head's start from principal components.
"""

SHIPPED_ANCHORS = (
    AnchorRecipe(
        network=AnchorConfig(classes=VOC_CLASSES, stages=(1, 2, 3), tap_size=128, stride=8, filters=64, code_size=256),
        view_size=225,
        photographs_per_step=8,
        form=Discriminability.bounded,
        auxiliary=0.3,
        filter_diversity=1.0,
        response_diversity=1.0,
        tuned=False,
        code_steps=100,
        code_rate=1e-4,
        held_out=0.05,
    ),
    Optimisation(steps=1200, batches_per_step=1, warm_up=20, trunk_rate=0.0, head_rate=1e-2),
)
"""How the shipped anchors are made: on the frozen trunk of the shipped introspection weights."""

PAPER_ANCHORS = (
    AnchorRecipe(
        network=AnchorConfig(classes=VOC_CLASSES, stages=(1, 3, 4), tap_size=256, stride=4, filters=200, code_size=256),
        view_size=224,
        photographs_per_step=4,
        form=Discriminability.printed,
        auxiliary=1.0,
        filter_diversity=1.0,
        response_diversity=1.0,
        tuned=True,
        code_steps=2000,
        code_rate=1e-4,
        held_out=0.0,
    ),
    Optimisation(steps=10_000, batches_per_step=1, warm_up=100, trunk_rate=1e-5, head_rate=1e-4),
)
"""The paper's network (ResNet-50, taps res2c, res4 and res5c, 56 x 56 cells, 20 banks of 200 filters) and losses.

Its sources leave open, and these are ours: the weights of the losses, photographs a batch, optimiser, rates, steps.
"""

RECIPES: Mapping[Recipe, tuple[IntrospectionRecipe, Optimisation]] = {Recipe.shipped: SHIPPED, Recipe.paper: PAPER}

ANCHOR_RECIPES: Mapping[Recipe, tuple[AnchorRecipe, Optimisation]] = {
    Recipe.shipped: SHIPPED_ANCHORS,
    Recipe.paper: PAPER_ANCHORS,
}
