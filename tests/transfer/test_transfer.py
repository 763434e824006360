import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geomatch.annotations import Box, Instance, Keypoints, Region, Visibility, named_keypoints
from geomatch.correspondence import Correspondence
from geomatch.options import AnnotationKind, Mirror
from geomatch.transfer.transfer import InstanceTransfer, fit_box, match_box, transfer_keypoints, transfer_regions
from tests.stub import picture, stub_pipeline, to_tensor

SIZE = (40, 60)


def correspondence(
    flow: NDArray[np.floating], target_size: tuple[int, int], confidence: float = 0.8, valid: bool = True
) -> Correspondence:
    size = (flow.shape[1], flow.shape[2])
    return Correspondence(
        torch.from_numpy(flow).float(),
        torch.full(size, confidence),
        torch.full(size, valid),
        size,
        target_size,
    )


def shifted(x: float, y: float, **others: float | bool) -> Correspondence:
    """All pixels of an image of SIZE move alike, to another of SIZE."""
    flow = np.zeros((2, *SIZE))
    flow[0], flow[1] = x, y
    return correspondence(flow, SIZE, **others)  # type: ignore[arg-type]


def scaled(factor: float, size: tuple[int, int] = SIZE) -> Correspondence:
    """Pixel p of an image of ``size`` lies at factor p of one that much larger."""
    y, x = np.indices(size)
    larger = round(size[0] * factor), round(size[1] * factor)
    return correspondence(np.stack((x, y)) * (factor - 1), larger)


def points_of(instance: Instance) -> Keypoints:
    assert isinstance(instance.shape, Keypoints)
    return instance.shape


def mask_of(instance: Instance) -> NDArray[np.bool_]:
    assert isinstance(instance.shape, Region)
    return instance.shape.mask


def box_of(instance: Instance) -> Box:
    assert not isinstance(instance.shape, Keypoints | Region)
    return instance.shape


