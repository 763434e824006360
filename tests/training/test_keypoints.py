"""Learning from keypoints: the drawing of pairs, the loss, and the whole training on a small trunk."""

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.keypoint_pairs import (
    KeypointView,
    ListedPairs,
    ObjectPairs,
    exchanged_names,
    read_keypoint_objects,
    selected_objects,
)
from geomatch.datasets.pairs import AnnotatedPair, ImageFile
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.load import load_features
from geomatch.features.weights import load_weights, save_weights
from geomatch.geometry.homography import WarpRanges
from geomatch.options import Device, Precision
from geomatch.training.augmentation import ColourRanges
from geomatch.training.introspection.loss import DIFFERENT, IGNORED, SAME, introspection_loss, negative_log_likelihood
from geomatch.training.keypoints.loss import contrastive_loss, soft_targets
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.keypoints.task import KeypointTask
from geomatch.training.keypoints.train import read_sources, train_keypoints
from geomatch.training.trainer import Optimisation, Progress, TrainingRun
from tests.datasets.layouts import spair_entry

NAMES = ["left_eye", "nose", "right_eye", "tail"]
PLACES = {"left_eye": (30, 20), "nose": (40, 30), "right_eye": (50, 20), "tail": (70, 60)}
COLOURS = {"left_eye": (255, 0, 0), "nose": (0, 255, 0), "right_eye": (0, 0, 255), "tail": (255, 255, 0)}
PLAIN = ColourRanges(brightness=0, contrast=0, saturation=0, tint=0, shading=0, grey_probability=0)
RECIPE = KeypointRecipe(
    view_size=65,
    batch_size=2,
    context=0,
    similarity_weight=20,
    similarity_cells=30,
    hardest=5,
    warps=WarpRanges(smallest_view=0.9, largest_view=1.4),
)


def write_coco(folder: Path, categories: dict[str, list[str]], count: int = 3) -> Path:
    """``count`` photographs of each category, of 100 x 80 pixels, with a dot of its own colour at each keypoint."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for kind, names in enumerate(categories.values(), 1):
        for _ in range(count):
            number = len(images) + 1
            pixels = np.full((80, 100, 3), 60 + 10 * number, dtype=np.uint8)
            points: list[float] = []
            for name in names:
                x, y = PLACES.get(name, (20, 70))
                pixels[y - 2 : y + 3, x - 2 : x + 3] = COLOURS.get(name, (255, 255, 255))
                points += [x, y, 2]
            Image.fromarray(pixels).save(folder / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 100, "height": 80})
            box = [20.5, 10.5, 60, 60]
            annotations.append(
                {"id": number, "image_id": number, "category_id": kind, "keypoints": points, "bbox": box}
            )
    listed = [{"id": kind, "name": name, "keypoints": own} for kind, (name, own) in enumerate(categories.items(), 1)]
    path = folder / "keypoints.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": listed}))
    return path


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"), {"cat": NAMES, "dog": NAMES})


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of introspection on the first stage of an untrained trunk."""
    torch.manual_seed(0)
    network = IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=16))
    path = tmp_path_factory.mktemp("init") / "introspection.safetensors"
    save_weights(path, "introspection", asdict(network.config), network.state_dict())
    return path


def named_at(view: KeypointView) -> list[str]:
    """The stored name of each point of a view."""
    places = {place: name for name, place in PLACES.items()}
    return [places[int(x), int(y)] for x, y in view.points]


