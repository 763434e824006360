"""Render two different teapots, and the true correspondence between them.

    python examples/teapots.py DIR

writes ``a.png``, ``b.png`` and ``truth.npz``, a flow file: for every pixel of the first teapot's surface, the position
of the same surface point on the second teapot; valid where both cameras see it.

A teapot is four surfaces, each a map from the unit square into space: body, lid, handle and spout. Two teapots share
the maps but have different parameters, so a point (part, u, v) means the same on both, whatever their shapes, glazes,
cameras and lights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomatch.io.flow import FlowField, encode_npz

Array = NDArray[np.float64]
Surface = Callable[["Teapot", Array, Array], Array]

HEIGHT, WIDTH = 360, 480
_OVERSAMPLING = 2
_DENSITY = (2600, 1400)  # surface points of a part, along u and v
_STEP = 1e-4  # step of finite differences, in u and v


@dataclass(frozen=True)
class Teapot:
    """Shape, glaze, camera and light of one teapot. Lengths are in units of about the body's radius."""

    height: float
    belly: float  # height at which the body is widest, as a fraction
    neck: float  # radius of the opening
    handle: float
    spout: float
    glaze: tuple[float, float, float]
    trim: tuple[float, float, float]
    pattern: Callable[[Array, Array], Array]
    yaw: float  # degrees
    pitch: float
    zoom: float
    light: tuple[float, float, float]
    wall: tuple[float, float, float]
    table: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class Rendering:
    """picture: (H, W, 3) uint8. part: (H, W) int, -1 off the teapot. surface: (H, W, 2), (u, v) on that part.
    depth: (H, W), distance from the camera."""

    picture: NDArray[np.uint8]
    part: NDArray[np.int64]
    surface: Array
    depth: Array


def flowers(u: Array, v: Array) -> Array:
    """Blossoms on a band round the belly."""
    around, up = np.mod(u * 9, 1) - 0.5, (v - 0.45) * 5
    angle, radius = np.arctan2(up, around), np.hypot(up, around)
    petals = (radius < 0.3 + 0.1 * np.cos(5 * angle)) & (radius > 0.09)
    return np.asarray(petals, dtype=np.float64)


def stripes(u: Array, v: Array) -> Array:
    """Rings of unequal width, slightly wavy."""
    return (np.sin(34 * v + 0.25 * np.sin(24 * np.pi * u)) > 0.55).astype(float) * (v > 0.12) * (v < 0.85)


FIRST = Teapot(
    height=1.5, belly=0.42, neck=0.45, handle=0.62, spout=0.85,
    glaze=(0.23, 0.42, 0.62), trim=(0.93, 0.91, 0.85), pattern=flowers,
    yaw=-9, pitch=15, zoom=1.0, light=(-0.5, 0.8, 0.7), wall=(0.80, 0.77, 0.71), table=(0.52, 0.36, 0.24), seed=1,
)  # fmt: skip
SECOND = Teapot(
    height=1.15, belly=0.5, neck=0.58, handle=0.5, spout=1.0,
    glaze=(0.72, 0.36, 0.22), trim=(0.29, 0.17, 0.12), pattern=stripes,
    yaw=7, pitch=22, zoom=0.94, light=(0.6, 0.9, 0.6), wall=(0.62, 0.69, 0.68), table=(0.66, 0.58, 0.47), seed=2,
)  # fmt: skip


def body(pot: Teapot, u: Array, v: Array) -> Array:
    """Surface of revolution: foot, belly, neck."""
    swell = np.sin(np.pi * np.clip(v, 0, 1) ** (np.log(0.5) / np.log(pot.belly))) ** 0.75
    radius = pot.neck * (0.75 + 0.25 * v) * (1 - swell) + swell
    return _revolve(u, radius, pot.height * v)


def lid(pot: Teapot, u: Array, v: Array) -> Array:
    """A dome with a knob on top."""
    knob = np.maximum(0.13 * np.sin(np.pi * np.clip((v - 0.76) / 0.24, 0, 1)) ** 0.6, 0.05 * (v < 0.9))
    dome = pot.neck * np.cos(np.clip(v / 0.72, 0, 1) * np.pi / 2) ** 0.8
    radius = np.where(v < 0.72, np.maximum(dome, 0.05), knob)
    rise = np.where(v < 0.72, 0.22 * np.sin(v / 0.72 * np.pi / 2), 0.22 + (v - 0.72) * 0.85)
    return _revolve(u, radius, pot.height + rise)


def handle(pot: Teapot, u: Array, v: Array) -> Array:
    """A tube bent from the shoulder to the lower belly, on the left."""

    def curve(v: Array) -> tuple[Array, Array]:
        angle = np.pi * (0.5 + v)
        return (
            -0.82 + 0.34 * (1 - v) ** 2 + 1.1 * pot.handle * np.cos(angle),
            pot.height * (0.54 + 0.34 * np.sin(angle)) + 0.06 * np.cos(angle),
        )

    return _tube(curve, np.full_like(v, 0.085), u, v)


