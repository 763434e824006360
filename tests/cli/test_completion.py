import os
import subprocess
import sys

import pytest

from geomatch.errors import InputError
from geomatch.evaluation.protocols import EVERY, find_protocols
from geomatch.registry import DATASETS, FEATURES, MATCHERS, PROTOCOLS, Registry

COMPLETE = """
import sys
sys.argv[0] = "geomatch"
from geomatch.cli.app import main
try:
    main()
except SystemExit:
    print(sorted({"torch", "numpy", "scipy", "PIL"} & set(sys.modules)))
"""


@pytest.mark.parametrize("registry", [FEATURES, MATCHERS, DATASETS], ids=lambda registry: registry.kind)
def test_every_registered_name_can_be_imported(registry: Registry) -> None:
    for name in registry.entries:
        assert registry.load(name) is not None


def test_registered_protocols_are_those_of_evaluation() -> None:
    named = {protocol.name for dataset in DATASETS.entries for protocol in find_protocols(dataset, [EVERY])}
    assert set(PROTOCOLS.entries) == {EVERY, *named}


def test_datasets_are_registered_under_their_own_names() -> None:
    assert [DATASETS.load(name).name for name in DATASETS.entries] == list(DATASETS.entries)


def test_old_names_are_aliases() -> None:
    assert FEATURES.canonical("joined") == "combined"
    assert MATCHERS.canonical("coherence") == "affine"


def test_unknown_name_suggests_a_near_one() -> None:
    with pytest.raises(InputError, match=r"unknown matcher 'hugh' \(did you mean 'hough'\?\): the known ones are nn,"):
        MATCHERS.canonical("hugh")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("doc", ["doctor"]),
        ("match --features a", ["anchornet"]),
        ("match --matcher a", ["affine"]),
        ("view --matcher pf-", ["pf-nam", "pf-phm", "pf-lom"]),
        ("match --preset p", ["precise"]),
        ("eval --dataset pf", ["pf-pascal", "pf-willow"]),
        ("eval --protocol geo", ["geomatch", "geoaware"]),
        ("datasets check t", ["tap-vid-davis", "tss"]),
    ],
)
def test_completion_is_light(typed: str, offered: list[str]) -> None:
    words = ["geomatch", *typed.split()]
    asked = {"_GEOMATCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*offered, "[]"]
