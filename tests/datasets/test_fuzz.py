"""Whatever stands in a benchmark's annotations, or in the tables and tars of photographs, it is read or refused."""

import io
import json
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from geomatch.datasets.benchmarks import caltech101, pf_pascal, pf_willow, spair
from geomatch.datasets.benchmarks.ap10k import AP_10K_SPECIES
from geomatch.datasets.benchmarks.ap10k_animals import FILES
from geomatch.datasets.benchmarks.cub200 import CUB_200
from geomatch.datasets.benchmarks.pascal_part import pascal_parts
from geomatch.datasets.benchmarks.tapvid_davis import TAP_VID_DAVIS
from geomatch.datasets.crops import read_crops, read_true_boxes, with_crops
from geomatch.datasets.image_folder import find_images
from geomatch.datasets.image_list import hold_out
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import GeomatchWarning
from tests.datasets.layouts import png, spair_entry, tap_video, write_cub, write_shard, write_spair
from tests.datasets.test_pascal_parts import structs
from tests.fuzzing import assert_read_or_refused, fuzzed, junk, mutations, odd_numbers

SIZE = (30, 40)
MASK = np.pad(np.ones((10, 12), np.uint8), ((5, 15), (6, 22)))


def mat(**variables: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables)
    return file.getvalue()


def packed(content: bytes) -> bytes:
    """A .mat file with each variable compressed, as Matlab writes them, as far as it has variables."""
    file, place = content[:128], 128
    while place + 8 <= len(content):
        end = place + 8 + int.from_bytes(content[place + 4 : place + 8], "little")
        variable = zlib.compress(content[place:end])
        file += struct.pack("<II", 15, len(variable)) + variable
        place = end
    return file


PF_PASCAL_MAT = mat(kps=np.array([[3.0, 4.0], [np.nan, np.nan], [9.0, 8.0]]), bbox=np.array([[2.0, 2.0, 20.0, 25.0]]))
WILLOW_MAT = mat(pts_coord=np.stack((np.arange(1.0, 11), np.arange(11.0, 21))))
CALTECH_MAT = mat(obj_contour=np.array([[1.0, 9, 9, 1], [1, 1, 9, 9]]), box_coord=np.array([[2.0, 20, 3, 30]]))
PARTS_MAT = mat(
    keypts=np.array([[3.0, 5.0], [4.0, 6.0]]),
    keypts_status=np.array([[1, 1]]),
    part_mask=np.stack((MASK, MASK), axis=-1),
    part_mask_status=np.array([[1, 0]]),
)
ANNO_MAT = mat(
    anno={"objects": structs({"class": "cat", "mask": MASK, "parts": structs({"part_name": "head", "mask": MASK})})}
)
CALTECH_LIST = (
    b"source_image,target_image,class,XA,YA,XB,YB\n"
    b'101_ObjectCategories/cat/image_0001.jpg,101_ObjectCategories/cat/image_0002.jpg,1,"1,9,9","1,1,9","2,9,9","2,2,9"\n'
)
PARTS_LIST = b"source_image,target_image,class\nJPEGImages/a.jpg,JPEGImages/b.jpg,cat\n"
PASCAL_LIST = b"source_image,target_image,class,flip\nJPEGImages/a.jpg,JPEGImages/b.jpg,8,1\n"
PICTURE = png(np.zeros((20, 24, 3), np.uint8))
CROPS = b"file,label,left,top,right,bottom,score\na.png,cat,-0.5,-0.5,9.5,9.5,0.5\nb.png,dog,1,2,30.5,20,0.25\n"
LABELS = b'file,labels,boxes\na.png,cat dog,"[[""cat"", 1, 2, 3, 4]]"\nb.png,dog,\n'


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_images(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)


def read_pf_pascal(root: Path, annotation: bytes, pair_list: bytes = PASCAL_LIST) -> list[AnnotatedPair]:
    write_images(root / "JPEGImages" / "a.jpg", root / "JPEGImages" / "b.jpg")
    for name in "ab":
        write(root / "Annotations" / "cat" / f"{name}.mat", annotation)
    write(root / "test_pairs.csv", pair_list)
    return pf_pascal.load(root, "test", PairErrors())


def read_willow(root: Path, annotation: bytes) -> list[AnnotatedPair]:
    for category in pf_willow.CLASSES[:1]:
        write_images(root / category / "a.png", root / category / "b.png")
        write(root / category / "a.mat", WILLOW_MAT)
        write(root / category / "b.mat", annotation)
    for category in pf_willow.CLASSES[1:]:
        write(root / category / "one.mat", WILLOW_MAT)
    return pf_willow.load(root, "test", PairErrors())


def read_caltech(root: Path, annotation: bytes) -> list[AnnotatedPair]:
    images = root / caltech101.IMAGES / "cat"
    write_images(images / "image_0001.jpg", images / "image_0002.jpg")
    write(root / "Annotations" / "cat" / "annotation_0001.mat", CALTECH_MAT)
    write(root / "Annotations" / "cat" / "annotation_0002.mat", annotation)
    return caltech101.load(root, "test", PairErrors())