def spout(pot: Teapot, u: Array, v: Array) -> Array:
    """A tapered, curved tube on the right."""

    def curve(v: Array) -> tuple[Array, Array]:
        return 0.72 + pot.spout * (0.4 * v + 0.4 * v**2), pot.height * (0.34 + 0.12 * v + 0.56 * v**1.7)

    return _tube(curve, 0.25 - 0.16 * np.sqrt(v), u, v)


PARTS = (body, lid, handle, spout)


def _vector(values: Sequence[float]) -> Array:
    return np.array(values, dtype=np.float64)


def _revolve(u: Array, radius: Array, y: Array) -> Array:
    angle = 2 * np.pi * u
    return np.stack((radius * np.sin(angle), y, radius * np.cos(angle)), axis=-1)


def _tube(curve: Callable[[Array], tuple[Array, Array]], radius: Array, u: Array, v: Array) -> Array:
    """A tube round a curve v -> (x, y) in the plane z = 0."""
    x, y = curve(v)
    before, after = curve(np.maximum(v - _STEP, 1e-9)), curve(v + _STEP)
    dx, dy = after[0] - before[0], after[1] - before[1]
    length = np.hypot(dx, dy)
    outward = radius * np.cos(2 * np.pi * u)
    return np.stack((x - outward * dy / length, y + outward * dx / length, radius * np.sin(2 * np.pi * u)), axis=-1)


def _normals(pot: Teapot, shape: Surface, u: Array, v: Array) -> Array:
    """Unit normals by central differences, facing the camera."""
    along_u = shape(pot, u + _STEP, v) - shape(pot, u - _STEP, v)
    along_v = shape(pot, u, np.minimum(v + _STEP, 1)) - shape(pot, u, np.maximum(v - _STEP, 1e-9))
    normals = np.cross(along_u, along_v)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-15
    rotated = normals @ _rotation(pot).T
    return rotated * np.where(rotated[..., 2:] < 0, -1, 1)


def _rotation(pot: Teapot) -> Array:
    """From the teapot's axes to the camera's: x right, y up, z towards the eye."""
    yaw, pitch = np.radians(pot.yaw), np.radians(pot.pitch)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return np.asarray(tilt @ turn, dtype=np.float64)


def project(pot: Teapot, points: Array) -> tuple[Array, Array, Array]:
    """Points in space to image positions (x, y) in pixels and depth, through a camera at a distance of 7."""
    centred = (points - np.array([0.1, pot.height * 0.55, 0])) @ _rotation(pot).T
    depth = 7 - centred[..., 2]
    scale = pot.zoom * HEIGHT * 2.35 / depth
    return (
        (WIDTH - 1) / 2 + centred[..., 0] * scale,
        (HEIGHT - 1) / 2 - centred[..., 1] * scale,
        depth,
    )


def _glaze(pot: Teapot, part: int, u: Array, v: Array) -> Array:
    """Colour (N, 3) of surface points before light: the pattern on body and lid, trim at the edges."""
    trim = {0: pot.pattern(u, v) + (v < 0.04) + (v > 0.96), 1: (v > 0.7).astype(float), 3: (v > 0.94).astype(float)}
    share = np.clip(trim.get(part, np.zeros_like(u)), 0, 1)[:, None]
    mottled: Array = 1 + 0.05 * np.sin(61 * u + 23 * v) * np.sin(47 * v - 31 * u)
    paint: Array = _vector(pot.glaze) * (1 - share) + _vector(pot.trim) * share
    return paint * mottled[:, None]


def _shade(pot: Teapot, paint: Array, normals: Array) -> Array:
    """Ambient light from above, a diffuse lamp, and its highlight (Blinn-Phong)."""
    lamp = _vector(pot.light) / np.linalg.norm(pot.light)
    halfway = lamp + np.array([0.0, 0.0, 1.0])
    halfway /= np.linalg.norm(halfway)
    diffuse = np.clip(normals @ lamp, 0, 1)[:, None]
    sky = (0.5 + 0.5 * normals[:, 1:2]) * 0.35 + 0.12
    highlight = np.clip(normals @ halfway, 0, 1)[:, None] ** 60 * 0.55
    shaded: Array = paint * (sky + 0.75 * diffuse) + highlight
    return shaded


