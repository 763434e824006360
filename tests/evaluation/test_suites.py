"""The tables of the papers: what they hold, and their forms."""

import math
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from geomatch.datasets.load import find_benchmark
from geomatch.errors import InputError
from geomatch.evaluation.measures import MEASURES
from geomatch.evaluation.protocols import find_protocols
from geomatch.evaluation.report.paper_page import paper_page
from geomatch.evaluation.results import ClassScore, Evaluation, Measure, Result, Score, ScoredPair
from geomatch.evaluation.suites.benchmarks import check_parent, folder_of, how_to_get
from geomatch.evaluation.suites.formats import SHORT_NAMES, short_name, to_latex, to_markdown, to_text
from geomatch.evaluation.suites.suite import Bound, Method, PaperTable, Published, chosen_methods, suites
from geomatch.evaluation.suites.table import FinishedTable, Row, finish_table, text_of
from geomatch.matching.load import load_matcher
from geomatch.registry import FEATURES

VOC = [*SHORT_NAMES, *(f"class{number}" for number in range(14))]


def make_table(classes: list[str]) -> FinishedTable:
    """Two computed rows, the second better everywhere but in the first class, and a published one."""
    first = Row("sift + dsp", 0.3, {name: 0.25 + place / 100 for place, name in enumerate(classes)}, (0.25, 0.35))
    second = Row("an & odd_name of features | and more text + nn", 0.7, dict.fromkeys(classes[1:], 0.6), (0.6, 0.8))
    published = Row("HOG + LOM", 0.568, {}, source="Ham et al., 2016")
    return FinishedTable("Keypoints", "pf-pascal", "test", "PCK@0.10", 20, 299, classes, [first, second, published])


@pytest.mark.parametrize("width", [60, 80, 200])
def test_text_fits_width_and_shows_every_number_once(width: int) -> None:
    table = make_table(VOC)
    text = to_text(table, width)
    assert max(map(len, text.splitlines())) <= width
    rows = [line for line in text.splitlines() if line.startswith("sift + dsp")]
    assert [number for line in rows for number in line.removeprefix("sift + dsp").split()] == [
        text_of(table.rows[0], name) for name in (None, *VOC)
    ]
    headings = [line for line in text.splitlines() if line.startswith("method")]
    assert [word for line in headings for word in line.split()[1:]] == ["all", *map(short_name, VOC)]
    assert text.count(".568") == text.count("HOG + LOM [1]") == 1
    assert "SUBSET of 20 of 299" in text.replace("\n", " ")


def test_markdown_is_a_table_whose_best_is_bold() -> None:
    text = to_markdown([make_table(["cat", "dog"])], "A paper", ["tss: not here"])
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {4}
    assert rows[2] == ["sift + dsp", ".300", "**.250**", ".260"]
    assert rows[3][1:] == ["**.700**", "-", "**.600**"]
    assert rows[4] == ["HOG + LOM [1]", ".568", "-", "-"]
    assert "Published: [1] Ham et al., 2016." in text
    assert "- tss: not here" in text


def test_latex_is_balanced_and_escaped() -> None:
    text = to_latex([make_table(["cat", "bicycle-to-motorbike"])], [])
    assert text.count("{") == text.count("}")
    assert text.count("\\begin{") == text.count("\\end{") == 2
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [3] * 4
    assert "an \\& odd\\_name" in text
    assert "bike$\\to$mbike" in text
    assert "\\textbf{.700}" in text


def test_page_holds_every_table_and_loads_nothing() -> None:
    found: list[str] = []

    class Cells(HTMLParser):
        def handle_data(self, data: str) -> None:
            found.append(data)

    page = paper_page([make_table(["cat", "dog"])], "A <paper>", ["tss: not here"], "geomatch reproduce x")
    Cells().feed(page)
    assert {"A <paper>", "tss: not here", ".300", ".568", "HOG + LOM [1]", "geomatch reproduce x"} <= set(found)
    assert "http" not in page.replace("http-equiv", "")


def make_evaluation(**changes: object) -> Evaluation:
    pairs = [ScoredPair("a", "b", name, None, 1, {}) for name in ("dog", "cat", "cat")]
    per_class = {name: ClassScore(1, value, (0, 1)) for name, value in (("cat", 0.4), ("dog", 0.8), ("same side", 0.1))}
    measured = {"cat": Score(2, 0.5, (0, 1))}
    fields: dict[str, object] = {
        "dataset": "pf-pascal",
        "split": "test",
        "pairs": 3,
        "of": 3,
        "keypoints": 3,
        "features": "sift",
        "weights": None,
        "matcher": "nn",
        "settings": {},
        "version": "1",
        "results": [
            Result("pf", "per-class", alpha, value, (0.5, 0.7), per_class) for alpha, value in ((0.05, 0.2), (0.1, 0.6))
        ],
        "measures": [Measure("part IoU", "", "share", "higher", 0.3, None, measured, [])],
        "curves": [],
        "skipped": [],
        "reused": 0,
        "extractions": 0,
        "seconds": {},
        "pair_list": pairs,
    }
    return Evaluation(**fields | changes)  # type: ignore[arg-type]


