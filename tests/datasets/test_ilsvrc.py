"""ILSVRC as it is downloaded: folders, tar files, and tar files in one; and what can be wrong with them."""

import io
import os
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from geomatch.datasets import image_index
from geomatch.datasets.crops import Crop, with_crops
from geomatch.datasets.image_folder import find_images
from geomatch.datasets.image_index import find_images_once
from geomatch.datasets.image_list import LabelledImage, background_of, by_label, hold_out, with_labels
from geomatch.datasets.tar_members import read_members
from geomatch.errors import GeomatchWarning, InputError
from tests.datasets.layouts import png

SYNSETS = {"n02690373": ("aeroplane",), "n02123045": ("cat",), "n01440764": ("background",)}


def content(synset: str) -> dict[str, bytes]:
    """Three images of a synset, not in their names' order, each of its own colour."""
    first = list(SYNSETS).index(synset) * 10
    return {
        f"{synset}_{number}.JPEG": png(np.full((20, 20, 3), first + number, np.uint8)) for number in (7, 1, 3)
    }  # fmt: skip


def tar_of(files: Mapping[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=kind) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def write(form: str, folder: Path) -> Path:
    """Write the synsets in a form of the download, and return what ``--data`` is."""
    folder.mkdir()
    for synset in SYNSETS:
        if form == "folders":
            (folder / synset).mkdir()
            for name, data in content(synset).items():
                (folder / synset / name).write_bytes(data)
        else:
            (folder / f"{synset}.tar").write_bytes(tar_of(content(synset)))
    if form != "nested":
        return folder
    outer = tar_of({path.name: path.read_bytes() for path in folder.iterdir()})
    (folder / "ILSVRC2012_img_train.tar").write_bytes(outer)
    return folder / "ILSVRC2012_img_train.tar"


@pytest.mark.parametrize("form", ["folders", "tars", "nested"])
def test_find_images_same_in_every_form_of_ilsvrc(form: str, tmp_path: Path) -> None:
    images = find_images([write(form, tmp_path / "data")])
    expected = sorted(f"{synset}/{name}" for synset in SYNSETS for name in content(synset))
    assert [image.name for image in images] == list(images.names()) == expected
    for image in images:
        synset, _, name = image.name.partition("/")
        assert image.labels == SYNSETS[synset]
        assert image.open().read() == content(synset)[name]


def test_image_list_selections_match_those_of_a_list(tmp_path: Path) -> None:
    """A list of columns gives what a list of images gives, whatever is selected from it."""
    columns = find_images([write("nested", tmp_path / "data")])
    plain = list(columns)
    assert len(columns) == len(plain) == 9
    assert list(columns[2:5]) == plain[2:5]
    assert columns[-1] == plain[-1]
    assert {label: list(group) for label, group in by_label(columns).items()} == by_label(plain)
    assert list(background_of(columns)) == list(background_of(plain)) != []
    chosen = with_labels(columns, ["cat"], optional=["background"])
    assert list(chosen) == with_labels(plain, ["cat"], optional=["background"])
    assert len(chosen) == 6
    assert [list(part) for part in hold_out(columns, 0.5)] == list(hold_out(plain, 0.5))
    crops = [Crop(plain[0].name, "background", (0, 0, 9, 9), 1), Crop(plain[4].name, "cat", (1, 2, 8, 9), 1)]
    cropped = with_crops(columns, crops)
    assert list(cropped) == with_crops(plain, crops)
    assert [image.crop is not None for image in cropped].count(True) == 2
    assert list(with_labels(cropped, ["cat"])) == with_labels(list(cropped), ["cat"])
    with pytest.raises(IndexError):
        columns[9]


def test_find_images_orders_names_of_several_places(tmp_path: Path) -> None:
    for name in ("a/x-1", "a/x", "b/x"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "0.png").touch()
    found = find_images([tmp_path / "b", tmp_path / "a"])
    assert [(image.name, image.path) for image in found] == [
        ("x-1/0.png", tmp_path / "a/x-1/0.png"),
        ("x/0.png", tmp_path / "b/x/0.png"),
        ("x/0.png", tmp_path / "a/x/0.png"),
    ]


def test_find_images_table_names_members_of_a_synset_tar(tmp_path: Path) -> None:
    (tmp_path / "n02123045.tar").write_bytes(tar_of(content("n02123045")))
    (tmp_path / "labels.csv").write_text("file,labels\nn02123045_1.JPEG,tabby cat\n")
    with pytest.warns(GeomatchWarning, match="images without a row: 2$"):
        found = {image.name: image.labels for image in find_images([tmp_path])}
    assert found == {"n02123045_1.JPEG": ("tabby", "cat"), "n02123045_3.JPEG": (), "n02123045_7.JPEG": ()}


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("names", [["a.png", "b/c.png", "é.png"], ["d" * 60 + "/" + "e" * 60 + ".png", "f" * 150]])
def test_read_members_equals_tarfile(kind: int, names: list[str], tmp_path: Path) -> None:
    if kind == tarfile.USTAR_FORMAT and "f" * 150 in names:
        names = names[:1]
    inner = tar_of({name: b"x" * (number * 700) for number, name in enumerate(names)}, kind)
    outer = tar_of({"before": b"y" * 1000, "inner.tar": inner, "after": b"z"}, kind)
    for path, data in ((tmp_path / "inner.tar", inner), (tmp_path / "outer.tar", outer)):
        path.write_bytes(data)
        found = read_members(path)
        with tarfile.open(path, "r:") as archive:
            expected = [(member.name, member.offset_data, member.size) for member in archive]
        assert list(zip(found.names, found.offsets, found.sizes, strict=True)) == expected
    at, size = found.offsets[1], found.sizes[1]
    nested, alone = read_members(tmp_path / "outer.tar", at, size, "inner.tar"), read_members(tmp_path / "inner.tar")
    assert (nested.names, nested.sizes) == (alone.names, alone.sizes)
    assert nested.offsets == [at + offset for offset in alone.offsets]


def test_read_members_skips_links_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").symlink_to("a.png")
    with tarfile.open(tmp_path / "t.tar", "w:") as archive:
        archive.add(tmp_path / "b.png", "b.png")
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        archive.add(tmp_path / "a.png", "sub/a.png")
    assert read_members(tmp_path / "t.tar").names == ["sub/a.png"]


@pytest.mark.parametrize("form", ["tars", "nested"])
def test_find_images_half_a_download(form: str, tmp_path: Path) -> None:
    data = write(form, tmp_path / "data")
    shard = data / "n02690373.tar" if form == "tars" else data
    shard.write_bytes(shard.read_bytes()[: 1300 if form == "tars" else shard.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"{shard.name}: .*cannot be read as .*tar file.*half a download"):
        find_images([data])


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"PK\x03\x04", "is a zip file: unpack it"), (b"\x1f\x8b", "is a compressed file: unpack it"), (b"abc", "cannot")],
)
def test_find_images_packed_file(start: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "train.tar").write_bytes(start + b"x" * 2000)
    for data in (tmp_path / "train.tar", tmp_path):
        with pytest.raises(InputError, match=rf"train\.tar: {said}"):
            find_images([data])
    (tmp_path / "outer.tar").write_bytes(tar_of({"n01440764.tar": start + b"x" * 2000}))
    with pytest.raises(InputError, match=rf"outer\.tar: n01440764\.tar in it {said}"):
        find_images([tmp_path / "outer.tar"])


