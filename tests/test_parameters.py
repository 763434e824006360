"""Parameters parsed from text, and checked by type."""

from dataclasses import dataclass, fields
from enum import StrEnum

import pytest

from geomatch.errors import InputError
from geomatch.matching.load import load_matcher, parse_matcher_parameters
from geomatch.parameters import parse_parameters, with_parameters
from geomatch.registry import MATCHERS


class Fruit(StrEnum):
    apple = "apple"
    pear = "pear"


@dataclass(frozen=True)
class Basket:
    count: int = 1
    weight: float = 0.5
    ripe: bool = False
    kind: Fruit = Fruit.apple
    owner: str = ""
    limit: float | None = None
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7),
        ("weight", "1e-2", 0.01),
        ("ripe", "False", False),
        ("ripe", "true", True),
        ("ripe", "0", False),
        ("kind", "pear", Fruit.pear),
        ("owner", "1", "1"),
        ("limit", "none", None),
        ("limit", "3", 3.0),
        ("sizes", "1, 2,3", (1, 2, 3)),
        ("sizes", "", ()),
    ],
)
def test_parse_parameters_by_type(name: str, text: str, value: object) -> None:
    parsed = parse_parameters(Basket, {name: text}, "basket")[name]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("count", "1.5", "'1.5' is not a whole number"),
        ("weight", "heavy", "'heavy' is not a number"),
        ("ripe", "perhaps", "'perhaps' is not true or false"),
        ("kind", "plum", "'plum' is not one of apple, pear"),
        ("sizes", "1,b", "'b' is not a whole number"),
        ("colour", "red", "basket has no parameter 'colour': it has count, weight, ripe"),
    ],
)
def test_parse_parameters_refuses(name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_parameters(Basket, {name: text}, "basket")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("count", "7", "'7' is not a whole number"),
        ("count", True, "True is not a whole number"),
        ("weight", None, "None is not a number"),
        ("ripe", 1, "1 is not true or false"),
        ("kind", "plum", "'plum' is not one of apple, pear"),
        ("limit", "3", "'3' is not a number or none"),
        ("sizes", [1], r"\[1\] is not a list of values, each a whole number"),
        ("colour", "red", "basket has no parameter 'colour'"),
    ],
)
def test_with_parameters_checks_types(name: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_parameters(Basket(), {name: value}, "basket")


def test_with_parameters_sets_values() -> None:
    given = {"count": 3, "weight": 2, "ripe": True, "kind": "pear", "limit": None, "sizes": (1,)}
    assert with_parameters(Basket(), given, "basket") == Basket(3, 2, True, Fruit.pear, "", None, (1,))


@pytest.mark.parametrize("name", MATCHERS.entries)
def test_matcher_defaults_survive_text(name: str) -> None:
    """Every default, written as text and parsed again, is itself."""
    matcher = load_matcher(name)
    texts = {field.name: str(getattr(matcher, field.name)) for field in fields(matcher)}  # type: ignore[arg-type]
    assert load_matcher(name, parse_matcher_parameters(name, texts)) == matcher