def edited(path: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a COCO file with other top-level values, or other values of every annotation."""
    document = json.loads(path.read_text())
    for key, value in changes.items():
        if key in document:
            document[key] = value
        else:
            for annotation in document["annotations"]:
                annotation[key] = value
    copy = folder / "edited.json"
    copy.write_text(json.dumps(document))
    return copy


def test_exchanged_names_of_many_spellings() -> None:
    for left, right in (
        ("left_eye", "right_eye"),
        ("L_Eye", "R_Eye"),
        ("Left Eye", "Right Eye"),
        ("eye-l", "eye-r"),
        ("LEFT-EAR", "RIGHT-EAR"),
        ("earLeft", "earRight"),
    ):
        exchanged = exchanged_names([left, "nose", right])
        assert exchanged is not None, left
        assert exchanged.tolist() == [2, 1, 0]


@pytest.mark.parametrize("names", [["nose", "tail"], ["1", "2"], ["left_eye", "nose"], ["lip", "roll"], ["bright"], []])
def test_exchanged_names_that_do_not_tell(names: list[str]) -> None:
    assert exchanged_names(names) is None


def test_object_pairs_mirror_with_left_and_right_exchanged(coco: Path) -> None:
    """Over many draws: a mirrored view's left eye is the stored right one, and all four cases of flips occur."""
    pairs = ObjectPairs(read_keypoint_objects(coco), across=0.5, least=3)
    random = np.random.default_rng(0)
    exchanged = {"left_eye": "right_eye", "right_eye": "left_eye"}
    seen, crossings = set(), 0
    for _ in range(60):
        pair = pairs.draw(random)
        views = (pair.first, pair.second)
        meant = [[exchanged.get(name, name) if view.mirrored else name for name in named_at(view)] for view in views]
        assert meant[0] == meant[1]
        assert set(meant[0]) == set(NAMES)
        assert pair.first.image != pair.second.image
        seen.add(tuple(view.mirrored for view in views))
        crossings += len({int(view.image.name[0]) > 3 for view in views}) == 2
    assert len(seen) == 4
    assert 15 <= crossings <= 45


@pytest.mark.parametrize(("across", "crossing"), [(0.0, {False}), (1.0, {True})])
def test_object_pairs_across_categories_or_within(coco: Path, across: float, crossing: set[bool]) -> None:
    pairs = ObjectPairs(read_keypoint_objects(coco), across, least=3)
    random = np.random.default_rng(0)
    drawn = [pairs.draw(random) for _ in range(30)]
    names = [(int(pair.first.image.name[0]), int(pair.second.image.name[0])) for pair in drawn]
    assert {(first > 3) != (second > 3) for first, second in names} == crossing


def test_object_pairs_unsided_names_flip_together(tmp_path: Path) -> None:
    pairs = ObjectPairs(read_keypoint_objects(write_coco(tmp_path, {"cat": ["nose", "tail"]})), 0.5, least=2)
    drawn = [pairs.draw(np.random.default_rng(seed)) for seed in range(20)]
    assert {(pair.first.mirrored, pair.second.mirrored) for pair in drawn} == {(True, True), (False, False)}


def test_object_pairs_two_photographs_are_one_pair(tmp_path: Path) -> None:
    pairs = ObjectPairs(read_keypoint_objects(write_coco(tmp_path, {"cat": NAMES}, count=2)), 0.5, least=3)
    drawn = pairs.draw(np.random.default_rng(0))
    assert {drawn.first.image.name, drawn.second.image.name} == {"1.png", "2.png"}


@pytest.mark.parametrize(
    ("categories", "count", "settings", "said"),
    [
        ({"cat": NAMES}, 1, {}, "no two objects on different photographs share 3 names of keypoints"),
        ({"cat": NAMES[:2]}, 3, {}, "no two objects on different photographs share 3 names"),
        ({"cat": NAMES, "car": ["wheel", "lamp", "door"]}, 3, {}, "no two objects of two categories .* --set across=0"),
        (
            {"cat": NAMES},
            3,
            {"classes": ("cot",)},
            r"no category is named 'cot' \(did you mean 'cat'\?\): there are cat",
        ),
        ({"cat": NAMES}, 3, {"left_out": ("noise",)}, r"no keypoint is named 'noise' \(did you mean 'nose'\?\)"),
    ],
)
def test_read_sources_without_pairs(
    categories: dict[str, list[str]], count: int, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        read_sources([write_coco(tmp_path, categories, count)], replace(RECIPE, **settings))


def test_read_sources_two_files_with_other_names(coco: Path, tmp_path: Path) -> None:
    other = write_coco(tmp_path / "other", {"chat": ["oeil", "nez", "queue"]})
    document = json.loads(other.read_text())
    assert len(document["images"]) == 3
    only = replace(RECIPE, classes=("cat", "chat"))
    with pytest.raises(InputError, match="of two categories"):
        read_sources([coco, other], only)
    assert read_sources([coco, other], replace(only, across=0.0))[0].photographs == 6


def test_selected_objects_leave_names_out(coco: Path) -> None:
    objects = selected_objects(read_keypoint_objects(coco), ["dog"], ["nose"])
    assert {each.category for each in objects} == {"dog"}
    assert objects[0].keypoints.names == ("left_eye", "right_eye", "tail")
    assert objects[0].keypoints.points.tolist() == [[30, 20], [50, 20], [70, 60]]


def test_photograph_of_another_size_than_stated_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path, {"cat": NAMES})
    Image.new("RGB", (80, 100)).save(tmp_path / "1.png")
    first, second = read_keypoint_objects(path)[:2]
    assert second.image.load().shape == (3, 80, 100)
    with pytest.raises(InputError, match=r"is 100x80 pixels there, but 1\.png is 80x100"):
        first.image.load()


def test_read_keypoint_objects_boxes_and_others(coco: Path, tmp_path: Path) -> None:
    """COCO's boxes start at a pixel's corner; without one the keypoints' extent counts."""
    first = read_keypoint_objects(coco)[0]
    assert (first.box, first.others) == ((20.0, 10.0, 80.0, 70.0), ())
    together = read_keypoint_objects(edited(coco, tmp_path, image_id=1, bbox=None), coco.parent)
    assert {each.image.name for each in together} == {"1.png"}
    assert together[0].box == (30.0, 20.0, 70.0, 60.0)
    assert len(together[0].others) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": []}, "has no object with keypoints"),
        ({"keypoints": [0] * 12}, "has no object with keypoints"),
        ({"keypoints": []}, "has no object with keypoints"),
        ({"images": [{"id": n, "file_name": f"no{n}.png"} for n in range(1, 7)]}, "none of its photographs .*--images"),
        ({"images": 3}, "not a COCO file"),
    ],
)
def test_read_keypoint_objects_refuses(change: dict[str, Any], said: str, coco: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_keypoint_objects(edited(coco, tmp_path, **change), coco.parent)


def test_read_keypoint_objects_tells_what_is_left_out(coco: Path, tmp_path: Path) -> None:
    document = json.loads(coco.read_text())
    document["annotations"][0]["keypoints"] = [1, 2]
    document["annotations"][1]["image_id"] = 99
    document["images"][2]["file_name"] = "elsewhere.png"
    (tmp_path / "part.json").write_text(json.dumps(document))
    with pytest.warns(GeomatchWarning, match="2 items left out.*passed over: 1 on photographs that are not in"):
        assert len(read_keypoint_objects(tmp_path / "part.json", coco.parent)) == 3


def test_soft_targets_match_gaussians() -> None:
    cells = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    point = torch.tensor([[0.2, 0.9]], dtype=torch.float64)
    weights = [math.exp(-((x - 0.2) ** 2 + (y - 0.9) ** 2) / (2 * 0.7**2)) for x, y in cells.tolist()]
    expected = [weight / sum(weights) for weight in weights]
    assert soft_targets(point, cells, 0.7)[0].tolist() == pytest.approx(expected, abs=1e-12)
    far = soft_targets(torch.tensor([[900.0, 0.0]], dtype=torch.float64), cells, 0.7)
    assert float(far.sum()) == pytest.approx(1)


def test_contrastive_loss_matches_loops() -> None:
    random = np.random.default_rng(0)
    similarity, temperature = random.uniform(-1, 1, (3, 6)), 0.1
    targets = random.dirichlet(np.ones(6), 3)
    targets[0] = [1 - 2e-4, 1e-4, 1e-4, 0, 0, 0]
    ignored = [False, True, False, True, False, False]
    total = 0.0
    for scores, target in zip(similarity, targets, strict=True):
        counted = [n for n in range(6) if not ignored[n] or target[n] >= 1e-3]
        normaliser = math.log(sum(math.exp(scores[n] / temperature) for n in counted))
        total -= sum(target[n] * (scores[n] / temperature - normaliser) for n in counted)
    found = contrastive_loss(
        torch.from_numpy(similarity), torch.from_numpy(targets), torch.tensor(ignored), temperature
    )
    assert found.shape == (3,)
    assert float(found.sum()) == pytest.approx(total, abs=1e-9)


def test_contrastive_loss_has_finite_gradients_where_cells_are_ignored() -> None:
    similarity = torch.zeros(2, 4, requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    contrastive_loss(similarity, targets, torch.tensor([False, False, True, False]), 0.05).sum().backward()
    assert similarity.grad is not None
    assert similarity.grad.isfinite().all()
    assert similarity.grad[:, 2].abs().sum() == 0


def test_introspection_loss_further_second_points_match_loops() -> None:
    """Seven second points of which three correspond: against the definition, pair by pair."""
    random = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    phi_u, phi_v = (
        torch.nn.functional.normalize(torch.randn(1, n, 5, generator=generator, dtype=torch.float64), dim=2)
        for n in (3, 7)
    )
    sigma_u, sigma_v = (torch.from_numpy(random.uniform(0.1, 1, (1, n))) for n in (3, 7))
    labels = torch.from_numpy(random.choice([SAME, IGNORED, DIFFERENT], (1, 3, 7)).astype(np.int8))

    def likelihood(i: int, j: int, same: bool) -> float:
        score = max(0.0, float(phi_u[0, i] @ phi_v[0, j]))
        loss = torch.tensor(1 - score if same else score, dtype=torch.float64)
        return float(negative_log_likelihood(loss, (sigma_u[0, i] + sigma_v[0, j]) / 2))

    means = []
    for j in range(7):
        counted = [likelihood(i, j, bool(labels[0, i, j] == SAME)) for i in range(3) if labels[0, i, j] != IGNORED]
        means.append(sum(counted) / max(1, len(counted)))
    hardest = sorted(range(7), key=lambda j: -means[j])[:4]
    negatives = [likelihood(i, j, False) for i in range(3) for j in hardest if labels[0, i, j] == DIFFERENT]
    positives = [likelihood(i, i, True) for i in range(3)]
    expected = (sum(positives) / 3 + sum(negatives) / len(negatives)) / 2
    found = introspection_loss((phi_u, sigma_u), (phi_v, sigma_v), labels, 4)
    assert float(found) == pytest.approx(expected, abs=1e-9)


def make_task(coco: Path, recipe: KeypointRecipe = RECIPE, network: IntrospectionNet | None = None) -> KeypointTask:
    torch.manual_seed(0)
    network = network or IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=16))
    sources = read_sources([coco], recipe)
    return KeypointTask(recipe, network, sources, ImageReader(6, 0.2), torch.device("cpu"))