def read_caltech_list(root: Path, pair_list: bytes) -> list[AnnotatedPair]:
    write(root / caltech101.LIST, pair_list)
    return read_caltech(root, CALTECH_MAT)


def read_parts(root: Path, annotation: bytes, pair_list: bytes = PARTS_LIST) -> list[AnnotatedPair]:
    write_images(root / "JPEGImages" / "a.jpg", root / "JPEGImages" / "b.jpg")
    write(root / "JPEGImages" / "a_new.mat", PARTS_MAT)
    write(root / "JPEGImages" / "b_new.mat", annotation)
    write(root / pascal_parts.LIST, pair_list)
    return pascal_parts.load(root, "test", PairErrors())


def read_original_parts(root: Path, annotation: bytes) -> list[AnnotatedPair]:
    write_images(root / "JPEGImages" / "a.jpg", root / "JPEGImages" / "b.jpg")
    write(root / "Annotations_Part" / "a.mat", ANNO_MAT)
    write(root / "Annotations_Part" / "b.mat", annotation)
    write(root / pascal_parts.LIST, PARTS_LIST)
    return pascal_parts.load(root, "test", PairErrors())


def read_spair(root: Path, annotation: bytes) -> list[AnnotatedPair]:
    write_spair(root)
    write(root / "PairAnnotation" / "val" / "000000-x-y:cat.json", annotation)
    return spair.load(root, "val", PairErrors())


def read_shown_keypoints(root: Path, annotation: bytes) -> list[AnnotatedPair]:
    """The keypoints of an image, which the other image of its pair lacks in part."""
    read_spair(root, json.dumps(spair_entry(kps_ids=["2", "4"])).encode())
    for name in ("cat/x", "cat/y", "dog/y"):
        write(root / "ImageAnnotation" / f"{name}.json", annotation if name == "cat/x" else b'{"kps": {"2": [1, 1]}}')
    return spair.load(root, "val", PairErrors())


def read_animals(root: Path, annotations: bytes) -> list[AnnotatedPair]:
    (root / "data").mkdir()
    write_images(*(root / "data" / f"{name}.jpg" for name in "ab"))
    for name in FILES:
        write(root / name, annotations if "test" in name else b'{"images": [], "categories": [], "annotations": []}')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeomatchWarning)
        return AP_10K_SPECIES.load(root, "test", PairErrors())


def read_birds(root: Path, parts: bytes) -> list[AnnotatedPair]:
    write(write_cub(root / "cub") / "parts" / "part_locs.txt", parts)
    return CUB_200.load(root / "cub", "test", PairErrors())


def read_tracks(root: Path, pickled: bytes) -> list[AnnotatedPair]:
    write(root / "tapvid_davis.pkl", pickled)
    return TAP_VID_DAVIS.load(root, "test", PairErrors())


ANIMAL = {"category_id": 1, "bbox": [1, 2, 9, 9], "num_keypoints": 17, "keypoints": [3, 4, 2] * 17}
ANIMALS = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "categories": [{"id": 1, "name": "fox", "supercategory": "Canidae"}],
    "annotations": [ANIMAL | {"id": number, "image_id": number} for number in (1, 2)],
}
BIRDS = "".join(f"{number} {part} 20 20 1\n" for number in (1, 2, 4, 5, 6) for part in (1, 15)).encode()

Reader = Callable[[Path, bytes], list[AnnotatedPair]]
BENCHMARKS: Mapping[str, tuple[Reader, bytes]] = {
    "pf-pascal": (read_pf_pascal, PF_PASCAL_MAT),
    "pf-pascal, its list": (lambda root, content: read_pf_pascal(root, PF_PASCAL_MAT, content), PASCAL_LIST),
    "pf-willow": (read_willow, WILLOW_MAT),
    "caltech-101": (read_caltech, CALTECH_MAT),
    "caltech-101, its list": (read_caltech_list, CALTECH_LIST),
    "pascal-parts": (read_parts, PARTS_MAT),
    "pascal-parts, its list": (lambda root, content: read_parts(root, PARTS_MAT, content), PARTS_LIST),
    "pascal-parts, as PASCAL-Part has them": (read_original_parts, ANNO_MAT),
    "spair-71k": (read_spair, json.dumps(spair_entry()).encode()),
    "spair-71k, its images": (
        read_shown_keypoints,
        json.dumps({"kps": {"2": [1, 2], "4": [3, 4], "5": None}}).encode(),
    ),
    "ap-10k": (read_animals, json.dumps(ANIMALS).encode()),
    "cub-200": (read_birds, BIRDS),
    "tap-vid-davis": (read_tracks, pickle.dumps({"car": tap_video()})),
}
MATS = {
    "pf-pascal": ("kps", "bbox"),
    "pf-willow": ("pts_coord",),
    "caltech-101": ("obj_contour", "box_coord"),
    "pascal-parts": ("keypts", "keypts_status", "part_mask", "part_mask_status"),
    "pascal-parts, as PASCAL-Part has them": ("anno",),
}
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
arrays = hnp.arrays(st.sampled_from(["f8", "f4", "u1", "i4", "c16", "?"]), shapes)
cells = st.recursive(
    arrays | st.floats() | st.integers(-(2**31), 2**31) | st.text("ab"),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: np.array([*items, None], object)[:-1])
        | st.dictionaries(st.sampled_from(["objects", "class", "mask", "parts", "part_name"]), inner, min_size=1)
    ),
    max_leaves=8,
)
"""What a Matlab file can hold: arrays, texts, cells and structs."""


