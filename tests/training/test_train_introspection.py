"""The whole training road on a small trunk and a handful of photographs."""

import json
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.pascal_ilsvrc import is_synset, synset_classes
from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.weights import load_weights
from geomatch.options import Batches, Device, Precision
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.introspection.task import IntrospectionTask
from geomatch.training.introspection.train import train_introspection
from geomatch.training.trainer import Optimisation, Progress, TrainingRun

RECIPE = IntrospectionRecipe(
    network=IntrospectionConfig(stages=("1",), descriptor_size=16),
    view_size=64,
    batch_size=2,
    points=40,
    hardest=5,
    similarity_cells=40,
    teacher_size=65,
)


def run(
    data: Path,
    init: Path,
    out: Path,
    recipe: IntrospectionRecipe = RECIPE,
    steps: int = 3,
    *,
    resume: bool = False,
    interrupt_after: int | None = None,
) -> list[Progress]:
    reported: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        reported.append(progress)
        if progress.step == interrupt_after:
            raise KeyboardInterrupt

    optimisation = Optimisation(steps=steps, warmup_steps=1, trunk_learning_rate=1e-3, precision=Precision.float32)
    training = TrainingRun([data], [init], out, Device.cpu, resume=resume)
    train_introspection(training, recipe, optimisation, on_progress=on_progress)
    return reported


