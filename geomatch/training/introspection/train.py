"""Training Probabilistic Introspection, from photographs to a weights file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

from geomatch.datasets.crops import read_crops, with_crops
from geomatch.datasets.image_folder import ImageReader, LabelledImage, find_images, with_labels
from geomatch.features.backbones.resnet import load_pretrained
from geomatch.features.introspection import IntrospectionNet
from geomatch.features.weights import read_safetensors, save_weights, sha256_of
from geomatch.io.atomic import check_writable
from geomatch.runtime.device import find_device
from geomatch.training.distributed import torchrun_processes
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.introspection.start import start_from_principal_components, start_from_teacher
from geomatch.training.introspection.task import IntrospectionTask
from geomatch.training.introspection.teacher import Teacher, build_teacher
from geomatch.training.letterbox import draw_letterboxes
from geomatch.training.trainer import Optimisation, Progress, TrainingRun, Validation, autocast, train

EXAMPLES = 300  # photographs that the head's start is fitted on


def train_introspection(
    run: TrainingRun,
    recipe: IntrospectionRecipe,
    optimisation: Optimisation,
    *,
    classifier: Path | None = None,
    crops: Path | None = None,
    on_progress: Callable[[Progress], None],
    validate: Callable[[IntrospectionNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train a network on photographs, from a pretrained trunk, and write its weights to ``run.out``.

    Under ``torchrun`` the processes share the batches of a step; they need the same files.

    Args:
        classifier: an ImageNet MobileNet v1 (safetensors) that teaches beside the initial trunk.
        crops: a table of boxes (`geomatch crops`); only what lies in them is then seen.
        validate: scores a network. The weights written are then those of the best score, taken every
            ``validate_every`` steps and at the end.

    Raises:
        InputError: if data, weights or settings cannot be used.
        TrainingError: if the loss diverges.
    """
    check_writable(run.out)
    photographs = find_images(run.data)
    if crops is not None:
        photographs = with_crops(photographs, read_crops(crops))
    if recipe.classes:
        photographs = with_labels(photographs, recipe.classes)
    reader = ImageReader(len(photographs), run.max_unreadable)
    network = IntrospectionNet(recipe.network)
    load_pretrained(network.trunk, read_safetensors(run.init)[0], str(run.init))
    files = run.files()
    settings = {**asdict(recipe), "classifier": _fingerprint(classifier), "crops": _fingerprint(crops)}
    if run.resume:
        files.check_resumable(settings, optimisation)

    def save() -> None:
        save_weights(run.out, "introspection", asdict(recipe.network), network.state_dict())

    with torchrun_processes(find_device(run.device)) as processes:
        network.to(processes.device)
        with autocast(processes.device, optimisation.precision):
            teacher = _start(network, photographs, reader, recipe, classifier)
        task = IntrospectionTask(recipe, network, photographs, reader, processes.device, teacher, processes.size)
        with task.load.upcoming:
            train(
                task,
                optimisation,
                files,
                recipe=settings,
                resume=run.resume,
                on_progress=on_progress,
                validation=Validation(validate_every, lambda: validate(network), save) if validate else None,
                processes=processes,
            )
        if processes.is_main and not validate:
            save()


def _start(
    network: IntrospectionNet,
    photographs: Sequence[LabelledImage],
    reader: ImageReader,
    recipe: IntrospectionRecipe,
    classifier: Path | None,
) -> Teacher | None:
    """Fit the descriptor head of a network with a pretrained trunk; return the teacher, if the recipe has one."""
    if recipe.similarity_weight == 0:
        start_from_principal_components(network, photographs, reader, recipe.view_size, recipe.seed)
        return None
    device = network.descriptor.weight.device
    examples = draw_letterboxes(photographs, reader, recipe.teacher_size, EXAMPLES, recipe.seed, device)
    teacher = build_teacher(deepcopy(network.trunk), classifier, recipe, examples)
    start_from_teacher(network, teacher, examples)
    return teacher


def _fingerprint(file: Path | None) -> str | None:
    return None if file is None else sha256_of(file)