def test_finished_table_has_classes_alone_and_published_rows_last() -> None:
    wanted = PaperTable("t", "pf-pascal", protocol="pf", alpha=0.1, published=(Published("old", 0.5, "paper"),))
    table = finish_table(wanted, [make_evaluation(), make_evaluation(features="hog")])
    assert table is not None
    assert table.classes == ["cat", "dog"]
    assert [(row.method, row.overall, row.source) for row in table.rows] == [
        ("sift + nn", 0.6, ""),
        ("hog + nn", 0.6, ""),
        ("old", 0.5, "paper"),
    ]
    assert table.rows[0].per_class == {"cat": 0.4, "dog": 0.8}
    assert table.caption == "t: PCK@0.10, protocol pf; pf-pascal test, 3 pairs"


def test_finished_table_of_a_measure_and_of_none() -> None:
    table = finish_table(PaperTable("t", "pascal-parts", measure="part IoU"), [make_evaluation()])
    assert table is not None
    assert (table.rows[0].overall, table.rows[0].per_class, table.classes) == (0.3, {"cat": 0.5}, ["cat"])
    assert finish_table(PaperTable("t", "pascal-parts", measure="mask IoU"), [make_evaluation()]) is None
    assert finish_table(PaperTable("t", "pf-pascal", protocol="pf", alpha=0.2), [make_evaluation()]) is None
    assert finish_table(PaperTable("t", "pf-pascal", protocol="pf", alpha=0.1), []) is None


def test_finished_table_has_bound_that_is_never_the_best() -> None:
    """One row, whatever the features, of the matcher of the bound alone; methods are bold, the bound is not."""
    wanted = PaperTable("t", "pf-pascal", measure="PCR AuC", bound=Bound("roi-nn", "PCR AuC, upper bound"))

    def regions(matcher: str, value: float, **changes: object) -> Evaluation:
        values = {"PCR AuC": value, "PCR AuC, upper bound": 0.9}
        measures = [Measure(name, "", "share", "higher", each, None, {}, []) for name, each in values.items()]
        return make_evaluation(matcher=matcher, measures=measures, **changes)

    found = finish_table(
        wanted, [regions("pf-lom", 0.5), regions("roi-nn", 0.3), regions("roi-nn", 0.4, features="hog")]
    )
    assert found is not None
    assert [(row.method, row.overall) for row in found.rows] == [
        ("sift + pf-lom", 0.5),
        ("sift + roi-nn", 0.3),
        ("hog + roi-nn", 0.4),
        ("upper bound of roi-nn", 0.9),
    ]
    assert re.findall(r"\*\*(.*?)\*\*", to_markdown([found], "A paper", [])) == [".500"]
    alone = finish_table(wanted, [regions("pf-lom", 0.5)])
    assert alone is not None
    assert len(alone.rows) == 1


@pytest.mark.parametrize(("value", "text"), [(0.5237, ".524"), (1.0, "1.000"), (math.nan, "-"), (0.0, ".000")])
def test_score_text(value: float, text: str) -> None:
    assert text_of(Row("x", value, {})) == text
    assert text_of(Row("x", 0.5, {"cat": value}), "cat") == text
    assert text_of(Row("x", 0.5, {}), "dog") == "-"


@pytest.mark.parametrize("name", list(suites()))
def test_suite_names_what_exists(name: str) -> None:
    suite = suites()[name]
    for table in suite.tables:
        assert find_benchmark(table.dataset).name == table.dataset
        if table.measure:
            assert table.measure in MEASURES
        else:
            (protocol,) = find_protocols(table.dataset, [table.protocol])
            assert table.alpha in protocol.alphas
        assert all(0 < each.value < 1 and each.source for each in table.published)
    for method in suite.methods:
        assert FEATURES.canonical(method.features.partition(":")[0])
        load_matcher(method.matcher, method.parameters)
    assert chosen_methods(suite, ["hog"], ["dsp"]) == [Method("hog", "dsp")]
    assert chosen_methods(suite, [], []) == list(suite.methods)


def test_folder_of_benchmark_by_any_name_or_itself(willow: Path) -> None:
    benchmark = find_benchmark("pf-willow")
    assert folder_of(benchmark, willow.parent) == willow
    (willow.parent / "other").mkdir()
    moved = willow.rename(willow.parent / "other" / "pf-willow")
    assert folder_of(benchmark, moved.parent) == moved
    assert folder_of(benchmark, moved) == moved
    assert folder_of(find_benchmark("pf-pascal"), moved) is None


def test_absent_benchmark_is_downloaded_or_unpacked(tmp_path: Path) -> None:
    benchmark = find_benchmark("pf-willow")
    assert how_to_get(benchmark, tmp_path).startswith(
        f"pf-willow: not in {tmp_path}; download PF-dataset.zip from http"
    )
    archive = tmp_path / "PF-dataset.zip"
    archive.write_bytes(b"PK")
    assert "is damaged, or half of a download" in how_to_get(benchmark, tmp_path)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("PF-dataset/car(G)/a.png", "")
    assert f"is still packed: run `unzip {archive}" in how_to_get(benchmark, tmp_path)
    with pytest.raises(InputError, match=r"is still packed: run `unzip .*--root must be the folder that holds"):
        check_parent(archive)
