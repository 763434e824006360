"""`geomatch train anchornet`: labelled photographs to anchors."""

from __future__ import annotations

from geomatch.cli.console import training_bar
from geomatch.cli.training_options import ANCHORNET, TrainingOptions, training_options


@training_options(ANCHORNET)
def anchornet(training: TrainingOptions) -> None:
    """AnchorNet: sparse, diverse anchors of each class from image labels alone, and their class-agnostic code.

    First the banks are learnt, then the code of their responses. Beside OUT go the checkpoint and the log of each:
    OUT.banks.checkpoint, OUT.code.log.jsonl and so on. Under torchrun the processes share the work.
    """
    from geomatch.training.anchornet.train import train_anchornet
    from geomatch.training.recipes import ANCHOR_RECIPES

    recipe, optimisation = training.recipe(ANCHOR_RECIPES)
    with training_bar(quiet=training.quiet) as show, training.resumable("banks"):
        train_anchornet(training.run(), recipe, optimisation, on_progress=show)
