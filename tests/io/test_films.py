"""Frames of films, as images: their names, their pixels, and films that cannot be read."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geomatch.errors import InputError, MissingLibraryError
from geomatch.io.formats import films
from geomatch.io.formats.films import frame_names, frame_of, read_frame
from geomatch.io.images import load_image
from geomatch.io.inputs import read_input, stem_of
from geomatch.io.names import unique_names

COUNT = 14


def write_film(
    path: Path, count: int = COUNT, size: tuple[int, int] = (48, 64), codec: str = "libx264", **options: str
) -> Path:
    """A film whose frames are ever brighter."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'geomatch[video]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "10", **options}
        for number in range(count):
            grey = np.full((*size, 3), brightness(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


def brightness(number: int) -> int:
    return 20 + 12 * number % 220


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


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("open.mp4", "libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3:scenecut=0"}),
        ("hidden.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
        ("times.avi", "libx264", {"bf": "2"}),
    ],
)
def test_frames_out_of_order_are_those_of_the_whole_film(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    """Whether the film is sought in, has packets without a frame, or no times that frames are shown at."""
    film = write_film(tmp_path / name, 40, codec=codec, **options)
    numbers = range(len(frame_names(film)))
    in_order = [read_frame(film, number) for number in numbers]
    assert len(set(in_order)) == 40 == len(in_order)
    assert [read_frame(film, number) for number in reversed(numbers)] == in_order[::-1]
    assert [read_frame(film, number) for number in numbers[::11]] == in_order[::11]
    with pytest.raises(InputError, match="has 40 frames, numbered from 0; there is no frame 40"):
        read_frame(film, 40)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times of all frames that are decoded."""
    times, decode = [], films._decoded

    def counting(film: Path, time: int | None = None) -> Iterator[Any]:
        for frame in decode(film, time):
            times.append(frame.pts)
            yield frame

    monkeypatch.setattr(films, "_decoded", counting)
    return times


def test_far_frame_is_decoded_from_the_key_frame_before_it(decoded: list[int], tmp_path: Path) -> None:
    film = write_film(tmp_path / "clip.mp4", 120, g="20", bf="0", sc_threshold="0")
    assert len(frame_names(film)) == 120
    assert not decoded
    late, early = mean(film, 115), mean(film, 42)
    assert len(decoded) == 16 + 3
    assert (late, early) == pytest.approx((brightness(115), brightness(42)), abs=3)
    mean(film, 44)
    assert len(decoded) == 16 + 5


def test_film_whose_seeking_leads_astray_is_decoded_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, decode = write_film(tmp_path / "clip.mp4", 40, g="20"), films._decoded
    monkeypatch.setattr(films, "_decoded", lambda film, time=None: [] if time else decode(film))
    assert mean(film, 30) == pytest.approx(brightness(30), abs=3)


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
