"""Recipes by name: what to learn and how, as `geomatch train introspection --preset` offers them.

Every setting that the command line can change stands here; the paper's constants that it cannot (points, radii, the
hardest 30) are `IntrospectionRecipe`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

from geomatch.datasets.pascal_ilsvrc import RIGID_CLASSES
from geomatch.features.introspection import IntrospectionConfig
from geomatch.settings import Batches, Recipe
from geomatch.training.engine import Optimisation
from geomatch.training.introspection import IntrospectionRecipe

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

RECIPES: Mapping[Recipe, tuple[IntrospectionRecipe, Optimisation]] = {Recipe.shipped: SHIPPED, Recipe.paper: PAPER}
