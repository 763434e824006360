import math
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from geomatch.evaluation.report import PairPicture, report_page
from geomatch.evaluation.report.charts import LARGEST_POINT
from geomatch.evaluation.report.wording import ALPHA, NOTHING, best, interval_text, number
from geomatch.evaluation.results import ClassScore, Curve, Evaluation, Measure, Result, Score, ScoredPair, alpha_text
from geomatch.visualize.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from geomatch.visualize.markup import Markup, element, joined
from geomatch.visualize.page import data_uri

DASH = "\N{EN DASH}"
SCRIPT = "<script>alert('&')</script>"


def result(pck: float, alpha: float = 0.1, protocol: str = "own", average: str = "per-image") -> Result:
    classes = {"cat": ClassScore(3, pck, (pck - 0.05, pck + 0.05)), "dog": ClassScore(1, 0.25, (0.2, 0.3))}
    return Result(protocol, average, alpha, pck, (pck - 0.01, pck + 0.01), classes)


def measure(name: str, value: float, unit: str = "share", better: str = "lower") -> Measure:
    return Measure(name, f"what {name} is", unit, better, value, None, {}, [])


EVALUATION = Evaluation(
    dataset="pf-willow",
    split="test",
    pairs=4,
    of=4,
    keypoints=1234,
    features="introspection",
    weights="d38d7e26",
    matcher="nn",
    settings={"working_size": 320, "neighbours": None, "mutual": True, "densification": {"window": 3}},
    version="9.8.7",
    results=[result(0.357, 0.05), result(0.612)],
    measures=[measure("ECE", 0.043), measure("end-point error", 3.21, unit="pixels")],
    curves=[Curve("pck", [0.05, 0.1], [0.25, 0.5])],
    skipped=[],
    reused=1,
    extractions=8,
    seconds={"features": 2.0, "matching": 4.0},
    pair_list=[ScoredPair("a.png", "b.png", name, None, 10, {}) for name in ("cat", "dog")],
)
OTHER = replace(EVALUATION, matcher="hough", results=[result(0.467, 0.05), result(0.594)])


def picture(rank: str = "best", **changes: str) -> PairPicture:
    pair = PairPicture(rank, "a.png", "b.png", "cat", 7, 10, Image.new("RGBA", (40, 20), (200, 30, 30, 255)), 0.1)
    return replace(pair, **changes)


def page(
    *evaluations: Evaluation, pictures: list[list[PairPicture]] | None = None, command: str = "geomatch eval"
) -> str:
    shown = pictures or [[] for _ in evaluations]
    return report_page(evaluations, shown, {"own": "source to target, in words"}, command)


