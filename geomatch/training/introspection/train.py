"""Training Probabilistic Introspection, from photographs to a weights file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from geomatch.datasets.crops import read_crops, with_crops
from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import LabelledImage, with_labels
from geomatch.features.backbones.build import fetch_pretrained, load_pretrained
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.weights import FORMAT, load_network, read_tensors, read_weights_file, save_weights
from geomatch.io.inputs import Input, InputFile, read_input
from geomatch.runtime.device import autocast, find_device
from geomatch.training.distributed import torchrun_processes
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.introspection.start import start_from_principal_components, start_from_teacher
from geomatch.training.introspection.task import IntrospectionTask
from geomatch.training.introspection.teacher import Teacher, build_teacher
from geomatch.training.letterbox import draw_letterboxes
from geomatch.training.trainer import Optimisation, Progress, TrainingRun, Validation, train

EXAMPLES = 150  # photographs that the start of the head is fitted on


def train_introspection(
    run: TrainingRun,
    recipe: IntrospectionRecipe,
    optimisation: Optimisation,
    *,
    teachers: Sequence[Path] = (),
    crops: Path | None = None,
    on_progress: Callable[[Progress], None],
    validate: Callable[[IntrospectionNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train a network on photographs, from pretrained trunks or earlier weights, and write its weights to ``run.out``.

    Under ``torchrun`` the processes share the batches of a step; they need the same files.

    Args:
        teachers: networks that teach beside the initial one: Keras' MobileNet v1 or timm's vision transformers as
            published (safetensors), or geomatch's own weights of introspection or anchors.
        crops: a table of boxes (`geomatch crops`); only what lies in them is then seen.
        validate: scores a network. The weights written are then those of the best score, taken every
            ``validate_every`` steps and at the end.

    Raises:
        InputError: if data, weights or settings cannot be used.
        TrainingError: if the loss diverges.
    """
    run.check_outputs("")
    table = None if crops is None else read_input(crops)
    taught_by = [read_weights_file(path) for path in teachers]
    photographs = _photographs(run, recipe.classes, table)
    reader = ImageReader(len(photographs), run.max_unreadable)
    network, trained = initial_network(run.init, recipe.network)
    recipe = replace(recipe, network=network.config)
    optimisation = optimisation.for_photographs(len(photographs), recipe.batch_size)
    files = run.files()
    settings = {**asdict(recipe), "teachers": [file.sha256 for file in taught_by], "crops": table and table.sha256}
    if run.resume:
        files.check_resumable(settings, optimisation)

    def save() -> None:
        save_weights(run.out, "introspection", asdict(recipe.network), network.state_dict())

    with run.writing(""), torchrun_processes(find_device(run.device)) as processes:
        network.to(processes.device)
        with autocast(processes.device, optimisation.precision):
            teacher = _start(network, photographs, reader, recipe, taught_by, fit_head=not trained)
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


def _photographs(run: TrainingRun, classes: Sequence[str], crops: InputFile | None) -> Sequence[LabelledImage]:
    photographs: Sequence[LabelledImage] = run.photographs()
    if crops is not None:
        photographs = with_crops(photographs, read_crops(crops))
    return with_labels(photographs, classes) if classes else photographs


def initial_network(init: Sequence[Path], config: IntrospectionConfig) -> tuple[IntrospectionNet, bool]:
    """The network that training starts from, and whether its heads have been trained.

    init: published weights of a trunk, for a joint one of both; or weights of introspection, whose settings then
    replace ``config``; none for a network of timm: those that timm publishes. Raises InputError or WeightsError for
    files that do not fit.
    """
    files = [read_weights_file(path) for path in init]
    found = [read_tensors(file) for file in files]
    if len(files) == 1 and found[0][1].get("format") == FORMAT:
        cpu = torch.device("cpu")
        return load_network(files[0], "introspection", IntrospectionConfig, IntrospectionNet, cpu)[0], True
    network = IntrospectionNet(config)
    if init:
        pretrained = {name: tensor for state, _ in found for name, tensor in state.items()}
        load_pretrained(network.trunk, pretrained, ", ".join(map(str, files)))
    else:
        fetch_pretrained(network.trunk)
    return network, False


def _start(
    network: IntrospectionNet,
    photographs: Sequence[LabelledImage],
    reader: ImageReader,
    recipe: IntrospectionRecipe,
    teachers: Sequence[Input],
    *,
    fit_head: bool,
) -> Teacher | None:
    """Fit the descriptor head, unless it has been trained; return the teacher, if the recipe has one."""
    if recipe.similarity_weight == 0:
        if fit_head:
            start_from_principal_components(network, photographs, reader, recipe.view_size, recipe.seed)
        return None
    device = network.descriptor.weight.device
    examples = draw_letterboxes(photographs, reader, recipe.teacher_size, EXAMPLES, recipe.seed, device)
    teacher = build_teacher(network, teachers, recipe, examples, trained=not fit_head)
    if fit_head:
        start_from_teacher(network, teacher, examples)
    return teacher