@pytest.fixture(scope="module")
def trained(shards: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    """The weights of a whole training of three steps, and the progress reported."""
    out = tmp_path_factory.mktemp("trained") / "out.safetensors"
    return out, run(shards, init, out)


def test_train_introspection_moves_every_used_layer(
    trained: tuple[Path, list[Progress]], shards: Path, init: Path, tmp_path: Path
) -> None:
    out, reported = trained
    run(shards, init, tmp_path / "start.safetensors", steps=1)  # warm-up: barely moved
    assert [progress.step for progress in reported] == [1, 2, 3]
    assert set(reported[0].report) == {"loss", "likelihood", "sigma", "similarity"}
    ended, start = (load_weights(path).state for path in (out, tmp_path / "start.safetensors"))
    used = [name for name in ended if not name.startswith(("trunk.stages.2", "trunk.stages.3", "trunk.final_bn"))]
    still = [name for name in used if torch.equal(ended[name], start[name])]
    assert still == ["trunk.stages.2.0.bn1.weight"] or not still
    log = [json.loads(line) for line in out.with_name("out.safetensors.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 1, 2]
    assert out.with_name("out.safetensors.checkpoint").is_file()


def test_train_introspection_resume_without_checkpoint(
    shards: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageReader, "read", lambda *_: pytest.fail("photographs are read"))
    with pytest.raises(InputError, match=r"out\.safetensors\.checkpoint: no checkpoint to resume from"):
        run(shards, init, tmp_path / "out.safetensors", resume=True)
    assert not list(tmp_path.iterdir())


def test_train_introspection_resumed_gives_same_bytes(
    trained: tuple[Path, list[Progress]], shards: Path, init: Path, tmp_path: Path
) -> None:
    threads = set(threading.enumerate())
    again = tmp_path / "again.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(shards, init, again, interrupt_after=1)
    assert not again.exists()
    assert set(threading.enumerate()) == threads
    assert [progress.step for progress in run(shards, init, again, resume=True)] == [2, 3]
    assert set(threading.enumerate()) == threads
    assert again.read_bytes() == trained[0].read_bytes()


def test_task_batch_independent_of_order(shards: Path) -> None:
    photographs = find_images([shards])
    torch.manual_seed(0)
    network = IntrospectionNet(RECIPE.network)

    def losses(batches: list[int], stride: int) -> list[float]:
        reader = ImageReader(len(photographs), 0)
        recipe = replace(RECIPE, similarity_weight=0)
        task = IntrospectionTask(recipe, network, photographs, reader, torch.device("cpu"), stride=stride)
        with task.load.upcoming:
            return [task.loss(batch, nullcontext()).loss.item() for batch in batches]

    in_turn = losses(list(range(8)), 1)
    assert len(set(in_turn)) == 8
    assert losses([6], 1) == in_turn[6:7]
    assert losses([1, 4, 7], 3) == in_turn[1::3]
    assert losses([5, 2, 2], 1) == [in_turn[batch] for batch in (5, 2, 2)]


def test_train_introspection_unlabelled_needs_mixed_batches(init: Path, tmp_path: Path) -> None:
    data = tmp_path / "photographs"
    data.mkdir()
    for index in range(3):
        Image.effect_noise((90, 70), 80).save(data / f"{index}.png")
    with pytest.raises(InputError, match="--set batches=mixed"):
        run(data, init, tmp_path / "out.safetensors")
    paper = IntrospectionRecipe(
        network=RECIPE.network,
        view_size=64,
        batch_size=2,
        batches=Batches.mixed,
        points=40,
        hardest=5,
        similarity_weight=0,
    )
    reported = run(data, init, tmp_path / "out.safetensors", paper, steps=1)
    assert set(reported[0].report) == {"loss", "likelihood", "sigma"}


def test_train_introspection_needs_data(init: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photographs"):
        run(tmp_path, init, tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="no such folder"):
        run(tmp_path / "none", init, tmp_path / "out.safetensors")
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match=r"bad\.tar: cannot be read"):
        run(tmp_path / "bad.tar", init, tmp_path / "out.safetensors")


def test_find_images_label_table_without_columns(shards: Path, init: Path, tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes((shards / "shard-0.tar").read_bytes())
    (tmp_path / "labels.csv").write_text("name,what\n")
    with pytest.raises(InputError, match=r"labels\.csv.*columns file, labels"):
        run(tmp_path, init, tmp_path / "out.safetensors")


def test_task_damaged_photograph_replaced_and_named(init: Path, tmp_path: Path) -> None:
    data = tmp_path / "photographs" / "cat"
    data.mkdir(parents=True)
    for index in range(4):
        Image.effect_noise((90, 70), 80).save(data / f"{index}.png")
    (data / "4.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1 of 5 photographs cannot be read, more than the 1\.0%.*4\.png"):
        run(data.parent, init, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()

    network = IntrospectionNet(RECIPE.network)
    photographs = find_images([data.parent])
    whole = replace(RECIPE, batch_size=4)
    task = IntrospectionTask(whole, network, photographs, ImageReader(5, 0.2), torch.device("cpu"))
    found = [task.loss(batch, nullcontext()) for batch in range(6)]
    assert [loss.images for loss in found] == [8] * 6  # another photograph stands in
    assert [name for loss in found for name in loss.unreadable] == ["cat/4.png"]


def test_find_images_synset_folders(tmp_path: Path) -> None:
    for folder in ("n02690373", "n02123045", "n01440764", "teapot"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.JPEG")
    found = {photograph.path.parent.name: photograph.labels for photograph in find_images([tmp_path])}
    assert found == {
        "n02690373": ("aeroplane",),
        "n02123045": ("cat",),
        "n01440764": ("background",),
        "teapot": ("teapot",),
    }


def test_synset_classes_published_231() -> None:
    classes = synset_classes()
    assert len(classes) == 231
    assert len(set(classes.values())) == 20
    assert all(is_synset(name) for name in classes)


def test_train_introspection_goes_on_from_its_own_weights(
    trained: tuple[Path, list[Progress]], shards: Path, tmp_path: Path
) -> None:
    """Without a step the weights stay as they are: neither trunk nor head is fitted again."""
    out = tmp_path / "finer.safetensors"
    other = replace(RECIPE, network=IntrospectionConfig(stages=("2",), descriptor_size=32))
    optimisation = Optimisation(steps=1, wise_ft_alpha=0.0, precision=Precision.float32)
    training = TrainingRun([shards], [trained[0]], out, Device.cpu)
    train_introspection(training, other, optimisation, on_progress=lambda _: None)
    before, after = (load_weights(path) for path in (trained[0], out))
    assert after.config == before.config
    assert [name for name in before.state if not torch.equal(before.state[name], after.state[name])] == []
