from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.datasets.pairs import AnnotatedPair, ImageFile, PairDataset
from geomatch.errors import GeomatchWarning, InputError
from geomatch.evaluation import runner
from geomatch.evaluation.examples import draw_examples
from geomatch.evaluation.protocols import DEFAULT, EVERY, find_protocols
from geomatch.evaluation.results import to_record
from geomatch.evaluation.runner import Outcome, run, selection_file
from geomatch.features.base import FeatureExtractor
from geomatch.options import PresetSettings
from geomatch.pipeline import Pipeline
from tests.conftest import random_features


class Counting(FeatureExtractor):
    """Random features that depend on the picture, and how often they were asked for."""

    name, working_size = "counting", 60

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Tensor) -> FeatureMap:
        self.calls += 1
        return random_features(5, 6, seed=int(image[0, 0, 0]))


@pytest.fixture
def dataset(tmp_path: Path) -> PairDataset:
    """Six pairs over three images of 60x50 pixels; an image differs from the others in its first pixel."""
    rng = np.random.default_rng(0)
    images = []
    for value in range(3):
        path = tmp_path / f"{value}.png"
        Image.fromarray(np.full((50, 60, 3), value, np.uint8)).save(path)
        images.append(ImageFile(path, path.name))
    pairs = [
        AnnotatedPair(a, b, "duck(S)", rng.random((4, 2)) * 48, rng.random((4, 2)) * 48)
        for a in images
        for b in images
        if a != b
    ]
    return PairDataset("pf-willow", "test", pairs)


def make_pipelines(*matchers: str) -> list[Pipeline]:
    first = Pipeline(features=Counting(), matcher=matchers[0], preset=PresetSettings(cells=0), device="cpu")
    return [first, *(first.with_matcher(name) for name in matchers[1:])]


def evaluate(dataset: PairDataset, folder: Path | None, *matchers: str, protocol: str = DEFAULT) -> list[Outcome]:
    pipelines = make_pipelines(*(matchers or ("nn",)))
    return run(dataset, pipelines, find_protocols("pf-willow", [protocol]), cache=folder)


def scores(outcome: Outcome) -> dict[str, object]:
    """Everything of an evaluation but how it was come by."""
    record = to_record(outcome.evaluation)
    return {key: value for key, value in record.items() if key not in ("seconds", "reused", "extractions")}


def test_run_extracts_each_image_once(dataset: PairDataset) -> None:
    pipelines = make_pipelines("nn", "hough")
    finished = []
    outcomes = run(
        dataset, pipelines, find_protocols("pf-willow", [EVERY]), cache=None, on_pair=lambda: finished.append(1)
    )
    assert pipelines[0].extractor.calls == 3
    assert len(finished) == 12
    assert [outcome.evaluation.extractions for outcome in outcomes] == [3, 3]
    assert [outcome.evaluation.matcher for outcome in outcomes] == ["nn", "hough"]
    assert scores(outcomes[0]) == scores(evaluate(dataset, None, "nn", protocol=EVERY)[0])
    assert scores(outcomes[1]) == scores(evaluate(dataset, None, "hough", protocol=EVERY)[0])


def test_run_in_batches_finds_the_same_numbers(dataset: PairDataset) -> None:
    sizes: list[int] = []

    class Batches(Counting):
        def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
            sizes.append(len(images))
            return super().extract_batch(images)

    together = Pipeline(features=Batches(), matcher="nn", preset=PresetSettings(cells=0), device="cpu", batch=4)
    (found,) = run(dataset, [together], find_protocols("pf-willow", [EVERY]), cache=None)
    (alone,) = evaluate(dataset, None, "nn", protocol=EVERY)
    assert scores(found) == scores(alone)
    assert found.evaluation.extractions == sum(sizes) == 3
    for mine, theirs in zip(found.forward, alone.forward, strict=True):
        assert (mine == theirs).all()


def test_run_in_batches_raises_the_first_pairs_error(dataset: PairDataset, tmp_path: Path) -> None:
    (tmp_path / "2.png").write_bytes(b"")
    together = Pipeline(features=Counting(), matcher="nn", preset=PresetSettings(cells=0), device="cpu", batch=4)
    for pipeline in (together, make_pipelines("nn")[0]):
        with pytest.raises(InputError, match=r"2\.png"):
            run(dataset, [pipeline], find_protocols("pf-willow", [DEFAULT]), cache=tmp_path / "cache")
    store = evaluate(PairDataset("pf-willow", "test", dataset.pairs[:1]), tmp_path / "cache")[0]
    assert store.evaluation.reused == 1, "the pair before is kept"


