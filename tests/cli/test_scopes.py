from pathlib import Path

import pytest

from geomatch.cli.scopes import ScopedFile, Scopes
from geomatch.errors import InputError
from geomatch.features.weights import shipped_weights
from geomatch.io.inputs import InputFile


def scopes(*parameters: str, weights: tuple[str, ...] = ()) -> Scopes:
    files = [ScopedFile.parse(text) for text in weights]
    return Scopes(("sift", "anchornet:cat", "introspection"), ("nn", "dsp", "coherence"), files, parameters)


def path_of(file: InputFile | None) -> Path:
    assert file is not None
    return file.path


def test_parameter_of_named_matcher_goes_to_it_alone() -> None:
    given = scopes("dsp.levels=3", "affine.around=.1", "dsp.truncation=.98")
    assert given.parameters_of("nn") == {}
    assert given.parameters_of("dsp") == {"levels": 3, "truncation": 0.98}
    assert given.parameters_of("coherence") == {"around": 0.1}


def test_parameter_without_matcher_goes_to_all_that_have_it() -> None:
    given = scopes("levels=3", "dsp.levels=2")
    assert given.parameters_of("nn") == {}
    assert given.parameters_of("dsp") == {"levels": 2}
    assert Scopes(("sift",), ("dsp",), (), ("levels=3",)).parameters_of("dsp") == {"levels": 3}


def test_weights_of_named_features_go_to_them_alone(tmp_path: Path, anchor_weights: Path) -> None:
    own, shipped = tmp_path / "own.safetensors", shipped_weights("introspection").path
    own.write_bytes(b"its own")
    given = scopes(weights=(f"anchornet={own}", str(shipped)))
    assert given.weights_of("sift") is None
    assert path_of(given.weights_of("anchornet:cat")) == own
    assert path_of(given.weights_of("introspection")) == shipped
    both = scopes(weights=(f"anchornet={own}", f"anchornet:cat={anchor_weights}"))
    assert path_of(both.weights_of("anchornet:cat")) == anchor_weights
    assert path_of(both.weights_of("anchornet")) == own


def test_has_weights_of_exactly_these_features(scnet_weights: Path) -> None:
    """The papers' hypercolumn has weights of its own; those of another hypercolumn are not taken for it."""
    untrained = "hypercolumn:1+3+4"

    def given(*weights: str) -> Scopes:
        files = [ScopedFile.parse(text) for text in weights]
        return Scopes((untrained, "hypercolumn", "scnet"), ("nn",), files)

    assert not given().has_weights_of(untrained)
    assert not given("hypercolumn=a.pth").has_weights_of(untrained)
    assert given("hypercolumn:1+3+4=a.pth").has_weights_of(untrained)
    assert not given("hypercolumn:1+3+4=a.pth").has_weights_of("scnet")
    assert given(str(scnet_weights)).has_weights_of("scnet")


def test_weights_file_whose_name_has_an_equals_sign(tmp_path: Path, anchor_weights: Path) -> None:
    odd = tmp_path / "wise_ft=0.4.safetensors"
    odd.write_bytes(anchor_weights.read_bytes())
    assert path_of(scopes(weights=(str(odd),)).weights_of("anchornet:cat")) == odd


@pytest.mark.parametrize(
    ("parameters", "weights", "said"),
    [
        (("hough.cells=3",), (), "--set hough.cells: the matcher hough is not among nn, dsp, coherence"),
        (("hugh.cells=3",), (), "unknown matcher 'hugh'"),
        (("leaves=3",), (), "--set leaves: none of the matchers nn, dsp, coherence has this parameter"),
        (("dsp.levels",), (), "--set dsp.levels: write it as NAME=VALUE"),
        ((), ("hog=file",), "--weights hog=file: hog is not among sift, anchornet:cat, introspection"),
        ((), ("anchornett=file",), r"unknown features 'anchornett' \(did you mean 'anchornet'\?\)"),
        ((), ("nothing.safetensors",), "nothing.safetensors: no such weights file"),
    ],
)
def test_value_that_belongs_to_nothing_is_refused(
    parameters: tuple[str, ...], weights: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        scopes(*parameters, weights=weights)


def test_parameter_that_named_matcher_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="matcher dsp has no parameter 'leaves'"):
        scopes("dsp.leaves=3").parameters_of("dsp")


def test_plain_weights_of_other_features_are_refused(anchor_weights: Path) -> None:
    with pytest.raises(InputError, match="belongs to none of sift, hog; write NAME=FILE"):
        Scopes(("sift", "hog"), ("nn",), [ScopedFile.parse(str(anchor_weights))])
