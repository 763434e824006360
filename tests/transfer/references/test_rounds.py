"""Rounds in which targets become references, on views of one picture: see `tests.stub`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.annotations import AnnotatedImage, Instance, Keypoints, Visibility
from geomatch.io.images import InputImage, read_image
from geomatch.io.inputs import InputFile
from geomatch.options import AnnotationKind, Existing
from geomatch.transfer.references import rounds as module
from geomatch.transfer.references.keypoints import Acceptance, Examples
from geomatch.transfer.references.reference_set import ReferenceSet
from geomatch.transfer.references.rounds import Rounds
from geomatch.transfer.references.transfer import ReferenceChoice, ReferenceTransfer
from geomatch.transfer.transfer_many import name_targets
from tests.stub import picture, stub_pipeline
from tests.transfer.references.test_reference_transfer import write_references

ALL = Acceptance(confidence=0, agreement=0)


def transfer_of(folder: Path, count: int = 20) -> ReferenceTransfer:
    references = ReferenceSet.read(write_references(folder), AnnotationKind.keypoints)
    return ReferenceTransfer(stub_pipeline(), references, ReferenceChoice(count))


def write_targets(folder: Path) -> list[Path]:
    for name, left in (("near", 20), ("far", 24)):
        picture(96, 128, left=left, top=10).save(folder / f"{name}.png")
    return [folder / "near.png", folder / "far.png"]


def names(images: Sequence[AnnotatedImage]) -> list[str]:
    return [Path(image.name).name for image in images]


def search(rounds: Rounds, transfer: ReferenceTransfer, images: list[Path]) -> ReferenceTransfer:
    return rounds.adopt(transfer, name_targets(images), lambda: None)


def test_accepted_targets_are_references_for_others_only(tmp_path: Path) -> None:
    transfer = transfer_of(tmp_path)
    images = write_targets(tmp_path)
    last = search(Rounds(2, {}, rule=ALL), transfer, images)
    assert [last.references.images[place].name for place in last.references.adopted] == list(map(str, images))
    for image, other in zip(images, reversed(images), strict=True):
        target = read_image(image)
        used = names(last.transferred(target.pixels, target.sha256).references)
        assert other.name in used
        assert image.name not in used
    assert transfer.references.adopted == range(4, 4)


def test_rule_refuses_what_is_not_certain(tmp_path: Path) -> None:
    last = search(Rounds(3, {}, rule=Acceptance(confidence=1)), transfer_of(tmp_path), write_targets(tmp_path))
    assert len(last.references.adopted) == 0


def test_same_content_and_unreadable_targets_are_adopted_once_and_never(tmp_path: Path) -> None:
    transfer = transfer_of(tmp_path)
    near, far = write_targets(tmp_path)
    far.write_bytes(near.read_bytes())
    (tmp_path / "broken.png").write_bytes(near.read_bytes()[:60])
    last = search(Rounds(2, {}, rule=ALL), transfer, [near, far, tmp_path / "broken.png", tmp_path / "gone.png"])
    assert names(last.references.images)[4:] == ["near.png"]


def test_resumed_rounds_search_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = transfer_of(tmp_path)
    images = write_targets(tmp_path)
    folder = tmp_path / "kept"
    whole = search(Rounds(3, {}, folder, rule=ALL), transfer, images).references.record()
    (folder / "2-far.json").unlink()
    read: list[Path] = []

    def noted(file: InputFile) -> InputImage:
        read.append(file.path)
        return read_image(file)

    monkeypatch.setattr(module, "read_image", noted)
    again = search(Rounds(3, {}, folder, Existing.kept, ALL), transfer, images).references.record()
    assert again == whole
    assert read == [images[1]]
    other = search(Rounds(3, {"features": "other"}, folder, Existing.kept, ALL), transfer, images)
    assert len(read) == 5
    assert other.references.record() == whole


def test_returning_counts_matches_back_to_the_same_place() -> None:
    """Of two objects one looks like the target; on the other two places, far from each other, look exchanged."""
    points = np.array([[(0, 0), (100, 0), (100, 5)], [(0, 0), (100, 0), (100, 5)]], dtype=float)
    eye = torch.eye(3)
    examples = Examples(
        ("a", "b", "c"), np.array([0, 1]), torch.stack((eye, eye[[1, 0, 2]])), points, np.full((2, 3), Visibility.seen)
    )
    np.testing.assert_allclose(examples.returning(eye), [0.5, 0.5, 1])
    np.testing.assert_allclose(examples.returning(eye[[0, 1, 1]]), [0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("confidence", "agreement", "points", "accepted"),
    [(0.9, 0.9, 3, True), (0.7, 0.9, 3, False), (0.9, 0.7, 3, False), (0.9, 0.9, 2, False)],
)
def test_acceptance_asks_for_confidence_agreement_and_points(
    confidence: float, agreement: float, points: int, accepted: bool
) -> None:
    visibility = np.where(np.arange(4) < points, Visibility.seen, Visibility.absent)
    shape = Keypoints(tuple("abcd"), np.zeros((4, 2)), visibility, np.full(4, confidence))
    instance = Instance("cat", 1, shape, confidence=confidence)
    rule = Acceptance(confidence=0.8, agreement=0.8, points=3)
    assert rule.accepts(instance, np.where(visibility > 0, agreement, 0)) is accepted