def test_run_mirrored_extracts_flipped_sources_once_and_says_so(dataset: PairDataset, tmp_path: Path) -> None:
    pairs = PairDataset("pf-willow", "test", [pair for pair in dataset.pairs if pair.source.name == "0.png"])
    protocols = find_protocols("pf-willow", [DEFAULT])
    for mirror, calls in (("off", 3), ("auto", 4), ("on", 4)):
        pipeline = make_pipelines("nn")[0].with_mirror(mirror)
        (first,), (cached,) = (run(pairs, [pipeline], protocols, cache=tmp_path / "cache") for _ in range(2))
        assert pipeline.extractor.calls == calls
        assert scores(first) == scores(cached)
        measured = {measure.name: measure for measure in first.evaluation.measures}
        assert ("mirrored" in measured) is ("mirror probability" in measured) is (mirror != "off")
        if mirror == "on":
            assert measured["mirrored"].per_pair == measured["mirror probability"].per_pair == [1.0, 1.0]
        if mirror == "auto":
            flipped = [probability > 0.5 for probability in measured["mirror probability"].per_pair]
            assert measured["mirrored"].per_pair == flipped


def test_run_reuses_cached_predictions(dataset: PairDataset, tmp_path: Path) -> None:
    first, second = (evaluate(dataset, tmp_path / "cache")[0] for _ in range(2))
    assert (first.evaluation.reused, second.evaluation.reused) == (0, 6)
    assert (first.evaluation.extractions, second.evaluation.extractions) == (3, 0)
    assert scores(first) == scores(second)
    for mine, theirs in zip(first.forward, second.forward, strict=True):
        assert (mine == theirs).all()


def test_run_interrupted_keeps_finished_pairs(dataset: PairDataset, tmp_path: Path) -> None:
    finished = []

    def stop_after_two() -> None:
        finished.append(1)
        if len(finished) == 2:
            raise KeyboardInterrupt

    protocols = find_protocols("pf-willow", [DEFAULT])
    with pytest.raises(KeyboardInterrupt):
        run(dataset, make_pipelines("nn"), protocols, cache=tmp_path / "cache", on_pair=stop_after_two)
    resumed = evaluate(dataset, tmp_path / "cache")[0]
    assert resumed.evaluation.reused == 2
    assert scores(resumed) == scores(evaluate(dataset, None)[0])


def test_run_predicts_again_after_changes(dataset: PairDataset, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    evaluate(dataset, cache)
    Image.fromarray(np.full((50, 60, 3), 9, np.uint8)).save(tmp_path / "0.png")
    assert evaluate(dataset, cache)[0].evaluation.reused == 2
    moved = replace(dataset.pairs[0], source_points=dataset.pairs[0].source_points + 1)
    assert evaluate(replace(dataset, pairs=[moved]), cache)[0].evaluation.reused == 0
    assert evaluate(dataset, cache, "hough")[0].evaluation.reused == 0
    assert evaluate(dataset, cache, protocol=EVERY)[0].evaluation.reused == 0, "the backward match was not requested"


def test_selection_file_depends_on_program(
    dataset: PairDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipelines("nn")[0]
    before = selection_file(tmp_path, dataset, pipeline)
    finer = Pipeline(features=pipeline.extractor, matcher="nn", preset=PresetSettings(cells=9), device="cpu")
    assert selection_file(tmp_path, dataset, finer) != before
    monkeypatch.setattr(runner, "source_sha256", lambda *_: "another")
    assert selection_file(tmp_path, dataset, pipeline) != before


def test_run_fresh_deletes_cache(dataset: PairDataset, tmp_path: Path) -> None:
    evaluate(dataset, tmp_path)
    protocols = find_protocols("pf-willow", [DEFAULT])
    again = run(dataset, make_pipelines("nn"), protocols, cache=tmp_path, fresh=True)
    assert again[0].evaluation.reused == 0


def test_run_continues_without_cache(dataset: PairDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(GeomatchWarning, match="the run continues, but caches no predictions"):
        outcome = evaluate(dataset, tmp_path / "file")[0]
    assert scores(outcome) == scores(evaluate(dataset, None)[0])


def test_run_reports_seconds_by_stage(dataset: PairDataset) -> None:
    seconds = evaluate(dataset, None)[0].evaluation.seconds
    assert list(seconds) == ["reading", "extraction", "matching", "scoring"]
    assert all(value >= 0 for value in seconds.values())


def test_run_of_subset_reports_full_size(dataset: PairDataset) -> None:
    subset = dataset.limited(2)
    evaluation = evaluate(subset, None)[0].evaluation
    assert (evaluation.pairs, evaluation.of) == (2, 6)
    assert [pair["source"] for pair in to_record(evaluation)["pair_list"]] == [
        pair.source.name for pair in subset.pairs
    ]


def test_draw_examples_best_median_worst_once(dataset: PairDataset) -> None:
    outcome = evaluate(dataset, None)[0]
    errors = [np.array([0.0] * right + [9.0] * (4 - right), np.float32) for right in (2, 4, 0, 1, 3, 2)]
    pictures = draw_examples(dataset, replace(outcome, relative_errors=errors))
    assert [(picture.rank, picture.correct) for picture in pictures] == [
        ("best", 4),
        ("best", 3),
        ("median", 2),
        ("median", 2),
        ("worst", 0),
        ("worst", 1),
    ]
