"""Check the installation: versions, devices, weights, optional packages, plug-ins, and one small match.

Each check imports the packages that it needs, so a broken package is one finding and the other checks go on.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import geomatch
from geomatch.errors import GeomatchError
from geomatch.options import Device, Preset
from geomatch.registry import FEATURES, MATCHERS

if TYPE_CHECKING:
    from torch import Tensor

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "safetensors", "typer", "rich")
EXTRAS = (
    ("OpenCV", "cv2", "sift, hog and selective-search", "geomatch[baselines]"),
    ("PyAV", "av", "morph to .mp4", "geomatch[video]"),
    ("timm", "timm", "timm:NAME", "geomatch[backbones]"),
    ("faiss", "faiss", "the benchmark of nearest neighbours", "geomatch[baselines]"),
    ("tensorboard", "tensorboard", "--tensorboard", "tensorboard"),
)
SIDE = 224
"""Pixels: the side of the self-test's picture."""


class State(StrEnum):
    """The outcome of a check; only ``failed`` means that geomatch does not work properly."""

    ok = "ok"
    absent = "absent"
    failed = "failed"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. area: version, device, weights, …; name: what was checked."""

    area: str
    name: str
    state: State
    detail: str


def check_installation(device: Device = Device.auto) -> Iterator[Finding]:
    """Run all checks, one after the other; the self-test runs on ``device``. Raises nothing."""
    python = f"{platform.python_version()} on {platform.platform()}, {sys.executable}"
    yield Finding("version", "geomatch", State.ok, f"{geomatch.__version__} in {Path(geomatch.__file__).parent}")
    yield Finding("version", "Python", State.ok, python)
    yield from map(_package, PACKAGES)
    yield from _devices()
    yield from _weights()
    yield from (_extra(*each) for each in EXTRAS)
    yield from (
        Finding("added", name, State.ok, registry.kind)
        for registry in (FEATURES, MATCHERS)
        for name in registry.names()[len(registry.entries) :]
    )
    yield _run_check("self-test", "match", lambda: _match_known_warp(device))


def _run_check(area: str, name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(area, name, State.ok, check())
    except GeomatchError as error:
        return Finding(area, name, State.failed, str(error))
    except Exception as error:
        return Finding(area, name, State.failed, f"{type(error).__name__}: {error}")


def _package(name: str) -> Finding:
    try:
        return Finding("version", name, State.ok, version(name))
    except PackageNotFoundError:
        return Finding("version", name, State.failed, f"not installed: pip install {name}")


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("device", "cpu", State.failed, f"torch cannot be imported ({type(error).__name__}: {error})")
        return
    yield Finding("device", "cpu", State.ok, f"{torch.get_num_threads()} threads")
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        yield Finding("device", f"cuda:{number}", State.ok, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        yield Finding("device", "cuda", State.absent, "no NVIDIA GPU that this build of torch can use")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps", State.ok, "Apple's GPU")


def _weights() -> Iterator[Finding]:
    try:
        from geomatch.features.weights import shipped_features, shipped_weights

        names = shipped_features()
    except Exception as error:
        yield Finding("weights", "manifest", State.failed, str(error))
        return
    for name in names:
        yield _run_check("weights", name, lambda name=name: f"checksum correct, {shipped_weights(name).path}")  # type: ignore[misc]


def _extra(name: str, module: str, purpose: str, package: str) -> Finding:
    try:
        package_module = import_module(module)
    except Exception as error:
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({type(error).__name__}: {error})"
        return Finding("optional", name, State.absent, f"for {purpose}: pip install '{package}'{reason}")
    return Finding("optional", name, State.ok, f"{package_module.__version__}, for {purpose}")


def _match_known_warp(device: Device) -> str:
    """Match a synthetic picture with its warp by a known homography. Raises GeomatchError if the flow is wrong."""
    import torch

    from geomatch.geometry.homography import apply_homography, pixel_grid, warp_image
    from geomatch.pipeline import Pipeline

    picture = _picture()
    to_target = torch.tensor([[0.8, 0.1, 45.0], [-0.1, 0.8, 5.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    warped = warp_image(picture, torch.linalg.inv(to_target), (SIDE, SIDE))
    pipeline = Pipeline(preset=Preset.fast, device=device)
    started = perf_counter()
    source, target = (pipeline.extract(each.byte()) for each in (picture, warped))
    found = pipeline.match(source, target)
    seconds = perf_counter() - started
    pixels = pixel_grid(SIDE, SIDE)
    truth = (apply_homography(to_target, pixels) - pixels).mT.reshape(2, SIDE, SIDE)
    error = float((found.flow.cpu() - truth).norm(dim=0)[found.valid.cpu()].median())
    cell = max(target.grid.pitch)
    measured = f"a known warp is found to {error:.1f} pixels in {seconds:.1f} s on {pipeline.device}"
    if not error < cell:  # also if nothing is valid and the error is NaN
        raise GeomatchError(f"{measured}, expected less than {cell:.1f}")
    return measured


def _picture() -> Tensor:
    """Coloured noise of several scales, (3, SIDE, SIDE) float32 in [0, 255]."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, SIDE, SIDE)
    for cells in (4, 8, 16, 32):
        noise = torch.rand(1, 3, cells, cells, generator=generator) - 0.5
        picture += F.interpolate(noise, (SIDE, SIDE), mode="bicubic")
    return ((picture[0] - picture.min()) / (picture.max() - picture.min()) * 255).round()