def use(pairs: list[AnnotatedPair]) -> None:
    """What an evaluation does with pairs."""
    for pair in pairs:
        assert pair.source_points.shape == pair.target_points.shape
        assert np.isfinite([pair.source_points, pair.target_points]).all()
        assert np.isfinite(0 if pair.hidden_points is None else pair.hidden_points).all()
        assert np.isfinite(pair.source_box or 0).all()
        assert np.isfinite(pair.target_box or 0).all()
        for read in filter(None, (pair.masks, pair.parts)):
            source, target = read()
            assert source.dtype == target.dtype == bool
            assert source.shape[-2:] == target.shape[-2:] == SIZE


def load_and_use(read: Reader, content: bytes) -> bool:
    with TemporaryDirectory() as folder:
        return assert_read_or_refused(lambda: use(read(Path(folder), content)))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_undamaged_annotations_are_readable(name: str) -> None:
    read, content = BENCHMARKS[name]
    assert load_and_use(read, content)
    assert name not in MATS or load_and_use(read, packed(content))


@pytest.mark.parametrize("name", BENCHMARKS)
@given(st.data())
@fuzzed(12)
def test_damaged_annotations(name: str, data: st.DataObject) -> None:
    read, content = BENCHMARKS[name]
    load_and_use(read, data.draw(mutations(content)))


@pytest.mark.parametrize("name", MATS)
@given(st.data())
@fuzzed(12)
def test_damaged_content_of_matlab_files(name: str, data: st.DataObject) -> None:
    read, content = BENCHMARKS[name]
    load_and_use(read, packed(data.draw(mutations(content))))


@pytest.mark.parametrize("name", MATS)
@given(st.data())
@fuzzed(12)
def test_arbitrary_matlab_variables(name: str, data: st.DataObject) -> None:
    good = scipy.io.loadmat(io.BytesIO(BENCHMARKS[name][1]), variable_names=MATS[name])
    changed = data.draw(st.sampled_from(MATS[name]))
    value = data.draw(cells)
    content = mat(**{variable: value if variable == changed else good[variable] for variable in MATS[name]})
    load_and_use(BENCHMARKS[name][0], content)


@given(st.sampled_from(list(spair_entry())), junk | st.lists(st.lists(odd_numbers, min_size=2, max_size=2)))
@fuzzed(24)
def test_arbitrary_spair_entry(key: str, value: object) -> None:
    load_and_use(read_spair, json.dumps(spair_entry(**{key: value})).encode())


@given(mutations(CROPS))
@fuzzed(32)
def test_damaged_crop_tables(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        write_shard(Path(folder), {"a.png": ("cat dog", ""), "b.png": ("dog", "")})
        write(Path(folder) / "crops.csv", content)
        photographs = find_images([Path(folder)])
        assert_read_or_refused(lambda: with_crops(photographs, read_crops(Path(folder) / "crops.csv")))


@given(mutations(LABELS))
@fuzzed(32)
def test_damaged_label_tables(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        write_shard(Path(folder), {"a.png": ("", ""), "b.png": ("", "")})
        write(Path(folder) / "labels.csv", content)
        assert_read_or_refused(lambda: find_images([Path(folder)]))
        assert_read_or_refused(lambda: read_true_boxes([Path(folder)]))


@given(junk)
@fuzzed(24)
def test_arbitrary_true_boxes(boxes: object) -> None:
    with TemporaryDirectory() as folder:
        write_shard(Path(folder), {"a.png": ("cat", json.dumps(boxes))})
        assert_read_or_refused(lambda: assert_finite(read_true_boxes([Path(folder)])))


def assert_finite(boxes: Mapping[object, list[tuple[float, float, float, float]]]) -> None:
    assert np.isfinite([box for found in boxes.values() for box in found]).all()


@given(st.data())
@fuzzed(32)
def test_damaged_tar_shards(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        write_shard(Path(folder), {"a.png": ("cat", ""), "b.png": ("dog", "")}, {"a.png": PICTURE})
        shard = Path(folder) / "shard.tar"
        shard.write_bytes(data.draw(mutations(shard.read_bytes()[:4096])))
        assert_read_or_refused(partial(read_photographs, Path(folder)))


def read_photographs(folder: Path) -> None:
    for part in hold_out(find_images([folder]), 0.5):
        for photograph in part:
            assert_read_or_refused(photograph.load)