def test_task_views_show_keypoints_where_points_say(coco: Path) -> None:
    """The colour under each point of a rendered view is that of one name in both views, mirrored or not."""
    task = make_task(coco, replace(RECIPE, colours=PLAIN, batch_size=8, view_size=129))
    with task.upcoming:
        _, batch = task.upcoming(0)
    assert batch is not None
    views = batch.render(129)[:, 0]
    points = batch.points.flatten(0, 1).round().long()
    swapped = {0: 2, 2: 0}
    compared = 0
    for pair in range(8):
        shown = [
            [views[2 * pair + side, :, y, x] for x, y in points[2 * pair + side][batch.shared[pair]].tolist()]
            for side in (0, 1)
        ]
        palette = torch.tensor(list(COLOURS.values())) / 255
        named = [[int((palette - colour).norm(dim=1).argmin()) for colour in side] for side in shown]
        mirrored = [[swapped.get(name, name) for name in side] for side in named]
        assert named[1] in (named[0], mirrored[0])
        compared += len(named[0])
    assert compared >= 24


def test_task_ignores_cells_of_other_objects(coco: Path, tmp_path: Path) -> None:
    document = json.loads(coco.read_text())
    others = [{**each, "id": 10 + n, "bbox": [80.5, 0.5, 19, 79]} for n, each in enumerate(document["annotations"])]
    document["annotations"] += others
    (tmp_path / "two.json").write_text(json.dumps(document))
    sources = read_sources([tmp_path / "two.json"], RECIPE, coco.parent)
    network = IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=16))
    task = KeypointTask(RECIPE, network, sources, ImageReader(6, 0), torch.device("cpu"))
    with task.upcoming:
        batches = [task.upcoming(number)[1] for number in range(4)]
    ignored = torch.cat([batch.ignored for batch in batches if batch is not None])
    assert 0 < ignored.float().mean() < 0.6
    with make_task(coco).upcoming as upcoming:
        alone = upcoming(0)[1]
    assert alone is not None
    assert not alone.ignored.any()


