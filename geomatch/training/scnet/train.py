"""SCNet, from annotated photographs to a weights file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from geomatch.datasets.image_folder import ImageReader
from geomatch.errors import InputError
from geomatch.features.backbones.base import parse_stage
from geomatch.features.backbones.build import build_trunk, fetch_pretrained, load_pretrained
from geomatch.features.introspection import PHI_FEATURES, IntrospectionConfig, IntrospectionNet
from geomatch.features.scnet import SCNet, SCNetConfig
from geomatch.features.weights import FORMAT, features_of, load_network, read_tensors, read_weights_file, save_weights
from geomatch.io.inputs import InputFile
from geomatch.runtime.device import autocast, find_device
from geomatch.training.distributed import torchrun_processes
from geomatch.training.keypoints.train import read_sources
from geomatch.training.scnet.recipe import SCNetRecipe
from geomatch.training.scnet.task import SCNetTask
from geomatch.training.trainer import Optimisation, Progress, TrainingRun, Validation, train


def train_scnet(
    run: TrainingRun,
    recipe: SCNetRecipe,
    optimisation: Optimisation,
    *,
    images: Path | None = None,
    on_progress: Callable[[Progress], None],
    validate: Callable[[SCNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train SCNet's embeddings of regions on corresponding keypoints, and write its weights to ``run.out``.

    Args and errors are those of `train_keypoints`, but for ``run.init``: weights of introspection, keypoints or scnet,
    or published weights of a trunk, whose stages are then pooled as they are.
    """
    run.check_outputs("")
    network = initial_network(run.init, recipe)
    recipe = replace(recipe, network=network.config)
    sources = read_sources(run.data, recipe, images)
    files = run.files()
    settings = asdict(recipe)
    if run.resume:
        files.check_resumable(settings, optimisation)
    reader = ImageReader(sum(source.photographs for source in sources), run.max_unreadable)

    def save() -> None:
        save_weights(run.out, "scnet", asdict(network.config), network.state_dict())

    with run.writing(""), torchrun_processes(find_device(run.device)) as processes:
        tuned = optimisation.trunk_learning_rate > 0
        task = SCNetTask(recipe, network, sources, reader, processes.device, processes.size, tuned=tuned)
        with task.upcoming:
            task.centre(autocast(processes.device, optimisation.precision))
            train(
                task,
                optimisation,
                files,
                recipe=settings,
                resume=run.resume,
                on_progress=on_progress,
                validation=Validation(validate_every, lambda: validate(network), save) if validate else None,
                processes=processes,
                constrain=task.constrain,
            )
        if processes.is_main and not validate:
            save()


def initial_network(init: Sequence[Path], recipe: SCNetRecipe) -> SCNet:
    """SCNet as training starts, with embeddings of random weights or of earlier training.

    SCNet-AG+ has a second embedding, which starts as a copy of the first. Raises InputError or WeightsError for files
    that do not fit.
    """
    wanted = recipe.network
    files = [read_weights_file(path) for path in init]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if len(files) == 1 and read_tensors(files[0])[1].get("format") == FORMAT:
            earlier = _earlier_network(files[0])
            network = SCNet(replace(wanted, **{**asdict(earlier.config), "variant": wanted.variant}))
            known = earlier.state_dict()
            network.load_state_dict(known, strict=False)
        else:
            network, known = _on_trunk(files, wanted), {}
    if network.geometry is not None and "geometry.weight" not in known:
        network.geometry.load_state_dict(network.appearance.state_dict())
    return network


def _earlier_network(file: InputFile) -> IntrospectionNet:
    feature = features_of(file)
    cpu = torch.device("cpu")
    if feature == "scnet":
        return load_network(file, feature, SCNetConfig, SCNet, cpu)[0]
    if feature in PHI_FEATURES:
        return load_network(file, feature, IntrospectionConfig, IntrospectionNet, cpu)[0]
    raise InputError(
        f"{file}: weights of {feature!r}; training scnet starts from introspection, keypoints, distilled or scnet"
    )


def _on_trunk(files: Sequence[InputFile], wanted: SCNetConfig) -> SCNet:
    """SCNet on a pretrained trunk: phi is the trunk's stages as they are, of unit length."""
    stages = [parse_stage(stage) for stage in wanted.stages]
    channels = build_trunk(wanted.trunk, stages, dilated=True).channels
    network = SCNet(replace(wanted, descriptor_size=sum(channels[stage] for stage in stages)))
    if files:
        state = {name: tensor for file in files for name, tensor in read_tensors(file)[0].items()}
        load_pretrained(network.trunk, state, ", ".join(map(str, files)))
    else:
        fetch_pretrained(network.trunk)
    nn.init.dirac_(network.descriptor.weight)
    nn.init.zeros_(network.descriptor.bias)  # type: ignore[arg-type]
    return network
