"""What a folder holds is used, or counted in one note."""

import io
import tarfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.datasets.image_folder import find_images
from geomatch.errors import GeomatchWarning
from geomatch.io.images import load_image


def test_find_images_follows_links_and_excludes_loops(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "a.jfif", "JPEG")
    (tmp_path / "photos" / "._a.jfif").write_bytes(b"\0\5\x16\7")
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pot").symlink_to("../photos")
    (tmp_path / "photos" / "loop").symlink_to("../photos")
    assert [(each.name, each.labels) for each in find_images([tmp_path / "data"])] == [("pot/a.jfif", ("pot",))]


def test_find_images_counts_what_is_passed_over(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    for name in ("b.jxl", "c.jxl", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    with pytest.warns(GeomatchWarning, match=r"2 \.jxl, 1 \.txt, 1 broken link") as said:
        assert [each.name for each in find_images([tmp_path])] == ["a.png"]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file,labels\na.png,pot\nb.png,cup pot\n", ""),
        ("\ufefffilename;label\r\na.png;pot\r\nB.PNG;cup\r\n./in/b.png;pot\r\n", "rows without an image: 1$"),
        ("a.png,pot\nin/b.png,cup\nin\\b.png,pot\n", "names no columns; they are read as file, labels$"),
        ("Path,Class\na.png,pot\nin/b.png,cup\nin/b.png,pot\n", ""),
        ("file,labels\na.png,pot\nc.png,cup\n", "images without a row: 1; rows without an image: 1$"),
    ],
)
def test_labels_beside_shards_are_used_or_counted(table: str, said: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "PNG")
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        for name in ("./a.png", "in/b.png", "._a.png", "__MACOSX/._b.png"):
            member = tarfile.TarInfo(name)
            member.size = len(buffer.getvalue())
            shard.addfile(member, io.BytesIO(buffer.getvalue()))
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8", newline="")
    with pytest.warns(GeomatchWarning, match=said) if said else nullcontext():
        images = find_images([tmp_path])
    labels = {each.name: each.labels for each in images}
    assert labels.pop("a.png") == ("pot",)
    assert {"in/b.png"} == labels.keys()
    assert set(labels["in/b.png"]) == (set() if "c.png" in table else {"pot"} if "B.PNG" in table else {"cup", "pot"})


def test_narrow_deep_image_keeps_its_contrast_despite_outliers(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1000, 1100, (40, 50)).astype(np.uint16)
    values[0, :5] = 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.warns(GeomatchWarning, match="stretched"):
        read = load_image(tmp_path / "a.png")
    assert read.float().std() > 60