class Reader(HTMLParser):
    """What a page says: its text, its attributes, and the rows of each table as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self.rows = self.tables.setdefault(attributes["class"] or "", [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in ("img", "input", "link", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if "th" in self.open or "td" in self.open:
            self.rows[-1][-1] = " ".join((self.rows[-1][-1], data.strip())).strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [value for each, attributes in self.tags if each == tag and (value := attributes.get(name))]


def test_markup_escapes_text() -> None:
    assert element("p", "a < b", Markup("<b>c</b>"), title='"') == '<p title="&quot;">a &lt; b<b>c</b></p>'
    assert joined("&", Markup("&amp;")) == "&amp;&amp;"
    assert element("img", alt="x", width=None, class_="y") == '<img alt="x" class="y">'
    assert element("circle", cx=1.50, text_anchor="end") == '<circle cx="1.5" text-anchor="end"></circle>'


def test_report_escapes_names() -> None:
    score = {SCRIPT: ClassScore(1, 0.5, (0.4, 0.6))}
    hostile = replace(
        EVALUATION,
        dataset=SCRIPT,
        split=SCRIPT,
        features=SCRIPT,
        weights=SCRIPT,
        matcher=SCRIPT,
        settings={SCRIPT: SCRIPT},
        version=SCRIPT,
        results=[Result(name, SCRIPT, 0.1, 0.5, (0.4, 0.6), score) for name in (SCRIPT, "other")],
        measures=[Measure(SCRIPT, SCRIPT, SCRIPT, SCRIPT, 0.5, None, {SCRIPT: Score(1, 0.5, (0.4, 0.6))}, [])],
        curves=[Curve(SCRIPT, [0, 1], [0, 1])],
        skipped=[SCRIPT],
        seconds={SCRIPT: 1.0},
    )
    pictures = [[picture(SCRIPT, source=SCRIPT, target=SCRIPT, category=SCRIPT)]]
    text = report_page([hostile], pictures, {SCRIPT: SCRIPT}, SCRIPT)
    reader = Reader(text)
    assert "<script" not in text
    assert "script" not in {tag for tag, _ in reader.tags}
    assert reader.text.count(SCRIPT) > 20


def test_report_is_self_contained() -> None:
    text = page(EVALUATION, OTHER, pictures=[[picture()], [picture("worst")]])
    reader = Reader(text)
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text
    for name in ("src", "href", "srcset", "action", "data", "poster"):
        addresses = [value for _, attributes in reader.tags if (value := attributes.get(name))]
        assert all(address.startswith(("data:", "#")) for address in addresses)
    assert {link.removeprefix("#") for link in reader.attributes("a", "href")} == set(
        reader.attributes("section", "id")
    )


def test_report_is_deterministic() -> None:
    assert page(EVALUATION, pictures=[[picture()]]) == page(EVALUATION, pictures=[[picture()]])


def test_report_title() -> None:
    reader = Reader(page(EVALUATION))
    assert "pf-willow test" in reader.text
    assert "4 pairs 1,234 keypoints 2 classes" in reader.text


@pytest.mark.parametrize(
    ("of", "skipped", "said"),
    [
        (4, [], []),
        (900, [], ["A subset: 4 of 900 pairs scored."]),
        (4, ["row 7: no keypoint"], ["1 pair skipped", "row 7: no keypoint"]),
        (900, ["row 7: no keypoint"], ["A subset: 4 of 900 pairs scored.", "1 pair skipped", "row 7: no keypoint"]),
    ],
)
def test_report_banner_for_subsets_and_skipped_pairs(of: int, skipped: list[str], said: list[str]) -> None:
    text = page(replace(EVALUATION, of=of, skipped=skipped), replace(OTHER, of=of, skipped=skipped))
    assert text.count('class="banner"') == bool(said)
    assert all(text.count(words) == 1 for words in said)
    assert ("subset" in text.lower()) == (of > 4)
    assert ("skipped" in text) == bool(skipped)


def test_headline_has_values_and_intervals() -> None:
    assert Reader(page(EVALUATION)).tables["headline"] == [
        ["features + matcher", "PCK@0.05", "PCK@0.10"],
        ["introspection + nn", f".357 .347{DASH}.367", f".612 .602{DASH}.622"],
    ]


def test_tables_mark_best_of_column() -> None:
    text = page(EVALUATION, OTHER)
    headline = text[text.index('<table class="headline"') :].partition("</table>")[0]
    assert re.findall("<strong>(.*?)</strong>", headline) == [".612", ".467"]
    assert "<strong>" not in page(EVALUATION)


def test_tables_mark_equal_texts_as_best() -> None:
    assert best([0.5001, 0.5004, 0.4]) == {0, 1}
    assert best([3.2, 1.2, math.nan], better="lower", unit="pixels") == {1}
    assert best([0.5, None]) == best([0.5]) == best([]) == set()


def test_protocol_table_has_meanings() -> None:
    assert "protocols" not in Reader(page(EVALUATION)).tables
    several = replace(EVALUATION, results=[*EVALUATION.results, result(0.7, 0.2, "theirs", "per-point")])
    assert Reader(page(several)).tables["protocols"] == [
        ["average", "features + matcher", "PCK@0.05", "PCK@0.10", "PCK@0.20"],
        ["own source to target, in words"],
        ["per-image", "introspection + nn", f".357 .347{DASH}.367", f".612 .602{DASH}.622", NOTHING],
        ["theirs"],
        ["per-point", "introspection + nn", NOTHING, NOTHING, f".700 .690{DASH}.710"],
    ]


def test_measure_table_has_unit_and_direction() -> None:
    lengthy = replace(OTHER, measures=[measure("LT-ACC", 0.8, better="higher")])
    assert Reader(page(EVALUATION, lengthy)).tables["measures"][1:] == [
        ["ECE ↓ what ECE is", ".043", NOTHING],
        ["end-point error ↓ what end-point error is", "3.2 px", NOTHING],
        ["LT-ACC ↑ what LT-ACC is", NOTHING, ".800"],
    ]


def test_class_table_bars_show_scores() -> None:
    text = page(EVALUATION, OTHER)
    assert Reader(text).tables["classes"] == [
        ["class", "pairs", "PCK@0.05", "PCK@0.10"],
        ["cat", "3", ".357 .467", ".612 .594"],
        ["dog", "1", ".250 .250", ".250 .250"],
        ["all", "4", ".357 .467", ".612 .594"],
    ]
    assert 'style="left:0.0%;width:61.2%"' in text
    assert f'aria-label="introspection + nn: .612, .562{DASH}.662"' in text


def test_class_table_puts_groups_last() -> None:
    groups = {"across": ClassScore(1, 0.3, (0.2, 0.4)), "within": ClassScore(3, 0.7, (0.6, 0.8))}
    grouped = replace(EVALUATION, results=[replace(EVALUATION.results[0], per_class=groups | result(0.5).per_class)])
    text = page(grouped)
    rows = Reader(text).tables["classes"][1:]
    assert [row[:2] for row in rows] == [["cat", "3"], ["dog", "1"], ["within", "3"], ["across", "1"], ["all", "4"]]
    assert re.findall(r'<tr class="(\w+)"><th scope="row">(\w+)', text)[-3:] == [
        ("group", "within"),
        ("group", "across"),
        ("all", "all"),
    ]


def test_class_table_scales_measures_by_largest() -> None:
    classes = {"cat": Score(1, 4.0, (3.0, 5.0)), "dog": Score(1, 8.0, (7.0, 9.0))}
    flow = replace(measure("end-point error", 6.0, unit="pixels"), per_class=classes)
    text = page(replace(EVALUATION, results=[], measures=[flow]))
    assert Reader(text).tables["classes"][1:] == [
        ["cat", "1", "4.0 px"],
        ["dog", "1", "8.0 px"],
        ["all", "2", "6.0 px"],
    ]
    assert 'style="left:0.0%;width:50.0%"' in text
    assert "headline" not in Reader(text).tables


def test_number_of_nan_is_a_dash() -> None:
    nan = (math.nan, math.nan)
    nothing = Result("own", "per-image", 0.1, math.nan, nan, {"cat": ClassScore(0, math.nan, nan)})
    empty = replace(
        EVALUATION,
        weights=None,
        results=[nothing],
        measures=[measure("ECE", math.nan)],
        curves=[Curve("pck", [0.1], [math.nan]), Curve("calibration", [], [], weights=[])],
        seconds={},
    )
    text = page(empty)
    reader = Reader(text)
    assert reader.tables["headline"][1] == ["introspection + nn", NOTHING]
    assert reader.tables["measures"][1][1] == NOTHING
    assert reader.tables["classes"][1] == ["cat", "0", NOTHING]
    assert "nan" not in text.lower()
    assert "None" not in text
    assert text.count(f"<dd>{NOTHING}</dd>") == 4  # weights, the unset setting, time and speed


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.6124, "share", ".612"), (1, "share", "1.000"), (0, "share", ".000"), (3.21, "pixels", "3.2 px"), (2, "s", "2")],
)
def test_number_has_unit(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_interval_and_alpha_texts() -> None:
    assert interval_text((0.1, 0.25)) == f".100{DASH}.250"
    assert interval_text((1.0, 2.5), "pixels") == f"1.0{DASH}2.5 px"
    assert interval_text(None) == interval_text((math.nan, 1.0)) == ""
    assert [alpha_text(alpha) for alpha in (0.1, 0.125, 0.05)] == ["0.10", "0.125", "0.05"]


def at(x: float, y: float) -> str:
    """The position of a point at these shares of the axes, computed independently."""
    return f"{LEFT + x * (WIDTH - LEFT - RIGHT):g} {HEIGHT - BOTTOM - y * (HEIGHT - BOTTOM - TOP):g}"


def test_curve_path_by_hand() -> None:
    text = page(EVALUATION)  # (.05, .25) and (.1, .5), on axes that end at .1 and .5
    assert f'd="M{at(0.5, 0.5)}L{at(1, 1)}" class="curve"' in text
    assert f'd="M196 119L{WIDTH - RIGHT} {TOP}" class="curve"' in text


def test_curve_is_broken_at_nan() -> None:
    gap = Curve("pck", [0, 0.1, 0.2, 0.3, 0.4], [0, 0.1, math.nan, 0.3, 0.4])
    text = page(replace(EVALUATION, curves=[gap]))
    assert f'd="M{at(0, 0)}L{at(0.25, 0.25)}M{at(0.75, 0.75)}L{at(1, 1)}"' in text


def test_sparsification_chart_has_oracle() -> None:
    curve = Curve("sparsification", [0, 0.5, 1], [0.4, 0.3, 0.2], reference=[0.4, 0, 0])
    text = page(replace(EVALUATION, curves=[curve]))
    assert f'd="M{at(0, 1)}L{at(0.5, 0.75)}L{at(1, 0.5)}" class="curve"' in text
    assert f'd="M{at(0, 1)}L{at(0.5, 0)}L{at(1, 0)}" class="reference"' in text


def test_calibration_chart_has_diagonal_and_weights() -> None:
    curve = Curve("calibration", [0.2, 0.6], [0.1, 0.5], weights=[0.2, 0.8])
    reader = Reader(page(replace(EVALUATION, curves=[curve])))
    dots = [attributes for tag, attributes in reader.tags if tag == "circle"]
    assert [f"{dot['cx']} {dot['cy']}" for dot in dots] == [at(0.2, 0.1), at(0.6, 0.5)]
    assert [dot["r"] for dot in dots] == [f"{LARGEST_POINT / 2:g}", f"{LARGEST_POINT:g}"]
    (diagonal,) = [attributes for tag, attributes in reader.tags if attributes.get("class") == "diagonal"]
    ends = (f"{diagonal[f'x{end}']} {diagonal[f'y{end}']}" for end in (1, 2))
    assert list(ends) == [at(0, 0), at(1, 1)]


def test_selections_share_chart_in_own_colours() -> None:
    text = page(EVALUATION, OTHER)
    assert text.count("<svg") == 1
    chart = text[text.index("<svg") : text.index("</svg>")]
    assert re.findall(r'<g class="series-(\d)">', chart) == ["0", "1"]
    assert "introspection + hough: PCK .250 at 0.05, .500 at 0.1" in chart
    assert 'role="img"><title>' in chart


def test_pictures_have_captions() -> None:
    reader = Reader(page(EVALUATION, OTHER, pictures=[[picture("best"), picture("worst")], []]))
    sources = reader.attributes("img", "src")
    assert len(sources) == 2
    decoded = Image.open(BytesIO(b64decode(sources[0].removeprefix("data:image/webp;base64,"))))
    assert decoded.size == (40, 20)
    assert f"best 7/10 points correct at {ALPHA} = 0.10 cat a.png → b.png" in reader.text
    assert reader.attributes("img", "alt")[0].startswith("a.png (source) beside b.png (target): 10 points, 7 of them")


def test_pictures_shrink_to_limit() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 800, 3), dtype=np.uint8))
    sizes = [len(data_uri(noise, limit)) for limit in (10**7, 100_000, 20_000)]
    assert sizes[0] > 134_000 > sizes[1] > 27_000 > sizes[2]


def test_report_with_many_pictures_is_small() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 400, 3), dtype=np.uint8))
    many = [replace(picture(), picture=noise)] * 30
    assert len(page(EVALUATION, pictures=[many])) < 3_000_000


def test_report_shows_command() -> None:
    text = Reader(page(EVALUATION, command="geomatch eval --dataset 'my data'")).text
    for said in (
        "geomatch eval --dataset 'my data'",
        "version geomatch 9.8.7",
        "sha256 d38d7e26",
        "working_size 320",
        f"neighbours {NOTHING}",
        "mutual yes",
        "densification window 3",
        "matching 4.0 s",
        "0.50 pairs/s",  # 3 that were not reused, in 6 seconds
        "8 images",
        "reused 1 pair",
    ):
        assert said in text


def test_report_needs_pictures_for_each_evaluation() -> None:
    with pytest.raises(ValueError, match="2 evaluations with 1 lists"):
        report_page([EVALUATION, OTHER], [[]], {}, "")
    with pytest.raises(ValueError, match="0 evaluations"):
        report_page([], [], {}, "")
