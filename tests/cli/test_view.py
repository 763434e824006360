"""`geomatch view` as a user meets it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cli.command import assert_refused, geomatch


def test_view_page_and_record_are_reproducible(teapots: Path, tmp_path: Path) -> None:
    arguments = ("view", teapots / "a.png", teapots / "b.png", "--preset", "fast")
    done = geomatch(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["a--b.html"] == [record["output"]]
    assert record["bytes"] == (tmp_path / "a--b.html").stat().st_size < 3_000_000
    assert record["matcher"] == "affine"
    page = (tmp_path / "a--b.html").read_text()
    assert f"mean confidence {record['mean_confidence']:.2f}" in page
    again = geomatch(*arguments, "-o", "again.html", "--quiet", cwd=tmp_path)
    assert (again.returncode, json.loads(again.stdout)["output"], again.stderr) == (0, "again.html", "")
    assert (tmp_path / "again.html").read_text() == page


def test_view_existing_page_needs_overwrite(teapots: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    arguments = ("view", teapots / "a.png", teapots / "b.png", "-o", "page.html", "--preset", "fast")
    assert_refused(geomatch(*arguments, cwd=tmp_path), "page.html", "--overwrite", folder=tmp_path)
    assert (tmp_path / "page.html").read_text() == "mine"
    assert geomatch(*arguments, "--overwrite", cwd=tmp_path).returncode == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "page.png"], "ends in .html"),
        (["--features", "surf"], "surf"),
        (["--max-memory", "lots"], "2GiB"),
    ],
)
def test_view_bad_options_are_named(arguments: list[str], said: str, teapots: Path, tmp_path: Path) -> None:
    done = geomatch("view", teapots / "a.png", teapots / "b.png", *arguments, cwd=tmp_path)
    assert_refused(done, said, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_view_missing_image_is_named(teapots: Path, tmp_path: Path) -> None:
    assert_refused(geomatch("view", teapots / "a.png", "b.png", cwd=tmp_path), "b.png: no such file", folder=tmp_path)


def test_view_file_name_that_is_not_unicode(teapots: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"odd\xff.png")
    shutil.copy(teapots / "a.png", odd)
    done = geomatch("view", odd, teapots / "b.png", "-o", "page.html", "--preset", "fast", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "<title>odd?.png and b.png" in (tmp_path / "page.html").read_text("utf-8")
