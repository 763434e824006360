import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geomatch.annotations import Box, Keypoints, Region, Thing, Visibility, named_keypoints
from geomatch.correspondence import Correspondence
from geomatch.options import AnnotationKind
from geomatch.transfer.transfer import Carrier, carry_keypoints, carry_regions, fit_box, land, pull_box
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


def points_of(thing: Thing) -> Keypoints:
    assert isinstance(thing.shape, Keypoints)
    return thing.shape


def mask_of(thing: Thing) -> NDArray[np.bool_]:
    assert isinstance(thing.shape, Region)
    return thing.shape.mask


def box_of(thing: Thing) -> Box:
    assert not isinstance(thing.shape, Keypoints | Region)
    return thing.shape


def rectangle(rows: slice, columns: slice, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


def cat(*points: tuple[float, float], visibility: list[int] | None = None) -> Thing:
    names = [str(number) for number in range(len(points))]
    return Thing("cat", 1, named_keypoints(names, np.array(points, float), visibility))


def test_points_go_where_the_flow_takes_them_between_pixels_too() -> None:
    (thing,) = carry_keypoints([cat((10, 8), (3.25, 4.5))], scaled(2))
    np.testing.assert_allclose(points_of(thing).points, [[20, 16], [6.5, 9]], atol=1e-4)
    assert (thing.label, thing.number, thing.confidence) == ("cat", 1, 0.8)
    assert points_of(thing).confidence is not None
    np.testing.assert_allclose(points_of(thing).confidence, 0.8, atol=1e-6)


def test_a_point_stays_as_visible_as_it_was_if_its_match_is_valid_and_is_a_guess_otherwise() -> None:
    marked = cat((10, 8), (12, 8), (14, 8), visibility=[2, 1, 0])
    assert points_of(carry_keypoints([marked], shifted(1, 1))[0]).visibility.tolist() == [2, 1, 0]
    (guessed,) = carry_keypoints([marked], shifted(1, 1, valid=False))
    assert points_of(guessed).visibility.tolist() == [1, 1, 0]
    assert guessed.visibility is Visibility.guessed


def test_points_that_leave_the_image_are_absent_and_a_thing_without_points_is_left_out() -> None:
    (thing,) = carry_keypoints([cat((10, 8), (50, 8))], shifted(15, 0))
    assert points_of(thing).visibility.tolist() == [2, 0]
    assert carry_keypoints([cat((50, 8))], shifted(15, 0)) == []


def test_points_less_sure_than_asked_for_are_left_out() -> None:
    found = shifted(1, 1)
    found.confidence[:, 30:] = 0.2
    (thing,) = carry_keypoints([cat((10, 8), (50, 8))], found, 0.5)
    assert points_of(thing).visibility.tolist() == [2, 0]
    assert thing.confidence == 0.8
    assert carry_keypoints([cat((50, 8))], found, 0.5) == []


def test_a_point_s_validity_is_that_of_the_nearest_pixel_and_its_confidence_lies_between() -> None:
    found = shifted(0, 0)
    found.valid[:, 11:] = False
    found.confidence[:, 11:] = 0.4
    landing = land(found, np.array([[10.25, 5.0], [10.75, 5.0], [-0.5, 39.5]]))
    assert landing.valid.tolist() == [True, False, True]
    np.testing.assert_allclose(landing.confidence, [0.7, 0.5, 0.8], atol=1e-6)


def test_a_mask_is_what_its_pixels_find_again() -> None:
    mask = rectangle(slice(10, 20), slice(20, 40))
    (thing,) = carry_regions([Thing("cat", 1, Region(mask))], shifted(5, -3))
    np.testing.assert_array_equal(mask_of(thing), rectangle(slice(13, 23), slice(15, 35)))
    assert (thing.confidence, thing.visibility) == (0.8, Visibility.seen)


def test_a_mask_seen_larger_has_no_holes() -> None:
    mask = rectangle(slice(10, 20), slice(20, 40))
    y, x = np.indices((80, 120))
    backward = correspondence(np.stack(((x - 0.5) / 2 - x, (y - 0.5) / 2 - y)), SIZE)
    (thing,) = carry_regions([Thing("cat", 1, Region(mask))], backward)
    np.testing.assert_array_equal(mask_of(thing), rectangle(slice(20, 40), slice(40, 80), (80, 120)))


def test_a_mask_keeps_as_many_pieces_as_it_had_those_that_confidence_speaks_for() -> None:
    """Two places of the image match the thing: it is where the image is surer."""
    mask = rectangle(slice(10, 20), slice(20, 30))
    found = shifted(0, 0)
    found.flow[0, :, :12] = 20  # what lies at the left also finds the thing
    found.confidence[:, :12] = 0.5
    np.testing.assert_array_equal(mask_of(carry_regions([Thing("cat", 1, Region(mask))], found)[0]), mask)
    two = mask | rectangle(slice(30, 35), slice(50, 55))
    pieces = mask_of(carry_regions([Thing("cat", 1, Region(two))], found)[0])
    np.testing.assert_array_equal(pieces, mask | rectangle(slice(10, 20), slice(0, 10)))


def test_pixels_far_less_sure_than_the_rest_are_no_part_of_a_mask() -> None:
    found = shifted(0, 0)
    found.confidence[:, 28:] = 0.05
    (thing,) = carry_regions([Thing("cat", 1, Region(rectangle(slice(10, 20), slice(20, 30))))], found)
    np.testing.assert_array_equal(mask_of(thing), rectangle(slice(10, 20), slice(20, 28)))


@pytest.mark.parametrize("shape", [Region(rectangle(slice(10, 20), slice(20, 30))), (19.5, 9.5, 29.5, 19.5)])
def test_what_is_not_found_or_not_sure_is_left_out(shape: Region | Box) -> None:
    thing = Thing("cat", 1, shape)
    assert carry_regions([thing], shifted(100, 0)) == []
    assert carry_regions([thing], shifted(0, 0), 0.9) == []
    assert [each.visibility for each in carry_regions([thing], shifted(0, 0, valid=False))] == [Visibility.guessed]
    assert carry_regions([thing, Thing("all", 2, (-0.5, -0.5, 59.5, 39.5))], shifted(100, 0)) == []


@pytest.mark.parametrize("box", [(-0.5, -0.5, 59.5, 39.5), (10, 5.25, 30, 30), (40.2, 3, 44.9, 6)])
def test_a_box_on_the_same_image_is_the_same_whatever_its_pixels_confidence(box: Box) -> None:
    found = shifted(0, 0)
    found.confidence[:] = torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(box_of(carry_regions([Thing("cat", 1, box)], found)[0]), box, atol=1e-3)


def test_a_box_grows_with_the_image() -> None:
    y, x = np.indices((80, 120))
    backward = correspondence(np.stack((x / 2 - x, y / 2 - y)), SIZE)
    (thing,) = carry_regions([Thing("cat", 1, (10, 8, 30, 25))], backward)
    np.testing.assert_allclose(box_of(thing), (20, 16, 60, 50), atol=1)


def test_a_few_stray_matches_do_not_widen_a_box() -> None:
    flow = np.zeros((2, *SIZE), np.float32)
    flow[0, 0, 55:], flow[1, 0, 55:] = -30, 10  # 5 pixels at the upper right find the thing, too
    box = (15.5, 7.5, 35.5, 27.5)
    matched = pull_box(box, flow)
    assert matched[0, 55:].all()
    np.testing.assert_allclose(fit_box(box, flow, np.full(SIZE, 0.8, np.float32), matched), box, atol=1)


def test_a_box_is_cut_at_the_border() -> None:
    (thing,) = carry_regions([Thing("cat", 1, (10, 5, 30, 30))], shifted(20, 0))
    np.testing.assert_allclose(box_of(thing), (-0.5, 5, 10, 30), atol=1)


THINGS = {
    AnnotationKind.keypoints: cat((30, 40), (81.5, 60.25), (100, 90)),
    AnnotationKind.masks: Thing("cat", 1, Region(rectangle(slice(30, 90), slice(40, 110), (120, 160)))),
    AnnotationKind.boxes: Thing("cat", 1, (29.5, 24.5, 109.5, 89.5)),
}


@pytest.mark.parametrize("kind", AnnotationKind)
def test_on_the_reference_itself_everything_is_found_again_within_a_pixel(kind: AnnotationKind) -> None:
    pipeline, image = stub_pipeline(), to_tensor(picture(120, 160))
    (found,) = Carrier(pipeline, pipeline.extract(image), [THINGS[kind]], kind)(image)
    was = THINGS[kind].shape
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
def test_on_a_shifted_and_scaled_view_of_the_reference_everything_is_where_it_should_be(kind: AnnotationKind) -> None:
    """Pixel p of the view shows what pixel (12, 8) + 0.8 p of the reference shows."""
    pipeline, view = stub_pipeline(), to_tensor(picture(112, 152, left=12, top=8, scale=0.8))
    carrier = Carrier(pipeline, pipeline.extract(to_tensor(picture(120, 160))), [THINGS[kind]], kind)
    (found,) = carrier(view)
    was = THINGS[kind].shape
    if isinstance(was, Keypoints):
        np.testing.assert_allclose(points_of(found).points, (was.points - (12, 8)) / 0.8, atol=2)
    elif isinstance(was, Region):
        y, x = np.indices((112, 152)) * 0.8
        there = (x + 12 > 39.5) & (x + 12 < 109.5) & (y + 8 > 29.5) & (y + 8 < 89.5)
        assert (mask_of(found) & there).sum() > 0.95 * (mask_of(found) | there).sum()
    else:
        expected = (np.array(was) - (12, 8, 12, 8)) / 0.8
        np.testing.assert_allclose(box_of(found), expected, atol=3)