def test_task_gradient_reaches_every_used_layer(coco: Path) -> None:
    task = make_task(coco)
    with task.upcoming:
        step = task.loss(0, nullcontext())
    step.loss.backward()
    assert set(step.report) == {"likelihood", "contrastive", "sigma", "similarity"}
    assert step.images == 4
    beyond = ("trunk.stages.2", "trunk.stages.3", "trunk.final_bn")  # the heads read stage 1
    used = {name: each for name, each in task.network.named_parameters() if not name.startswith(beyond)}
    assert len(used) > 30
    assert [name for name, each in used.items() if each.grad is None or not each.grad.any()] == []
    assert all(parameter.grad is None for parameter in task.initial.parameters())


def test_task_similarity_is_zero_at_the_start_and_grows(coco: Path) -> None:
    task = make_task(coco)
    with task.upcoming:
        assert float(task.loss(0, nullcontext()).report["similarity"]) == pytest.approx(0, abs=1e-12)
        torch.nn.init.normal_(task.network.descriptor.weight)
        assert float(task.loss(0, nullcontext()).report["similarity"]) > 1e-4


def test_task_batch_independent_of_order(coco: Path) -> None:
    task = make_task(coco)
    with task.upcoming:
        in_turn = [task.loss(batch, nullcontext()).loss.item() for batch in range(4)]
        assert len(set(in_turn)) == 4
        assert [task.loss(batch, nullcontext()).loss.item() for batch in (3, 0)] == [in_turn[3], in_turn[0]]


