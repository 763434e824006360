"""The score of teapots: right numbers, and one sentence for files that have none."""

import json
from pathlib import Path

import pytest
import score_teapots

TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "categories": [{"keypoints": ["knob", "foot"]}],
    "annotations": [{"image_id": each, "keypoints": [0, 0, 2, 100, 0, 2]} for each in (1, 2)],
}


def score(folder: Path, monkeypatch: pytest.MonkeyPatch, *records: object) -> None:
    (folder / "found.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["score_teapots.py", "found.jsonl", "truth.json"])
    score_teapots.main()


def test_score_counts_what_is_near_and_an_unusable_image_as_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [{"name": "knob", "x": 4, "y": 0}, {"name": "foot", "x": 92, "y": 0}]
    score(tmp_path, monkeypatch, {"image": "photos/a.jpg", "items": items}, {"image": "b.jpg", "error": "damaged"})
    assert capsys.readouterr().out.splitlines() == [
        "2 images, 1 with all keypoints within .10",
        "keypoints within .05: 0.250, within .10: 0.500",
    ]


@pytest.mark.parametrize(
    ("records", "said"),
    [([], "found.jsonl holds no image"), ([{"image": "c.jpg", "items": []}], "truth.json does not know c.jpg")],
)
def test_score_of_nothing_is_one_sentence(
    records: list[object],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        score(tmp_path, monkeypatch, *records)
    assert left.value.code == 2
    assert said in capsys.readouterr().err
