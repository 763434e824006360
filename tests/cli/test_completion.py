import os
import subprocess
import sys

import pytest

from geomatch.cli import completion
from geomatch.datasets.load import BENCHMARKS
from geomatch.evaluation.protocols import EVERY, PROTOCOL_NAMES
from geomatch.features.load import LOADERS
from geomatch.matching.matcher import METHODS

COMPLETE = """
import sys
sys.argv[0] = "geomatch"
from geomatch.cli.app import app
try:
    app()
except SystemExit:
    print(sorted({"torch", "numpy", "scipy", "PIL"} & set(sys.modules)))
"""


def test_completion_names_are_those_of_the_registries() -> None:
    assert tuple(LOADERS) == completion.FEATURES
    assert tuple(METHODS) == completion.MATCHERS
    assert tuple(BENCHMARKS) == completion.DATASETS
    assert {EVERY, *PROTOCOL_NAMES} == set(completion.PROTOCOLS)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("doc", ["doctor"]),
        ("match --features a", ["anchornet"]),
        ("view --matcher pf-", ["pf-nam", "pf-phm", "pf-lom"]),
        ("match --preset p", ["precise"]),
        ("eval --dataset pf", ["pf-pascal", "pf-willow"]),
        ("eval --protocol geo", ["geomatch", "geoaware"]),
        ("datasets check t", ["tss"]),
    ],
)
def test_completion_is_light(typed: str, offered: list[str]) -> None:
    words = ["geomatch", *typed.split()]
    asked = {"_GEOMATCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*offered, "[]"]
