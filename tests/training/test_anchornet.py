"""AnchorNet's losses against loops over the paper's sums, and its training as a whole on a handful of photographs."""

import itertools
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import LabelledImage
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.load import load_features
from geomatch.features.weights import load_weights
from geomatch.options import Device, Discriminability, Precision
from geomatch.training.anchornet import task
from geomatch.training.anchornet import train as anchornet
from geomatch.training.anchornet.loss import (
    auxiliary_loss,
    discriminability_loss,
    filter_diversity_loss,
    reconstruction_loss,
    response_diversity_loss,
)
from geomatch.training.anchornet.recipe import AnchorRecipe
from geomatch.training.anchornet.start import fit_code, fit_means, fit_taps
from geomatch.training.anchornet.train import train_anchornet, with_known_labels
from geomatch.training.letterbox import Letterbox
from geomatch.training.trainer import Optimisation, Progress, TrainingRun

RECIPE = AnchorRecipe(
    network=AnchorConfig(classes=("car", "cat"), stages=("1", "2"), tap_size=8, stride=8, filters=4, code_size=6),
    view_size=64,
    batch_size=2,
    code_steps=2,
    held_out=0,
    example_size=65,
)


def activations(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_discriminability_loss_matches_loops() -> None:
    z, labels = activations(), torch.tensor([[1.0, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    b = torch.randn(2, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    printed = discriminability_loss(z, labels, b, Discriminability.printed)
    bounded = discriminability_loss(z, labels, b, Discriminability.bounded)
    for image, bank in itertools.product(range(3), range(2)):
        y = float(labels[image, bank])
        psi = [math.log1p(math.exp(float(z[image, bank, k].max()))) for k in range(4)]
        assert float(printed[image, bank]) == pytest.approx(-y * sum(psi))
        logistic = [math.log1p(math.exp(-y * float(z[image, bank, k].max() - b[bank, k]))) for k in range(4)]
        assert float(bounded[image, bank]) == pytest.approx(sum(logistic))


def test_discriminability_loss_bounded_only_in_our_form() -> None:
    strong = torch.full((1, 1, 1, 1, 1), 1e4)
    assert float(discriminability_loss(strong, torch.ones(1, 1), torch.zeros(1, 1), Discriminability.printed)) == -1e4
    assert float(discriminability_loss(strong, torch.ones(1, 1), torch.zeros(1, 1), Discriminability.bounded)) == 0


def test_auxiliary_loss_matches_loops() -> None:
    z = activations()
    found = auxiliary_loss(z)
    for image, bank in itertools.product(range(3), range(2)):
        expected = sum(np.maximum(z[image, bank, k].numpy(), 0).mean() for k in range(4))
        assert float(found[image, bank]) == pytest.approx(expected)


def test_filter_diversity_loss_matches_loops() -> None:
    filters = torch.randn(2, 4, 5, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = filter_diversity_loss(filters)
    for bank in range(2):
        expected = 0.0
        for i, j in itertools.permutations(range(4), 2):
            at_places = [
                F.cosine_similarity(filters[bank, i, :, y, x], filters[bank, j, :, y, x], dim=0)
                for y, x in itertools.product(range(3), range(3))
            ]
            expected += abs(float(sum(at_places)))
        assert float(found[bank]) == pytest.approx(expected)


def test_filter_diversity_loss_opposite_signs_cancel() -> None:
    filters = torch.zeros(1, 2, 1, 3, 3)
    filters[0, :, 0, 0, 0] = 1
    filters[0, :, 0, 2, 2] = torch.tensor([1.0, -1.0])
    assert float(filter_diversity_loss(filters)) == 0


def test_response_diversity_loss_matches_loops() -> None:
    responses = F.softplus(activations(2))[0]
    found = response_diversity_loss(responses)
    for bank in range(2):
        maps = responses[bank].flatten(1)
        pairs = itertools.permutations(range(4), 2)
        expected = sum(float(F.cosine_similarity(maps[i], maps[j], dim=0)) ** 2 for i, j in pairs)
        assert float(found[bank]) == pytest.approx(expected)


def test_reconstruction_loss_matches_transposed_convolution() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 5, 3, 4, generator=generator)
    kept = (torch.rand(2, 5, generator=generator) > 0.3).float()
    filters = torch.randn(3, 5, generator=generator)
    expected = 0.0
    for image in range(2):
        left_out = x[image : image + 1] * kept[image, None, :, None, None]
        kernels = filters[:, :, None, None]
        restored = F.conv_transpose2d(F.conv2d(left_out, kernels), kernels)[0]
        expected += float((x[image] / x[image].norm() - restored / restored.norm()).square().sum()) / 2
    assert float(reconstruction_loss(x, kept, filters)) == pytest.approx(expected, rel=1e-5)


def test_reconstruction_loss_zero_for_spanning_code() -> None:
    mixing = torch.linalg.qr(torch.randn(6, 3, generator=torch.Generator().manual_seed(4))).Q
    x = torch.einsum("rl,blhw->brhw", mixing, torch.randn(2, 3, 4, 4))
    assert float(reconstruction_loss(x, torch.ones(2, 6), mixing.mT)) == pytest.approx(0, abs=1e-6)


def small_network(mean_share: float = 0) -> AnchorNet:
    torch.manual_seed(0)
    return AnchorNet(replace(RECIPE.network, mean_share=mean_share)).eval()


EXAMPLES = [
    Letterbox(torch.rand(1, 3, 65, 65, generator=torch.Generator().manual_seed(seed)), (65, 65)) for seed in range(3)
]


def test_fit_taps_components_centred_and_uncorrelated() -> None:
    network = small_network()
    fit_taps(network, EXAMPLES)
    with torch.no_grad():
        maps = [network.trunk(example.image, [2])[2] for example in EXAMPLES]
        components = torch.cat([network.taps[1](each)[0].flatten(1) for each in maps], dim=1).double()
    covariance = torch.cov(components)
    spread = covariance.diagonal()
    assert float(components.mean(dim=1).abs().max()) < 1e-3 * float(spread.max().sqrt())
    assert torch.equal(spread.sort(descending=True).values, spread)
    assert float((covariance - covariance.diag().diag()).abs().max()) < 1e-3 * float(spread.max())


@pytest.mark.parametrize("mean_share", [0, 0.5, 1])
def test_fit_code_mean_and_principal_directions(mean_share: float) -> None:
    network = small_network(mean_share)
    fit_code(network, EXAMPLES)
    with torch.no_grad():
        responses = torch.cat([F.softplus(network(example.image))[0].flatten(1) for example in EXAMPLES], dim=1)
    torch.testing.assert_close(network.mean_response, responses.mean(dim=1), rtol=1e-4, atol=1e-5)
    x = (responses - mean_share * responses.mean(dim=1, keepdim=True)).double().numpy()
    left = np.linalg.svd(x, full_matrices=False)[0][:, : RECIPE.network.code_size]
    filters = network.encoder.weight[:, :, 0, 0].detach().double().numpy()
    np.testing.assert_allclose(filters.T @ filters, left @ left.T, atol=1e-4)


def test_fit_means_subtracted_from_descriptors() -> None:
    network = small_network()
    fit_code(network, EXAMPLES)
    fit_means(network, EXAMPLES)
    bank = slice(RECIPE.network.filters, 2 * RECIPE.network.filters)
    with torch.no_grad():
        responses = [F.softplus(network(example.image)) for example in EXAMPLES]
        for only, said in ((None, network.encode), (bank, lambda all_responses: all_responses[:, bank])):
            units = [F.normalize(said(each), dim=1)[0].flatten(1) for each in responses]
            common = torch.cat(units, dim=1).mean(dim=1, keepdim=True)
            expected = F.normalize(units[0] - common, dim=0)
            found = network.descriptors(responses[0], only)[0].flatten(1)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_code_task_leaves_out_a_quarter_of_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask that the loss gets has 2 zeros of 8 channels for each view, not the same for all."""
    kept: list[torch.Tensor] = []

    def loss(centred: torch.Tensor, mask: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        kept.append(mask)
        return reconstruction_loss(centred, mask, filters)

    monkeypatch.setattr(task, "reconstruction_loss", loss)
    images = noisy_photographs(tmp_path, ("car",), ("car",))
    views = task.LabelledViews(RECIPE, images, ImageReader(2, 0), torch.device("cpu"))
    learnt = task.CodeTask(small_network(), views)
    for batch in range(3):
        assert math.isfinite(float(learnt.loss(batch, nullcontext()).loss.detach()))
    masks = torch.cat(kept)
    assert masks.shape == (3 * 2 * 2, 8)
    assert ((masks == 0).sum(dim=1) == 2).all()
    assert ((masks == 0) | (masks == 1)).all()
    assert len({tuple(mask.tolist()) for mask in masks}) > 3


def test_labelled_views_label_both_views(tmp_path: Path) -> None:
    """1 for the classes that a photograph shows, -1 for the others, for both of its views."""
    images = noisy_photographs(tmp_path, ("car",), ("cat", "car"))
    views = task.LabelledViews(RECIPE, images, ImageReader(2, 0), torch.device("cpu"))
    seen = set()
    for batch in range(4):
        pixels, pairs, unreadable = views(batch)
        labels = pairs.labels
        assert (pixels.shape, labels.shape, unreadable) == ((4, 3, 64, 64), (4, 2), ())
        assert torch.equal(labels[0::2], labels[1::2])
        assert pairs.shown.tolist() == [number for number, label in enumerate(labels.flatten()) if label == 1]
        assert sorted(pairs.shown.tolist() + pairs.absent.tolist()) == list(range(8))
        seen |= {tuple(row) for row in labels.tolist()}
    assert seen == {(1.0, -1.0), (1.0, 1.0)}


def noisy_photographs(folder: Path, *labels: tuple[str, ...]) -> list[LabelledImage]:
    random = np.random.default_rng(0)
    images = [LabelledImage(f"{n}.png", folder / f"{n}.png", each) for n, each in enumerate(labels)]
    for image in images:
        Image.fromarray(random.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(folder / image.name)
    return images


def photographs(**counts: int) -> list[LabelledImage]:
    return [
        LabelledImage(f"{label}/{n}", Path(label), (label,)) for label, count in counts.items() for n in range(count)
    ]


def test_with_known_labels_drops_others_and_warns() -> None:
    everything = [*photographs(cat=60, car=3, bird=2, background=4), LabelledImage("both", Path("x"), ("cat", "bird"))]
    with pytest.warns(GeomatchWarning, match=r"few photographs of car \(3\).*--classes"):
        kept = with_known_labels(everything, ("car", "cat"))
    assert len(kept) == 60 + 3 + 4 + 1
    assert kept[-1].labels == ("cat",)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"cat": 60}, r"no photograph is labelled car \(did you mean 'cat'\?\): the labels are cat"),
        ({"background": 3}, "none has a label"),
    ],
)
def test_with_known_labels_class_without_photograph(counts: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_known_labels(photographs(**counts), ("car", "cat"))


def learn(
    data: Path,
    start: Path,
    out: Path,
    recipe: AnchorRecipe = RECIPE,
    *,
    steps: int = 3,
    trunk_learning_rate: float = 0,
    resume: bool = False,
    stop: tuple[str, int] | None = None,
) -> list[tuple[str, Progress]]:
    reported: list[tuple[str, Progress]] = []

    def on_progress(what: str, progress: Progress) -> None:
        reported.append((what, progress))
        if (what, progress.step) == stop:
            raise KeyboardInterrupt

    rates = {"head_learning_rate": 1e-2, "trunk_learning_rate": trunk_learning_rate}
    optimisation = Optimisation(steps=steps, warmup_steps=1, precision=Precision.float32, **rates)
    run = TrainingRun([data], [start], out, Device.cpu, resume=resume)
    train_anchornet(run, recipe, optimisation, on_progress=on_progress)
    return reported


pytestmark = pytest.mark.filterwarnings("ignore:few photographs")


@pytest.fixture(scope="module")
def learnt(
    shards: Path, init: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[str, Progress]]]:
    """The weights of a whole training, and the progress reported."""
    out = tmp_path_factory.mktemp("learnt") / "anchors.safetensors"
    return out, learn(shards, init, out)


def test_train_anchornet_weights_give_descriptors(
    learnt: tuple[Path, list[tuple[str, Progress]]],
) -> None:
    out, reported = learnt
    assert [(what, progress.step) for what, progress in reported] == [
        ("banks", 1), ("banks", 2), ("banks", 3), ("code", 1), ("code", 2),
    ]  # fmt: skip
    assert all(math.isfinite(value) for _, progress in reported for value in progress.report.values())
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    for name, size in (("anchornet", 6), ("anchornet:cat", 4)):
        found = load_features(name, working_size=96, device=torch.device("cpu"), weights=out)(image)
        assert found.descriptors.shape == (size, 8, 12)
        torch.testing.assert_close(found.descriptors.norm(dim=0), torch.ones(8, 12))
    with pytest.raises(InputError, match="no anchors of 'dog' here: the classes are car, cat"):
        load_features("anchornet:dog", working_size=96, device=torch.device("cpu"), weights=out)


def test_train_anchornet_trunk_changes_only_if_tuned(
    learnt: tuple[Path, list[tuple[str, Progress]]], shards: Path, init: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.safetensors"
    learn(shards, init, tuned, replace(RECIPE, code_steps=0), steps=1, trunk_learning_rate=1e-2)
    network = load_features("hypercolumn:1", working_size=64, device=torch.device("cpu"), weights=init)
    before = network.trunk.stem["conv"].weight.half().float()  # type: ignore[attr-defined]
    assert torch.equal(load_weights(learnt[0]).state["trunk.stem.conv.weight"], before)
    assert not torch.equal(load_weights(tuned).state["trunk.stem.conv.weight"], before)


def test_train_anchornet_resumed_in_each_part(
    learnt: tuple[Path, list[tuple[str, Progress]]], shards: Path, init: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts.safetensors"
    for stop in (("banks", 2), ("code", 1)):
        with pytest.raises(KeyboardInterrupt):
            learn(shards, init, parts, stop=stop, resume=stop[0] == "code")
        assert not parts.exists()
    learn(shards, init, parts, resume=True)
    assert parts.read_bytes() == learnt[0].read_bytes()


def test_train_anchornet_resume_without_checkpoint(
    shards: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageReader, "read", lambda *_: pytest.fail("photographs are read"))
    out = tmp_path / "out.safetensors"
    with pytest.raises(InputError, match=r"out\.safetensors\.banks\.checkpoint: no checkpoint to resume from"):
        learn(shards, init, out, resume=True)
    assert not list(tmp_path.iterdir())


def test_train_anchornet_resume_with_other_settings(
    learnt: tuple[Path, list[tuple[str, Progress]]], shards: Path, init: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageReader, "read", lambda *_: pytest.fail("photographs are read"))
    with pytest.raises(InputError, match=r"banks\.checkpoint: made with other settings: optimisation\.steps was 3"):
        learn(shards, init, learnt[0], steps=4, resume=True)


def test_train_anchornet_too_large_for_memory(
    shards: Path,
    init: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(anchornet, "memory_bytes", lambda _: 1 << 30)
    big = replace(RECIPE, network=replace(RECIPE.network, filters=200_000))
    with pytest.raises(InputError, match=r"2 classes of 200000 filters need about .* GiB .* there are 1\.0.*filters=K"):
        learn(shards, init, tmp_path / "big.safetensors", big)


def test_bytes_needed_grows_with_settings() -> None:
    paper = AnchorConfig(tuple(map(str, range(20))), stages=("1", "3", "4"), tap_size=256, stride=4, filters=200)
    fewer = [replace(paper, filters=100), replace(paper, classes=paper.classes[:10]), replace(paper, stride=8)]
    needed = replace(RECIPE, network=paper, view_size=224).bytes_needed
    # The filters, their gradients and two moments alone: 4 x 4 bytes x 20 x 200 x 9 x 768.
    assert needed > 16 * 20 * 200 * 9 * 768
    assert all(replace(RECIPE, network=each, view_size=224).bytes_needed < needed for each in fewer)