def test_task_keypoints_outside_their_photographs(coco: Path, tmp_path: Path) -> None:
    far = edited(coco, tmp_path, keypoints=[9000, 9000, 2] * 4)
    task = KeypointTask(
        RECIPE,
        IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=16)),
        read_sources([far], RECIPE, coco.parent),
        ImageReader(6, 0),
        torch.device("cpu"),
    )
    with task.upcoming, pytest.raises(InputError, match="no pair has keypoints that lie on both"):
        task.loss(0, nullcontext())


def interrupting(after: int | None) -> tuple[list[Progress], Callable[[str, Progress], None]]:
    """A list, and what notes the progress of a training in it and presses Ctrl-C after a step, if one is given."""
    reported: list[Progress] = []

    def on_progress(part: str, progress: Progress) -> None:
        if part == "training":
            reported.append(progress)
            if progress.step == after:
                raise KeyboardInterrupt

    return reported, on_progress


def run(data: Path, init: Path, out: Path, steps: int = 3, **more: Any) -> list[Progress]:
    reported, on_progress = interrupting(more.pop("interrupt_after", None))
    optimisation = Optimisation(steps=steps, warmup_steps=1, trunk_learning_rate=1e-3, precision=Precision.float32)
    training = TrainingRun([data], [init], out, Device.cpu, **more)
    train_keypoints(training, RECIPE, optimisation, on_progress=on_progress)
    return reported