def rectangle(rows: slice, columns: slice, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


def cat(*points: tuple[float, float], visibility: list[int] | None = None) -> Instance:
    names = [str(number) for number in range(len(points))]
    return Instance("cat", 1, named_keypoints(names, np.array(points, float), visibility))


def test_transfer_keypoints_follows_flow_between_pixels() -> None:
    (instance,) = transfer_keypoints([cat((10, 8), (3.25, 4.5))], scaled(2))
    np.testing.assert_allclose(points_of(instance).points, [[20, 16], [6.5, 9]], atol=1e-4)
    assert (instance.label, instance.number, instance.confidence) == ("cat", 1, 0.8)
    assert points_of(instance).confidence is not None
    np.testing.assert_allclose(points_of(instance).confidence, 0.8, atol=1e-6)


def test_transfer_keypoints_guesses_where_match_is_not_valid() -> None:
    marked = cat((10, 8), (12, 8), (14, 8), visibility=[2, 1, 0])
    assert points_of(transfer_keypoints([marked], shifted(1, 1))[0]).visibility.tolist() == [2, 1, 0]
    (guessed,) = transfer_keypoints([marked], shifted(1, 1, valid=False))
    assert points_of(guessed).visibility.tolist() == [1, 1, 0]
    assert guessed.visibility is Visibility.guessed


def test_transfer_keypoints_drops_points_outside_the_image() -> None:
    (instance,) = transfer_keypoints([cat((10, 8), (50, 8))], shifted(15, 0))
    assert points_of(instance).visibility.tolist() == [2, 0]
    assert transfer_keypoints([cat((50, 8))], shifted(15, 0)) == []


def test_transfer_keypoints_drops_low_confidence() -> None:
    found = shifted(1, 1)
    found.confidence[:, 30:] = 0.2
    (instance,) = transfer_keypoints([cat((10, 8), (50, 8))], found, 0.5)
    assert points_of(instance).visibility.tolist() == [2, 0]
    assert instance.confidence == 0.8
    assert transfer_keypoints([cat((50, 8))], found, 0.5) == []


def test_transfer_regions_moves_a_mask() -> None:
    mask = rectangle(slice(10, 20), slice(20, 40))
    (instance,) = transfer_regions([Instance("cat", 1, Region(mask))], shifted(5, -3))
    np.testing.assert_array_equal(mask_of(instance), rectangle(slice(13, 23), slice(15, 35)))
    assert (instance.confidence, instance.visibility) == (0.8, Visibility.seen)


def test_transfer_regions_leaves_no_holes_in_a_larger_mask() -> None:
    mask = rectangle(slice(10, 20), slice(20, 40))
    y, x = np.indices((80, 120))
    backward = correspondence(np.stack(((x - 0.5) / 2 - x, (y - 0.5) / 2 - y)), SIZE)
    (instance,) = transfer_regions([Instance("cat", 1, Region(mask))], backward)
    np.testing.assert_array_equal(mask_of(instance), rectangle(slice(20, 40), slice(40, 80), (80, 120)))


def test_transfer_regions_keeps_the_most_confident_pieces() -> None:
    """Two places of the image match the instance: it is where confidence is higher."""
    mask = rectangle(slice(10, 20), slice(20, 30))
    found = shifted(0, 0)
    found.flow[0, :, :12] = 20  # the left border matches the instance, too
    found.confidence[:, :12] = 0.5
    np.testing.assert_array_equal(mask_of(transfer_regions([Instance("cat", 1, Region(mask))], found)[0]), mask)
    two = mask | rectangle(slice(30, 35), slice(50, 55))
    pieces = mask_of(transfer_regions([Instance("cat", 1, Region(two))], found)[0])
    np.testing.assert_array_equal(pieces, mask | rectangle(slice(10, 20), slice(0, 10)))


def test_transfer_regions_drops_pixels_of_low_confidence() -> None:
    found = shifted(0, 0)
    found.confidence[:, 28:] = 0.05
    (instance,) = transfer_regions([Instance("cat", 1, Region(rectangle(slice(10, 20), slice(20, 30))))], found)
    np.testing.assert_array_equal(mask_of(instance), rectangle(slice(10, 20), slice(20, 28)))


@pytest.mark.parametrize("shape", [Region(rectangle(slice(10, 20), slice(20, 30))), (19.5, 9.5, 29.5, 19.5)])
def test_transfer_regions_drops_unmatched_and_low_confidence(shape: Region | Box) -> None:
    instance = Instance("cat", 1, shape)
    assert transfer_regions([instance], shifted(100, 0)) == []
    assert transfer_regions([instance], shifted(0, 0), 0.9) == []
    assert [each.visibility for each in transfer_regions([instance], shifted(0, 0, valid=False))] == [
        Visibility.guessed
    ]
    assert transfer_regions([instance, Instance("all", 2, (-0.5, -0.5, 59.5, 39.5))], shifted(100, 0)) == []


@pytest.mark.parametrize("box", [(-0.5, -0.5, 59.5, 39.5), (10, 5.25, 30, 30), (40.2, 3, 44.9, 6)])
def test_transfer_regions_keeps_a_box_on_the_same_image(box: Box) -> None:
    found = shifted(0, 0)
    found.confidence[:] = torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(box_of(transfer_regions([Instance("cat", 1, box)], found)[0]), box, atol=1e-3)


def test_transfer_regions_scales_a_box_with_the_image() -> None:
    y, x = np.indices((80, 120))
    backward = correspondence(np.stack((x / 2 - x, y / 2 - y)), SIZE)
    (instance,) = transfer_regions([Instance("cat", 1, (10, 8, 30, 25))], backward)
    np.testing.assert_allclose(box_of(instance), (20, 16, 60, 50), atol=1)


def test_fit_box_ignores_a_few_stray_matches() -> None:
    flow = np.zeros((2, *SIZE), np.float32)
    flow[0, 0, 55:], flow[1, 0, 55:] = -30, 10  # 5 pixels at the upper right match the instance, too
    box = (15.5, 7.5, 35.5, 27.5)
    matched = match_box(box, flow)
    assert matched[0, 55:].all()
    np.testing.assert_allclose(fit_box(box, flow, np.full(SIZE, 0.8, np.float32), matched), box, atol=1)


def test_transfer_regions_cuts_a_box_at_the_border() -> None:
    (instance,) = transfer_regions([Instance("cat", 1, (10, 5, 30, 30))], shifted(20, 0))
    np.testing.assert_allclose(box_of(instance), (-0.5, 5, 10, 30), atol=1)


INSTANCES = {
    AnnotationKind.keypoints: cat((30, 40), (81.5, 60.25), (100, 90)),
    AnnotationKind.masks: Instance("cat", 1, Region(rectangle(slice(30, 90), slice(40, 110), (120, 160)))),
    AnnotationKind.boxes: Instance("cat", 1, (29.5, 24.5, 109.5, 89.5)),
}


@pytest.mark.parametrize("kind", AnnotationKind)
@pytest.mark.parametrize("mirror", Mirror)
def test_instance_transfer_to_the_reference_itself(kind: AnnotationKind, mirror: Mirror) -> None:
    """The stub's features are the same on both sides, so flipping must change nothing."""
    pipeline, image = stub_pipeline(mirror), to_tensor(picture(120, 160))
    (found,) = InstanceTransfer(pipeline, pipeline.extract(image), [INSTANCES[kind]], kind)(image)
    was = INSTANCES[kind].shape
    if isinstance(was, Keypoints):
        np.testing.assert_allclose(points_of(found).points, was.points, atol=1)
    elif isinstance(was, Region):
        edge = rectangle(slice(29, 91), slice(39, 111), (120, 160)) & ~rectangle(
            slice(31, 89), slice(41, 109), (120, 160)
        )
        assert not ((mask_of(found) != was.mask) & ~edge).any()
    else:
        np.testing.assert_allclose(box_of(found), was, atol=1)


@pytest.mark.parametrize("kind", AnnotationKind)
def test_instance_transfer_to_a_shifted_and_scaled_view(kind: AnnotationKind) -> None:
    """Pixel p of the view shows what pixel (12, 8) + 0.8 p of the reference shows."""
    pipeline, view = stub_pipeline(), to_tensor(picture(112, 152, left=12, top=8, scale=0.8))
    transfer = InstanceTransfer(pipeline, pipeline.extract(to_tensor(picture(120, 160))), [INSTANCES[kind]], kind)
    (found,) = transfer(view)
    was = INSTANCES[kind].shape
    if isinstance(was, Keypoints):
        np.testing.assert_allclose(points_of(found).points, (was.points - (12, 8)) / 0.8, atol=2)
    elif isinstance(was, Region):
        y, x = np.indices((112, 152)) * 0.8
        there = (x + 12 > 39.5) & (x + 12 < 109.5) & (y + 8 > 29.5) & (y + 8 < 89.5)
        assert (mask_of(found) & there).sum() > 0.95 * (mask_of(found) | there).sum()
    else:
        expected = (np.array(was) - (12, 8, 12, 8)) / 0.8
        np.testing.assert_allclose(box_of(found), expected, atol=3)
