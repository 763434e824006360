"""Accuracy of keypoints transferred from many references: of k of n photographs to other photographs of animals.

    python benchmarks/accuracy/transfer_references.py --train train --animals animal-parts
        --cache DIR [--features combined]

References are photographs of `train/keypoints.json` that show one animal, of the target's species ("own") or of any
("any", --across-categories), the first n of a random order; 0 stands for all. Scores are means over --draws orders,
PCK with its standard deviation over them. Targets are the images of a folder in SPair's layout. k is --references of
the command line; the k are chosen for each target.

Keypoints that an example of those chosen marks are covered: PCK@.10 of them, an error of at most a tenth of the longer
side of the target's object box, ECE of their confidence, and PCK of the more confident half. "marked absent" is what
the rule that a keypoint is absent where most references say so leaves out: of the keypoints that the target has, and of
those that it has not. "best one" is the most similar reference, matched as a single one is; it is measured with k = 1.

--singles N also transfers from each reference by itself, where n is N at most: all of them together, the one that gets
the most keypoints right over all targets of a species, and that which does so for each target. The last two know the
truth. --rounds N goes on as `geomatch transfer --rounds` does; "adopted" is the share of the targets that are
references in a round.

--samples FILE keeps the cues of every keypoint for scripts/fit_references.py.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transfer import Animal, read_animals, spread

from geomatch.annotations import AnnotatedImage, Instance, Keypoints
from geomatch.correspondence import FeatureMap
from geomatch.evaluation.metrics.calibration import calibration, sparsification
from geomatch.features.weights import sha256_of
from geomatch.io.images import load_image
from geomatch.options import AnnotationKind, Mirror
from geomatch.pipeline import Pipeline
from geomatch.transfer.references.keypoints import DEFAULT_ACCEPTANCE, Acceptance, FusedConfidence, KeypointCues
from geomatch.transfer.references.reference_set import ReferenceSet
from geomatch.transfer.references.transfer import ReferenceChoice, ReferenceTransfer

ALPHA = 0.10

Name: TypeAlias = tuple[str, str, str]
"""Whose references, n and k."""
Counts: TypeAlias = tuple[int, int]
"""How many keypoints are right, and of how many."""


@dataclass(frozen=True)
class Samples:
    """N keypoints that an example marks.

    cues: (6, N). right: (N,). has: (N,), whether the target has it. absent: (N,), whether most examples lack it. image:
    (N,), the number of the target. asked: how many keypoints the targets have, whether an example marks them or not.
    targets: how many there are. adopted: how many of them are references for the others.
    """

    cues: NDArray[np.float64]
    right: NDArray[np.bool_]
    has: NDArray[np.bool_]
    absent: NDArray[np.bool_]
    image: NDArray[np.int64]
    asked: int
    targets: int = 1
    adopted: int = 0

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        def all_of(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts], axis=-1)

        sums = [sum(getattr(part, name) for part in parts) for name in ("asked", "targets", "adopted")]
        return cls(all_of("cues"), all_of("right"), all_of("has"), all_of("absent"), all_of("image"), *sums)

    def scores(self) -> NDArray[np.float64]:
        """The columns of the table from "covered" on."""
        cues, right = self.cues[:, self.has], self.right[self.has]
        confidence = FusedConfidence()(KeypointCues(*cues))
        half = 1 - sparsification((~right).astype(np.float64), confidence, [0.5])[0]
        error = calibration(right, confidence).expected_calibration_error
        absent = self.absent[self.has].mean(), self.absent[~self.has].mean()
        return np.array([self.has.sum() / self.asked, right.mean(), error, half, *absent, self.adopted / self.targets])


def read_singles(train: Path, folder: Path) -> ReferenceSet:
    """The photographs with one marked animal, unpacked into a folder."""
    document = json.loads((train / "keypoints.json").read_text())
    animals = Counter(each["image_id"] for each in document["annotations"])
    document["images"] = [each for each in document["images"] if animals[each["id"]] == 1]
    wanted = {each["file_name"] for each in document["images"]}
    for shard in sorted(train.glob("*.tar")):
        with tarfile.open(shard) as archive:
            archive.extractall(folder, [each for each in archive if each.name in wanted], filter="data")
    (folder / "references.json").write_text(json.dumps(document))
    return ReferenceSet.read(folder / "references.json", AnnotationKind.keypoints)


def drawn(references: ReferenceSet, count: int, seed: int, label: str | None) -> ReferenceSet:
    """The first ``count`` images, 0 for all, of a random order of those with a label."""
    usable = [image for image in references.images if label in (None, image.instances[0].label)]
    order = np.random.default_rng(seed).permutation(len(usable))
    images = [usable[number] for number in order[: count or len(usable)]]
    sha256 = dict(zip((image.name for image in references.images), references.sha256, strict=True))
    return replace(references, images=images, sha256=[sha256[image.name] for image in images])


@dataclass(frozen=True)
class Photograph:
    """A target: its number in the list, and its features."""

    number: int
    animal: Animal
    features: FeatureMap

    @cached_property
    def sha256(self) -> str:
        return sha256_of(self.animal.file)


def sample(
    transfer: ReferenceTransfer, target: Photograph, rule: Acceptance = DEFAULT_ACCEPTANCE
) -> tuple[Samples, Instance | None]:
    """What a transfer finds of the keypoints of a target, and the object if it may be a reference."""
    animal, features = target.animal, target.features
    template = template_of(transfer, animal)
    examples, found = transfer.find_keypoints(template, features, transfer.rank(features, target.sha256))
    truth = truth_of(animal, len(found.known))
    samples = Samples(
        found.cues.stacked()[:, found.known],
        is_right(found.positions, truth, animal)[found.known],
        ~np.isnan(truth[found.known, 0]),
        ~examples.present[found.known],
        np.full(int(found.known.sum()), target.number),
        len(animal.points),
        adopted=int(target.sha256 in transfer.references.sha256),
    )
    instance = transfer.instance(template, examples, found)
    if instance is None or not rule.accepts(instance, transfer.cycle_agreement(examples, found, features)):
        return samples, None
    return samples, instance


def template_of(transfer: ReferenceTransfer, target: Animal) -> Instance:
    return next(each for each in transfer.references.annotations.instances if each.label == target.kind)


def sample_rounds(transfer: ReferenceTransfer, targets: Sequence[Photograph], rounds: int) -> Iterator[Samples]:
    """The samples of each round: the targets that are accepted are references in the next."""
    accepted: dict[str, AnnotatedImage] = {}
    for _ in range(rounds):
        last = transfer.adopting(list(accepted.values()), list(accepted)) if accepted else transfer
        found = [sample(last, target) for target in targets]
        yield Samples.joined([samples for samples, _ in found])
        accepted = {
            target.sha256: AnnotatedImage(str(target.animal.file), target.features.image_size, [instance])
            for target, (_, instance) in zip(targets, found, strict=True)
            if instance is not None
        }


def sample_singles(transfer: ReferenceTransfer, targets: Sequence[Photograph]) -> Iterator[tuple[str, Samples]]:
    """The samples from each reference alone: from all, the best, and the best for each target."""
    found = []
    for image in transfer.references.images:
        alone = ReferenceTransfer(transfer.pipeline, replace(transfer.references, images=[image]), transfer.choice)
        found.append([sample(alone, target)[0] for target in targets])
    right = np.array([[int(each.right.sum()) for each in row] for row in found])
    yield "each alone", Samples.joined([each for row in found for each in row])
    yield "best alone", Samples.joined(found[int(right.sum(axis=1).argmax())])
    chosen = right.argmax(axis=0)
    yield "best alone, by target", Samples.joined([found[row][place] for place, row in enumerate(chosen)])


def is_right(positions: NDArray[np.float64], truth: NDArray[np.float64], target: Animal) -> NDArray[np.bool_]:
    """Which positions (K, 2) lie within `ALPHA` of the truth (K, 2); none where that is not a number."""
    reach = max(target.box[2] - target.box[0], target.box[3] - target.box[1])
    return np.asarray(np.linalg.norm(positions - truth, axis=1) <= ALPHA * reach)


def best_one(transfer: ReferenceTransfer, photograph: Photograph) -> Counts:
    """How many keypoints the most similar reference, matched by itself, gets right, and how many both have.

    transfer: from one reference.
    """
    target, features = photograph.animal, photograph.features
    example, _ = transfer.find_keypoints(template_of(transfer, target), features, transfer.rank(features))
    chosen = transfer.references.images[int(example.places[0])]
    source = transfer.pipeline.extract(load_image(Path(chosen.name)), Mirror.off)
    own = chosen.instances[0].shape
    assert isinstance(own, Keypoints), "the references mark keypoints"
    positions = transfer.pipeline.match(source, features).map_points(own.points).positions
    truth = truth_of(target, len(own.names))
    shared = own.present & ~np.isnan(truth[:, 0])
    return int(is_right(positions, truth, target)[shared].sum()), int(shared.sum())


def truth_of(target: Animal, names: int) -> NDArray[np.float64]:
    """The keypoints (K, 2) of a target; not a number where it has none."""
    return np.array([target.points.get(str(place), (np.nan, np.nan)) for place in range(names)])


def measure(
    references: ReferenceSet, pipeline: Pipeline, targets: Sequence[Animal], options: argparse.Namespace
) -> Iterator[tuple[Name, Samples | Counts]]:
    """For each kind of reference, n and k: the samples of a draw; and for each n, the counts of the best one."""
    photographs = [
        Photograph(number, each, pipeline.extract(load_image(each.file), Mirror.off))
        for number, each in enumerate(track(targets, "targets", console=Console(stderr=True)))
    ]
    kinds = sorted({target.kind for target in targets})
    draws = [
        (whose, count, seed)
        for whose in options.whose
        for count in options.counts
        for seed in range(options.draws if count else 1)
    ]
    for whose, count, seed in track(draws, "references", console=Console(stderr=True)):
        parts: dict[str, list[Samples]] = defaultdict(list)
        right = np.zeros(2, np.int64)
        for kind in kinds if whose == "own" else [None]:
            own = drawn(references, count, seed, kind)
            transfer = ReferenceTransfer(pipeline, own, ReferenceChoice(1, across_categories=whose == "any"))
            chosen = [each for each in photographs if kind in (None, each.animal.kind)]
            if whose == "own" and 1 in options.references:
                right += np.sum([best_one(transfer, target) for target in chosen], axis=0)
            if 0 < count <= options.singles:
                for name, samples in sample_singles(transfer, chosen):
                    parts[name].append(samples)
            for most in options.references:
                if most <= len(own.images):
                    transfer.choice = replace(transfer.choice, count=most or len(own.images))
                    for number, samples in enumerate(sample_rounds(transfer, chosen, options.rounds), 1):
                        parts[f"{most or 'all'}" + (f", round {number}" if number > 1 else "")].append(samples)
        if right.any():
            yield (whose, str(count or "all"), "best one"), (int(right[0]), int(right[1]))
        for used, found in parts.items():
            yield (whose, str(count or "all"), used), Samples.joined(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, metavar="DIR")
    parser.add_argument("--animals", type=Path, required=True, metavar="DIR")
    parser.add_argument("--features", default="combined")
    parser.add_argument("--zoom", choices=["on", "off"], default="off")
    parser.add_argument("--cache", type=Path, metavar="DIR")
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 20, 100, 0])
    parser.add_argument("--references", type=int, nargs="+", default=[1, 3, 5, 10, 20, 0])
    parser.add_argument("--whose", choices=["own", "any"], nargs="+", default=["own", "any"])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--singles", type=int, default=0, metavar="N")
    parser.add_argument("--targets", type=int, default=0, metavar="N", help="of each species; 0: all")
    parser.add_argument("--samples", type=Path, metavar="FILE")
    options = parser.parse_args()

    pipeline = Pipeline(features=options.features, cache=options.cache, zoom=options.zoom)
    species = read_animals(options.animals).values()
    targets = [animal for animals in species for animal in spread(animals, options.targets)]
    found: dict[Name, list[Samples]] = defaultdict(list)
    alone: dict[Name, list[Counts]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        references = read_singles(options.train, Path(folder))
        for name, samples in measure(references, pipeline, targets, options):
            if isinstance(samples, Samples):
                found[name].append(samples)
            else:
                alone[name].append(samples)
    if options.samples:
        kept = {"-".join(name): Samples.joined(parts) for name, parts in found.items()}
        arrays = {f"{name}.{key}": value for name, each in kept.items() for key, value in vars(each).items()}
        np.savez(options.samples, **arrays)
    print_table(f"{len(targets)} targets, {pipeline.extractor.name}", found, alone)


def print_table(title: str, found: Mapping[Name, Sequence[Samples]], alone: Mapping[Name, Sequence[Counts]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in (
        "references",
        "n",
        "k",
        "covered",
        "PCK@.10",
        "ECE",
        "sure half",
        "absent: has",
        "has not",
        "adopted",
    ):
        table.add_column(column, justify="left" if column == "references" else "right")
    for whose, count in dict.fromkeys(name[:2] for name in found):
        if (name := (whose, count, "best one")) in alone:
            right, shared = np.sum(alone[name], axis=0)
            table.add_row(*name, "", f"{right / shared:.3f}")
        for name in found:
            if name[:2] == (whose, count):
                draws = np.array([samples.scores() for samples in found[name]])
                row = [f"{value:.3f}" for value in draws.mean(axis=0)]
                if len(draws) > 1:
                    row[1] += f" ({draws[:, 1].std(ddof=1):.3f})"
                table.add_row(*name, *row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