def test_train_keypoints_makes_features_and_resumes_to_same_bytes(coco: Path, init: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    assert [progress.step for progress in run(coco, init, whole)] == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        run(coco, init, parted, interrupt_after=1)
    assert not parted.exists()
    run(coco, init, parted, resume=True)
    assert parted.read_bytes() == whole.read_bytes()

    weights = load_weights(whole)
    assert (weights.feature, weights.config["descriptor_size"]) == ("keypoints", 16)
    features = load_features("keypoints", working_size=64, device=torch.device("cpu"), weights=whole)
    found = features(torch.zeros(3, 60, 64, dtype=torch.uint8))
    assert (features.name, found.descriptors.shape[0]) == ("keypoints", 16)
    assert found.inverse_confidence is not None
    again = tmp_path / "again.safetensors"
    assert len(run(coco, whole, again, steps=1)) == 1  # goes on from weights of its own


def test_train_keypoints_learns_to_find_dots(coco: Path, init: Path, tmp_path: Path) -> None:
    """The keypoints are dots of different colours, so a few steps must lower the contrastive loss."""
    reports = [progress.report["contrastive"] for progress in run(coco, init, tmp_path / "o.safetensors", steps=25)]
    assert np.mean(reports[-5:]) < np.mean(reports[:5]) - 0.3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("none.json", "none.json: no such file"),
        ("empty", "empty: has no training pairs of SPair-71k"),
        ("text.json", "text.json: not JSON"),
    ],
)
def test_train_keypoints_bad_data(data: str, said: str, init: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.json").write_text("no")
    with pytest.raises(InputError, match=said):
        run(tmp_path / data, init, tmp_path / "out.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "text.json"}


def test_train_keypoints_refuses_other_weights(coco: Path, anchor_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weights of 'anchornet'; give those of introspection, keypoints or distilled"):
        run(coco, anchor_weights, tmp_path / "out.safetensors")


def test_train_keypoints_damaged_photograph_is_replaced_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    copy = write_coco(folder, {"cat": NAMES}, count=5)
    (folder / "2.png").write_bytes(b"no picture")
    network = IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=16))
    sources = read_sources([copy], RECIPE)
    task = KeypointTask(RECIPE, network, sources, ImageReader(5, 0.2), torch.device("cpu"))
    with task.upcoming:
        found = [task.loss(batch, nullcontext()) for batch in range(5)]
    assert [loss.images for loss in found] == [4] * 5
    assert [name for loss in found for name in loss.unreadable] == ["2.png"]
    strict = KeypointTask(RECIPE, network, sources, ImageReader(5, 0), torch.device("cpu"))
    batches = (strict.loss(batch, nullcontext()) for batch in range(5))
    with strict.upcoming, pytest.raises(InputError, match=r"1 of 5 photographs cannot be read.*2\.png"):
        list(batches)


def test_read_sources_spair_training_pairs(tmp_path: Path) -> None:
    """SPair's list for training; its points have no names, so both photographs are mirrored or neither."""
    root = tmp_path / "SPair-71k"
    (root / "JPEGImages" / "cat").mkdir(parents=True)
    for name in ("x.jpg", "y.jpg"):
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / "cat" / name)
    (root / "PairAnnotation" / "trn").mkdir(parents=True)
    (root / "PairAnnotation" / "trn" / "0-x-y:cat.json").write_text(json.dumps(spair_entry()))
    with pytest.warns(GeomatchWarning, match="of the 53,340 pairs"):
        (source,) = read_sources([root], RECIPE)
    assert source.photographs == 2
    drawn = [source.draw(np.random.default_rng(seed)) for seed in range(12)]
    assert {(pair.first.mirrored, pair.second.mirrored) for pair in drawn} == {(True, True), (False, False)}
    assert drawn[0].first.box is not None
    with pytest.warns(GeomatchWarning), pytest.raises(InputError, match="no pair has keypoints"):
        read_sources([root], replace(RECIPE, classes=("dog",)))
    with pytest.raises(InputError, match="--set left_out is for COCO files"):
        read_sources([root], replace(RECIPE, left_out=("nose",)))


def test_listed_pairs_need_keypoints() -> None:
    image = ImageFile(Path("a.png"), "a.png")
    with pytest.raises(InputError, match="no pair has keypoints"):
        ListedPairs([AnnotatedPair(image, image, "cat")])
