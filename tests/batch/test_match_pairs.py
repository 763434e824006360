"""Places of a batch; what it does is tested as the command does it."""

from pathlib import Path

from geomatch.batch.match_pairs import assign_folders


def test_a_pair_s_folder_is_called_after_both_images() -> None:
    pairs = [(Path("cats/a.jpg"), Path("b.c.png")), (Path("dogs/a.jpg"), Path("b.c.png"))]
    assert [pair.folder for pair in assign_folders(pairs, Path("out"))] == [Path("out/a--b.c"), Path("out/a--b.c-2")]