def test_find_images_counts_members_that_are_not_images(tmp_path: Path) -> None:
    (tmp_path / "n02123045.tar").write_bytes(tar_of(content("n02123045") | {"readme.txt": b"", "x.html": b""}))
    with pytest.warns(GeomatchWarning, match=r"passed over, not images: 1 \.html, 1 \.txt"):
        assert len(find_images([tmp_path])) == 3


def test_image_list_keeps_names_of_any_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "pot"
    folder.mkdir()
    name = b"\xff\xc3.png".decode(errors="surrogateescape")
    (folder / name).write_bytes(png(np.full((20, 20, 3), 9, np.uint8)))
    (image,) = find_images([tmp_path])
    assert image == LabelledImage(f"pot/{name}", folder / name, ("pot",))
    assert int(image.load().max()) == 9


def settled(data: Path) -> Path:
    """The data as they would be if they had been written a day ago."""
    folder = data if data.is_dir() else data.parent
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - 86400,) * 2)
    return data


@pytest.mark.parametrize("form", ["folders", "tars", "nested"])
def test_index_saves_listing_until_data_change(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, index = settled(write(form, tmp_path / "data")), tmp_path / "out.index"
    monkeypatch.setattr(image_index, "KEPT_FROM", 10)
    assert len(find_images_once([data], index)) == 9
    assert not index.exists()
    monkeypatch.setattr(image_index, "KEPT_FROM", 9)
    listed = list(find_images_once([data], index))
    with monkeypatch.context() as patch:
        patch.setattr(image_index, "find_images", lambda _: pytest.fail("data are listed again"))
        assert list(find_images_once([data], index)) == listed
    changed = {"folders": data / "n01440764", "tars": data / "n01440764.tar", "nested": data}[form]
    if form == "folders":
        (changed / "new.png").touch()
    else:
        changed.write_bytes(tar_of({"new.png": b""}))
    assert "new.png" in " ".join(find_images_once([data], index).names())


def test_index_of_fresh_or_other_data_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_index, "KEPT_FROM", 1)
    data, index = write("folders", tmp_path / "data"), tmp_path / "out.index"
    find_images_once([data], index)
    assert not index.exists()  # a file written in the same instant would not show
    find_images_once([settled(data)], index)
    assert index.exists()
    assert len(find_images_once([data / "n01440764"], index)) == 3


@pytest.mark.parametrize("seed", range(12))
def test_index_damaged_is_as_none(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_index, "KEPT_FROM", 1)
    data, index = settled(write("folders", tmp_path / "data")), tmp_path / "out.index"
    names = list(find_images_once([data], index).names())
    content = bytearray(index.read_bytes())
    random = np.random.default_rng(seed)
    if seed % 3 == 0:
        del content[int(random.integers(len(content))) :]
    else:
        for place in random.integers(len(content), size=20):
            content[place] = int(random.integers(256))
    index.write_bytes(content)
    assert list(find_images_once([data], index).names()) == names
