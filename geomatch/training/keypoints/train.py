"""Learning from keypoints, from annotated photographs to a weights file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.keypoint_pairs import (
    ListedPairs,
    ObjectPairs,
    PairSource,
    read_keypoint_objects,
    selected_objects,
)
from geomatch.datasets.load import find_benchmark, load_dataset
from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.weights import features_of, load_network, read_weights_file, save_weights
from geomatch.runtime.device import find_device
from geomatch.training.distributed import torchrun_processes
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.keypoints.task import KeypointTask
from geomatch.training.keypoints.views import ViewRecipe
from geomatch.training.trainer import Optimisation, Progress, TrainingRun, Validation, train

BENCHMARKS = ("spair-71k", "pf-pascal")
"""Those whose list of pairs for training, ``trn``, can be learnt from."""


def train_keypoints(
    run: TrainingRun,
    recipe: KeypointRecipe,
    optimisation: Optimisation,
    *,
    images: Path | None = None,
    on_progress: Callable[[Progress], None],
    validate: Callable[[IntrospectionNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train a network of introspection further on corresponding keypoints, and write its weights to ``run.out``.

    Under ``torchrun`` the processes share the batches of a step; they need the same files.

    Args:
        run: its ``data`` are COCO files of keypoints, and folders of SPair-71k or PF-PASCAL; its ``init`` weights of
            introspection or keypoints.
        images: photographs of the COCO files, as for `find_images`; by default in the folder of each.
        validate: scores a network. The weights written are then those of the best score, taken every
            ``validate_every`` steps and at the end.

    Raises:
        InputError: if data, weights or settings cannot be used.
        TrainingError: if the loss diverges.
    """
    run.check_outputs("")
    network = _initial_network(run.only_init())
    sources = read_sources(run.data, recipe, images)
    files = run.files()
    settings = {**asdict(recipe), "network": asdict(network.config)}
    if run.resume:
        files.check_resumable(settings, optimisation)
    reader = ImageReader(sum(source.photographs for source in sources), run.max_unreadable)

    def save() -> None:
        save_weights(run.out, "keypoints", asdict(network.config), network.state_dict())

    with run.writing(""), torchrun_processes(find_device(run.device)) as processes:
        task = KeypointTask(recipe, network, sources, reader, processes.device, processes.size)
        with task.upcoming:
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


def read_sources(data: Sequence[Path], recipe: ViewRecipe, images: Path | None = None) -> list[PairSource]:
    """Where pairs are drawn from: one source for all COCO files, and one for each benchmark. Raises InputError."""
    folders = [path for path in data if path.is_dir()]
    files = [path for path in data if not path.is_dir()]
    sources: list[PairSource] = []
    if files:
        objects = [each for file in files for each in read_keypoint_objects(file, images)]
        chosen = selected_objects(objects, recipe.classes, recipe.left_out)
        sources.append(ObjectPairs(chosen, recipe.across, recipe.least_shared))
    elif recipe.left_out or images:
        option = "--images" if images else "--set left_out"
        raise InputError(f"{option} is for COCO files, and --data names none")
    return sources + [_listed(folder, recipe.classes) for folder in folders]


def _listed(folder: Path, classes: Sequence[str]) -> ListedPairs:
    """The training pairs in the folder of a benchmark. Raises InputError."""
    for name in BENCHMARKS:
        if "trn" in find_benchmark(name).splits(folder):
            pairs = load_dataset(name, folder, split="trn").pairs
            return ListedPairs([pair for pair in pairs if not classes or pair.category in classes])
    raise InputError(f"{folder}: has no training pairs of SPair-71k (PairAnnotation/trn) or PF-PASCAL (trn_pairs.csv)")


def _initial_network(init: Path) -> IntrospectionNet:
    file = read_weights_file(init)
    feature = features_of(file)
    if feature not in ("introspection", "keypoints"):
        raise InputError(f"{init}: weights of {feature!r}; training keypoints starts from introspection or keypoints")
    return load_network(file, feature, IntrospectionConfig, IntrospectionNet, torch.device("cpu"))[0]
