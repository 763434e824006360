"""A package that adds features and a matcher, installed as pip does it: a module and its .dist-info on sys.path."""

import sys
from pathlib import Path
from shutil import copy

import pytest
import torch

import geomatch
from geomatch.datasets.load import load_dataset
from geomatch.errors import GeomatchError, InputError
from geomatch.evaluation.runner import selection_file
from geomatch.features.load import load_features
from geomatch.matching.load import load_matcher
from geomatch.pipeline import Pipeline
from geomatch.registry import FEATURES
from tests.test_python_page import python_blocks

# The example of docs/python.md, and a function that is wrong as an entry point.
CODE = python_blocks()[-1] + "\n\ndef nothing(*arguments):\n    return None\n"


def install(folder: Path, package: str, entry_points: str, code: str | None = None) -> None:
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    if code is not None:
        (folder / f"{package}.py").write_text(code)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path where the package is installed."""
    install(
        tmp_path,
        "palette",
        """[geomatch.features]
colours = palette:Colours
missing = palette:Missing
uninstalled = palette_extras:Colours
none = palette:nothing
[geomatch.matchers]
shift = palette:Shift
none = palette:nothing
""",
        CODE,
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "palette", raising=False)
    return tmp_path


def load(name: str) -> object:
    return load_features(name, working_size=224, device=torch.device("cpu"))


@pytest.mark.usefixtures("site")
def test_plugin_features_and_matcher_work(teapots: Path) -> None:
    found = geomatch.match(
        teapots / "a.png", teapots / "b.png", features="colours:12", matcher="shift", parameters={"by": 7}, device="cpu"
    )
    assert torch.allclose(found.flow, torch.tensor([7.0, 0.0]).reshape(2, 1, 1).expand_as(found.flow))


@pytest.mark.usefixtures("site")
def test_plugin_names_are_listed_without_importing_it() -> None:
    assert FEATURES.names()[len(FEATURES.entries) :] == ["colours", "missing", "none", "uninstalled"]
    with pytest.raises(
        InputError, match=r"unknown features 'dino': the known ones are introspection,.*, hog, colours,"
    ):
        load("dino")
    with pytest.raises(InputError, match=r"unknown matcher 'best': the known ones are nn,.*, fusion, none, shift"):
        load_matcher("best")
    assert "palette" not in sys.modules


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", r"features 'missing' of package palette cannot be loaded \(AttributeError: .*Missing"),
        ("uninstalled", r"features 'uninstalled' of package palette cannot be loaded \(ModuleNotFoundError: .*extras"),
        ("colours:many", r"features 'colours' of package palette cannot be loaded \(ValueError: .*many"),
        ("none", r"features 'none' of package palette cannot be used: it makes a NoneType, not a FeatureExtractor"),
    ],
)
def test_plugin_errors_name_the_package(name: str, said: str) -> None:
    with pytest.raises(GeomatchError, match=said):
        load(name)


@pytest.mark.usefixtures("site")
def test_plugin_matcher_of_the_wrong_class_is_refused() -> None:
    with pytest.raises(GeomatchError, match="matcher 'none' of package palette cannot be used"):
        load_matcher("none")


def test_plugin_name_of_two_packages_is_refused(site: Path) -> None:
    install(site, "pigments", "[geomatch.features]\ncolours = palette:Colours\n")
    with pytest.raises(
        InputError, match="features 'colours' of package palette and of pigments: uninstall all but one"
    ):
        load("colours")


def test_plugin_cannot_replace_a_built_in_name(site: Path) -> None:
    install(site, "usurper", "[geomatch.matchers]\nnn = palette:nothing\n")
    assert type(load_matcher("nn")).__name__ == "NearestNeighbours"


def test_plugin_code_change_separates_predictions(site: Path, teapots: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        copy(teapots / name, tmp_path / "pictures")
    pairs = load_dataset("warps", tmp_path / "pictures")

    def kept_in() -> Path:
        return selection_file(tmp_path, pairs, Pipeline(matcher="shift", preset="fast", device="cpu"))

    before = kept_in()
    assert kept_in() == before
    ours = selection_file(tmp_path, pairs, Pipeline(matcher="nn", preset="fast", device="cpu"))
    (site / "palette.py").write_text(CODE + "\n# Something else.\n")
    assert kept_in() != before
    assert selection_file(tmp_path, pairs, Pipeline(matcher="nn", preset="fast", device="cpu")) == ours
