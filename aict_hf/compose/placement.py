"""Where to lay a foreground onto a background."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels; right and bottom are outside

MIN_SIDE = 2  # pixels: smaller foregrounds are nothing to look at


@dataclass(frozen=True)
class Placement:
    """Where and how a foreground is laid onto a background: the arguments of `paste`."""

    position: tuple[float, float]
    scale: float = 1.0
    rotation: float = 0.0
    flip: bool = False


def draw_placement(
    generator: np.random.Generator,
    foreground_size: tuple[int, int],
    background_size: tuple[int, int],
    *,
    size: tuple[float, float] | np.ndarray = (0.15, 0.5),
    rotation: tuple[float, float] = (-10.0, 10.0),
    flip: float = 0.5,
    on: Sequence[Box] | None = None,
    avoid: Sequence[Box] = (),
    max_overlap: float = 0.0,
    tries: int = 50,
) -> Placement | None:
    """Draw a random placement of a foreground, wholly inside the background.

    Args:
        generator: the source of all chance: the same state gives the same placement.
        foreground_size, background_size: height and width in pixels.
        size: the foreground's longer side as a share of the background's shorter one: a range to draw from uniformly,
            or, as an array of any length but 2, sizes seen in the data (`relative_sizes`), one of which is taken and
            varied by up to 10 %.
        rotation: range of degrees, counterclockwise.
        flip: how often to mirror, 0 to 1.
        on: boxes (left, top, right, bottom) one of which the foreground's bottom centre must stand in: a table, a road.
        avoid: boxes it must not cover.
        max_overlap: the largest share of such a box that may be covered all the same.
        tries: how many placements to draw before giving up.
    Returns:
        a placement, or None where none was found.
    Raises:
        ValueError: if there are no sizes, boxes or pixels to draw from.
    """
    sizes = np.asarray(size, float)
    if sizes.size == 0 or not (sizes > 0).all() or min(*foreground_size, *background_size) < 1:
        raise ValueError(f"size is {size} for a foreground of {foreground_size}; expected positive numbers")
    if on is not None and len(on) == 0:
        raise ValueError("there are no boxes to place it on; pass None to place it anywhere")
    height, width = background_size
    for _ in range(tries):
        share = generator.uniform(*sizes) if sizes.size == 2 else generator.choice(sizes) * generator.uniform(0.9, 1.1)
        scale = share * min(height, width) / max(foreground_size)
        angle, mirrored = generator.uniform(*rotation), bool(generator.random() < flip)
        half_width, half_height = half_extent(foreground_size[1] * scale, foreground_size[0] * scale, angle)
        if min(half_width, half_height) * 2 < MIN_SIDE or half_width * 2 > width or half_height * 2 > height:
            continue
        if on is None:
            x = generator.uniform(half_width, width - half_width)
            y = generator.uniform(half_height, height - half_height)
        else:
            left, top, right, bottom = on[int(generator.integers(len(on)))]
            x, y = generator.uniform(left, right), generator.uniform(top, bottom) - half_height
        if not (half_width <= x <= width - half_width and half_height <= y <= height - half_height):
            continue
        covered = (x - half_width, y - half_height, x + half_width, y + half_height)
        if all(_covered_share(box, covered) <= max_overlap for box in avoid):
            return Placement((x, y), scale, angle, mirrored)
    return None


def relative_sizes(boxes: Sequence[Box], background_size: tuple[int, int]) -> np.ndarray:
    """Sizes of annotated objects as `draw_placement` takes them: longer side over the image's shorter one.

    Args:
        boxes: left, top, right, bottom in pixels.
        background_size: height and width of the image they are in.
    """
    corners = np.asarray(boxes, float).reshape(-1, 4)
    return (corners[:, 2:] - corners[:, :2]).max(axis=1) / min(background_size)


def _covered_share(box: Box, by: Box) -> float:
    width = min(box[2], by[2]) - max(box[0], by[0])
    height = min(box[3], by[3]) - max(box[1], by[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0) * max(height, 0) / area if area > 0 else 0.0


def half_extent(width: float, height: float, rotation: float) -> tuple[float, float]:
    """Half of width and height of the box around a rotated rectangle."""
    cosine, sine = abs(np.cos(np.radians(rotation))), abs(np.sin(np.radians(rotation)))
    return (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2


__all__ = ["Box", "Placement", "draw_placement", "half_extent", "relative_sizes"]
