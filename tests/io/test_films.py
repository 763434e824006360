"""Frames of films, as images: their names, their pixels, and films that cannot be read."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from geomatch.errors import InputError, MissingLibraryError
from geomatch.io.formats.films import frame_names, frame_of, read_frame
from geomatch.io.images import load_image
from geomatch.io.inputs import read_input, stem_of
from geomatch.io.names import unique_names

COUNT = 14


def write_film(path: Path, count: int = COUNT, size: tuple[int, int] = (48, 64)) -> Path:
    """A film whose frames are ever brighter."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'geomatch[video]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = size
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "10"}
        for number in range(count):
            grey = np.full((*size, 3), brightness(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


def brightness(number: int) -> int:
    return 20 + 12 * number


def mean(film: Path, number: int) -> float:
    return float(load_image(Path(f"{film}#{number}")).float().mean())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".MOV"])
def test_film_has_the_frames_that_were_written(suffix: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / f"a clip{suffix}")
    names = frame_names(film)
    assert names[0] == tmp_path / f"a clip{suffix}#000000"
    assert [frame_of(name) for name in names] == [(film, number) for number in range(COUNT)]
    means = [float(load_image(name).float().mean()) for name in names]
    assert means == pytest.approx([brightness(number) for number in range(COUNT)], abs=3)
    assert load_image(names[0]).shape == (3, 48, 64)


def test_frames_are_the_same_in_any_order_and_from_threads(tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.mp4")
    order = [9, 2, 13, 0, 12, 12, 1, 5]
    one_by_one = [read_frame(film, number) for number in order]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: read_frame(film, number), order)) == one_by_one
    assert mean(film, 9) == pytest.approx(brightness(9), abs=3)
    assert len({read_input(Path(f"{film}#{number}")).sha256 for number in order}) == len(set(order))


def test_film_that_has_changed_is_read_again(tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.mp4")
    assert mean(film, 3) == pytest.approx(brightness(3), abs=3)
    write_film(film, count=2)
    with pytest.raises(InputError, match=r"clip\.mp4: has 2 frames, numbered from 0; there is no frame 3"):
        mean(film, 3)
    assert mean(film, 1) == pytest.approx(brightness(1), abs=3)


def test_names_of_frames_are_names_of_files(tmp_path: Path) -> None:
    frames = [Path(f"a/clip.mp4#{number}") for number in (0, 12, 12)]
    assert list(unique_names(map(stem_of, frames))) == ["clip-000000", "clip-000012", "clip-000012-2"]
    (tmp_path / "odd.mp4#1").write_bytes(b"a file of its own")
    assert frame_of(tmp_path / "odd.mp4#1") is None
    assert read_input(tmp_path / "odd.mp4#1").content == b"a file of its own"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "not a film that can be read"), (b"\0" * 400, "not a film that can be read"), (None, "no such file")],
)
def test_damaged_film_is_one_sentence(content: bytes | None, said: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    film = tmp_path / "clip.mp4"
    if content is not None:
        film.write_bytes(content)
    for read in (frame_names, lambda film: read_frame(film, 0)):
        with pytest.raises(InputError, match=said):
            read(film)


def test_cut_film_is_one_sentence(tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.mp4")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(InputError, match=r"clip\.mp4: not a film that can be read"):
        frame_names(film)


def test_playlist_opens_no_other_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_film(tmp_path / "secret.mp4")
    (tmp_path / "clip.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'secret.mp4'}\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match="not a film that can be read"):
        frame_names(tmp_path / "clip.mp4")


def test_film_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"any")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingLibraryError, match=r"a film needs PyAV: pip install 'geomatch\[video\]'"):
        frame_names(tmp_path / "clip.mp4")
