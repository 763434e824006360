"""Training AnchorNet, from labelled photographs to a weights file.

Photographs and their labels -> the hypercolumn's principal components -> class banks, learnt from whether an image
shows the class -> with the banks fixed, a linear code of all their responses, learnt as a denoising auto-encoder.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import torch

from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.image_list import BACKGROUND, LabelledImage, by_label, hold_out, with_labels
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.anchornet import AnchorNet
from geomatch.features.load import pretrained_trunk
from geomatch.features.weights import save_weights
from geomatch.runtime.device import autocast, find_device, memory_bytes
from geomatch.training.anchornet.recipe import AnchorRecipe
from geomatch.training.anchornet.start import draw_banks, fit_code, fit_means, fit_taps
from geomatch.training.anchornet.task import BankTask, CodeTask, LabelledViews
from geomatch.training.distributed import torchrun_processes
from geomatch.training.letterbox import draw_letterboxes
from geomatch.training.trainer import Optimisation, Progress, Task, TrainingRun, train

EXAMPLES = 300  # photographs that the principal components and mean responses are taken from
FEW = 50  # photographs of a class


def train_anchornet(
    run: TrainingRun,
    recipe: AnchorRecipe,
    optimisation: Optimisation,
    *,
    on_progress: Callable[[str, Progress], None],
) -> None:
    """Train banks and code on labelled photographs, from a trained trunk, and write the weights to ``run.out``.

    ``run.init`` holds weights of geomatch or a pretrained trunk, which replaces the recipe's. The trunk learns, too, if
    its learning rate is not 0. Banks and code have a checkpoint and a log each.

    Args:
        on_progress: called with what is learnt, ``banks`` or ``code``, and how far it is.

    Raises:
        InputError: if data, weights or settings cannot be used.
        TrainingError: if a loss diverges.
    """
    run.check_outputs("banks", "code")
    trunk_name, trunk = pretrained_trunk(run.only_init())
    recipe = replace(recipe, network=replace(recipe.network, trunk=trunk_name))
    if run.resume:
        run.files("banks").check_resumable(asdict(recipe), optimisation)
    _check_memory(recipe, find_device(run.device))
    learnt_from, _ = hold_out(find_images(run.data), recipe.held_out)
    photographs = with_known_labels(learnt_from, recipe.network.classes)
    reader = ImageReader(len(photographs), run.max_unreadable)
    network = AnchorNet(recipe.network)
    draw_banks(network, recipe.seed)
    network.trunk.load_state_dict(trunk.state_dict())
    with torchrun_processes(find_device(run.device)) as processes:
        network.to(device := processes.device)
        examples = draw_letterboxes(photographs, reader, recipe.example_size, EXAMPLES, recipe.seed, device)

        def learn(part: str, task_of: Callable[[LabelledViews], Task], optimisation: Optimisation) -> None:
            views = LabelledViews(recipe, photographs, reader, device, processes.size)
            files = run.files(part)
            with views.load.upcoming:
                train(
                    task_of(views),
                    optimisation,
                    files,
                    recipe=asdict(recipe),
                    resume=run.resume and (part == "banks" or files.checkpoint.is_file()),
                    on_progress=lambda progress: on_progress(part, progress),
                    processes=processes,
                )

        with autocast(device, optimisation.precision):
            fit_taps(network, examples)
        tune_trunk = optimisation.trunk_learning_rate > 0
        learn("banks", lambda views: BankTask(network, views, tune_trunk=tune_trunk), optimisation)
        with autocast(device, optimisation.precision):
            fit_code(network, examples)
        learn("code", lambda views: CodeTask(network, views), _for_code(optimisation, recipe))
        with autocast(device, optimisation.precision):
            fit_means(network, examples)
        if processes.is_main:
            save_weights(run.out, "anchornet", asdict(recipe.network), network.state_dict())


def with_known_labels(photographs: Sequence[LabelledImage], classes: Sequence[str]) -> Sequence[LabelledImage]:
    """The photographs that show one of the classes, and those of the background, which show none.

    Others are left out, since it is not known what they show. Warns of classes with fewer photographs than `FEW`, and
    raises InputError naming those that no photograph shows.
    """
    kept = with_labels(photographs, classes, optional=[BACKGROUND])
    counts = {name: len(group) for name, group in by_label(kept).items()}
    if thin := [f"{name} ({counts[name]})" for name in classes if counts[name] < FEW]:
        warnings.warn(
            f"few photographs of {', '.join(thin)}: their anchors will know little; --classes can leave them out",
            GeomatchWarning,
            stacklevel=2,
        )
    return kept


def _for_code(optimisation: Optimisation, recipe: AnchorRecipe) -> Optimisation:
    """How the code is learnt: as the banks, but for its own steps and learning rate, without warm-up."""
    own = {"steps": recipe.code_steps, "head_learning_rate": recipe.code_learning_rate, "warmup_steps": 0}
    return replace(optimisation, **own)  # type: ignore[arg-type]


def _check_memory(recipe: AnchorRecipe, device: torch.device) -> None:
    """Raises InputError if the banks need more memory than there is."""
    needed, memory = recipe.bytes_needed, memory_bytes(device)
    if needed > memory:
        raise InputError(
            f"{len(recipe.network.classes)} classes of {recipe.network.filters} filters need about "
            f"{needed / 2**30:.1f} GiB to learn and there are {memory / 2**30:.1f}: "
            "reduce --batch, --classes or --set filters=K"
        )
