import json
from pathlib import Path

import numpy as np
import pytest

from geomatch.cli.scores import print_comparison
from geomatch.errors import InputError
from geomatch.evaluation.compare import Scored, compare, parse_scored


def read_scored(path: Path) -> Scored:
    return parse_scored(path.read_text(), str(path))


def write(path: Path, correct: list[int], *, errors: list[float | None] | None = None, **changes: object) -> Path:
    """What `geomatch eval --json` prints of pairs with four points each."""
    record = {
        "dataset": "pf-willow",
        "split": "test",
        "features": path.stem,
        "matcher": "nn",
        "results": [
            {"protocol": "geomatch", "average": average, "alpha": 0.1} for average in ("per-image", "per-class")
        ],
        "measures": [{"name": "end-point error", "better": "lower", "per_pair": errors or [1.0] * len(correct)}],
        "pair_list": [
            {
                "source": f"{index}.png",
                "target": "b.png",
                "category": "duck" if index < 2 else "car",
                "points": 4,
                "correct": {"geomatch": {"0.1": count}},
            }
            for index, count in enumerate(correct)
        ],
    } | changes
    path.write_text(json.dumps(record) + "\n")
    return path


def test_compare_tells_gain_from_draw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 4, 200).tolist()
    worse = read_scored(write(tmp_path / "a.json", base))
    better = read_scored(write(tmp_path / "b.json", [count + 1 for count in base]))
    found = compare(worse, better)
    assert [each.score for each in found] == [
        "geomatch, per-image, PCK@0.10",
        "geomatch, per-class, PCK@0.10",
        "end-point error",
    ]
    assert [each.better for each in found] == ["second", "second", "undecided"]
    assert found[0].second - found[0].first == pytest.approx(0.25)
    assert found[0].difference.value == pytest.approx(0.25)
    assert [each.better for each in compare(better, worse)] == ["first", "first", "undecided"]


def test_compare_uses_averages_of_evaluation(tmp_path: Path) -> None:
    """Two ducks and three cars: every class counts the same per class."""
    scored = read_scored(write(tmp_path / "a.json", [4, 4, 0, 0, 4]))
    per_image, per_class, _ = compare(scored, scored)
    assert per_image.first == pytest.approx(3 / 5)
    assert per_class.first == pytest.approx((1 + 1 / 3) / 2)


def test_compare_lower_is_better_and_skips_missing(tmp_path: Path) -> None:
    first = read_scored(write(tmp_path / "a.json", [1] * 4, errors=[5.0, 6.0, 7.0, None]))
    second = read_scored(write(tmp_path / "b.json", [1] * 4, errors=[2.0, 3.0, 4.0, 90.0]))
    error = compare(first, second)[-1]
    assert (error.first, error.second, error.better) == (6.0, 3.0, "second")


def test_compare_refuses_other_pairs_or_benchmark(tmp_path: Path) -> None:
    first = read_scored(write(tmp_path / "a.json", [1, 2, 3]))
    with pytest.raises(InputError, match="the first scored 3 pairs, the second 2, and they differ"):
        compare(first, read_scored(write(tmp_path / "b.json", [1, 2])))
    with pytest.raises(InputError, match="scores on pf-willow test with scores on pf-willow val"):
        compare(first, read_scored(write(tmp_path / "b.json", [1, 2, 3], split="val")))


@pytest.mark.parametrize("content", ["", "{}\n{}\n", "nonsense", "[]", '{"results": 3}', '{"pair_list": [1]}', "3"])
def test_parse_scored_names_bad_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json"):
        read_scored(tmp_path / "a.json")


def test_parse_scored_accepts_pairs_without_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", [0, 0])
    nothing = path.read_text().replace('"points": 4', '"points": 0')
    scored = parse_scored(nothing, "a.json")
    print_comparison(scored, scored, compare(scored, scored), json=True)
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores[0]["first"] is None
    assert scores[0]["difference"]["value"] is None


def test_print_comparison_keeps_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = read_scored(write(tmp_path / "a.json", [1, 2], dataset="mine [/red]"))
    print_comparison(scored, scored, compare(scored, scored), json=False)
    assert "mine [/red] test, 2 pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "a\x1b[31m"},
        {"features": 3},
        {"measures": [{"name": "error", "better": "sideways", "per_pair": [1.0, 2.0]}]},
        {"measures": [{"name": "error", "better": "lower", "per_pair": [1.0, 10**400]}]},
        {"measures": [{"name": "error", "better": "lower", "per_pair": [1.0, float("inf")]}]},
        {"results": [{"protocol": "geomatch", "average": "per-moon", "alpha": 0.1}]},
    ],
)
def test_parse_scored_refuses_impossible_values(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="not the output of 'geomatch eval --json'"):
        read_scored(write(tmp_path / "a.json", [1, 2], **change))


def test_parse_scored_refuses_more_correct_than_points(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more correct points than points"):
        read_scored(write(tmp_path / "a.json", [1, 5]))