def _background(pot: Teapot, height: int, width: int) -> Array:
    """A wall, a grained table, and the teapot's soft shadow on it: (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width] / height
    random = np.random.default_rng(pot.seed)
    edge = 0.56
    wall = (
        _vector(pot.wall) * (0.75 + 0.35 * np.exp(-((x - 0.6 - 0.5 * pot.light[0]) ** 2 + (y - 0.2) ** 2)))[..., None]
    )
    depth = np.maximum(y - edge, 0) + 0.08
    phases = random.uniform(0, 2 * np.pi, 6)
    grain = (
        sum(np.sin(k * 9 * (x - 0.67) / depth * 0.35 + phases[k] + 2 * np.sin(5 / depth + k)) for k in range(1, 6)) / 5
    )
    table = _vector(pot.table) * (0.85 + 0.25 * (y - edge) + 0.09 * grain)[..., None]
    foot_x, foot_y, _ = project(pot, np.array([0.0, 0.0, 0.0]))
    distance = np.hypot((x - foot_x / HEIGHT + 0.22 * pot.light[0]) / 0.62, (y - foot_y / HEIGHT - 0.01) / 0.15)
    table *= (1 - 0.6 / (1 + np.exp((distance - 0.8) * 9)))[..., None]
    return np.asarray(np.where((y > edge)[..., None], table, wall), dtype=np.float64)


def render(pot: Teapot, densities: Sequence[tuple[int, int]] = (_DENSITY,) * len(PARTS)) -> Rendering:
    """Splat the surfaces, sampled far more densely than pixels, into a depth buffer; then shade.

    densities: surface points of each part, along u and v.
    """
    height, width = HEIGHT * _OVERSAMPLING, WIDTH * _OVERSAMPLING
    colour = _background(pot, height, width)
    depth = np.full((height, width), np.inf)
    part = np.full((height, width), -1)
    surface = np.zeros((height, width, 2))
    for index, (shape, density) in enumerate(zip(PARTS, densities, strict=True)):
        u, v = (axis.ravel() for axis in np.meshgrid(*((np.arange(n) + 0.5) / n for n in density), indexing="ij"))
        x, y, z = (axis.ravel() for axis in project(pot, shape(pot, u, v)))
        column = np.floor((x + 0.5) * _OVERSAMPLING).astype(int)
        row = np.floor((y + 0.5) * _OVERSAMPLING).astype(int)
        seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        pixel, z, at_u, at_v = (row * width + column)[seen], z[seen], u[seen], v[seen]
        # The nearest point of a pixel comes first in this order, so `unique` keeps it.
        order = np.lexsort((z, pixel))
        pixel, first = np.unique(pixel[order], return_index=True)
        chosen = order[first]
        nearer = z[chosen] < depth.ravel()[pixel]
        pixel, chosen = pixel[nearer], chosen[nearer]
        depth.ravel()[pixel] = z[chosen]
        part.ravel()[pixel] = index
        at_u, at_v = at_u[chosen], at_v[chosen]
        surface.reshape(-1, 2)[pixel] = np.stack((at_u, at_v), axis=-1)
        normals = _normals(pot, shape, at_u, at_v)
        colour.reshape(-1, 3)[pixel] = _shade(pot, _glaze(pot, index, at_u, at_v), normals)
    picture = colour.reshape(HEIGHT, _OVERSAMPLING, WIDTH, _OVERSAMPLING, 3).mean(axis=(1, 3))
    picture += np.random.default_rng(pot.seed).normal(0, 0.008, picture.shape)
    centre = np.s_[_OVERSAMPLING // 2 :: _OVERSAMPLING, _OVERSAMPLING // 2 :: _OVERSAMPLING]
    return Rendering(
        (np.clip(picture, 0, 1) ** 0.87 * 255).round().astype(np.uint8), part[centre], surface[centre], depth[centre]
    )


def true_flow(source: Rendering, target: Rendering, target_pot: Teapot) -> FlowField:
    """The flow from the source's surface to the target's, valid where the target's camera sees the point."""
    flow = np.zeros((2, HEIGHT, WIDTH))
    valid = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for index, shape in enumerate(PARTS):
        y, x = np.nonzero(source.part == index)
        u, v = source.surface[y, x].T
        to_x, to_y, depth = project(target_pot, shape(target_pot, u, v))
        column, row = np.round(to_x).astype(int), np.round(to_y).astype(int)
        inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
        seen = inside.copy()
        there = row[inside], column[inside]
        seen[inside] = (target.part[there] == index) & (np.abs(target.depth[there] - depth[inside]) < 0.08)
        flow[:, y, x] = to_x - x, to_y - y
        valid[y, x] = seen
    return FlowField(flow.astype(np.float32), valid)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first, second = render(FIRST), render(SECOND)
    Image.fromarray(first.picture).save(folder / "a.png")
    Image.fromarray(second.picture).save(folder / "b.png")
    (folder / "truth.npz").write_bytes(encode_npz(true_flow(first, second, SECOND)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
