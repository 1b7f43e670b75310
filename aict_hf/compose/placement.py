"""Random places for a cut-out in a photo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .boxes import Box, half_extent

MIN_SIDE = 2  # pixels: a smaller cut-out cannot be recognized
TRIES = 50  # random places tried before giving up


@dataclass(frozen=True)
class Placement:
    """Where and how a cut-out is pasted: arguments of `paste`.

    Attributes:
        position: x and y of the cut-out's centre, in pixels of the background.
        scale: size of a cut-out pixel in background pixels.
        rotation: degrees, counterclockwise.
        flip: whether the cut-out is mirrored left to right, before rotating.
    """

    position: tuple[float, float]
    scale: float = 1.0
    rotation: float = 0.0
    flip: bool = False


def draw_placement(
    generator: np.random.Generator,
    cutout_size: tuple[int, int],
    background_size: tuple[int, int],
    *,
    size: tuple[float, float],
    rotation: tuple[float, float],
    flip: float,
    avoid: Sequence[Box] = (),
) -> Placement | None:
    """Draw a random place for a cut-out, entirely inside the background.

    Args:
        generator: the source of all randomness; the same state gives the same placement.
        cutout_size, background_size: height and width in pixels.
        size: range of the cut-out's longer side, as a share of the background's shorter side.
        rotation: range of degrees, counterclockwise.
        flip: probability of mirroring the cut-out, 0 to 1.
        avoid: boxes that the cut-out must not touch.
    Returns:
        a placement, or None if 50 random places were all too large, too small or taken.
    Raises:
        ValueError: if the size is not a range of positive numbers, or an image has no pixels.
    Examples:
        >>> import numpy as np
        >>> generator = np.random.default_rng(0)
        >>> fixed = {"size": (0.2, 0.2), "rotation": (0, 0), "flip": 0.0}
        >>> place = draw_placement(generator, (40, 40), (200, 300), **fixed)
        >>> place.scale
        1.0
    """
    if not 0 < size[0] <= size[1] or min(*cutout_size, *background_size) < 1:
        raise ValueError(f"size is {size} for a cut-out of {cutout_size}; expected a range of positive numbers")
    height, width = background_size
    for _ in range(TRIES):
        scale = generator.uniform(*size) * min(height, width) / max(cutout_size)
        angle, mirrored = generator.uniform(*rotation), bool(generator.random() < flip)
        half_width, half_height = half_extent(cutout_size[1] * scale, cutout_size[0] * scale, angle)
        if min(half_width, half_height) * 2 < MIN_SIDE or half_width * 2 > width or half_height * 2 > height:
            continue
        x = generator.uniform(half_width, width - half_width)
        y = generator.uniform(half_height, height - half_height)
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        if not any(_overlap(box, other) for other in avoid):
            return Placement((x, y), scale, angle, mirrored)
    return None


def _overlap(one: Box, other: Box) -> bool:
    across = min(one[2], other[2]) > max(one[0], other[0])
    return across and min(one[3], other[3]) > max(one[1], other[1])


__all__ = ["Placement", "draw_placement"]
