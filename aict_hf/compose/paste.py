"""Paste a cut-out onto a background.

Colours are premultiplied with the opacity before they are resampled and blended, so that colours from outside the
cut-out do not bleed into its soft edges.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from ..errors import InputError
from ..model.image_arrays import photo_arrays, rgb_array
from ..model.levels import full_scale, to_unit
from .boxes import half_extent, mask_box

OPAQUE = 128  # of 255: pixels at least this opaque count as the pasted object's own
STRIP_PIXELS = 2**17  # placed at a time, so that little memory is needed beyond the images themselves
LEAST_ALPHA = 1 / 512  # half a level: less becomes 0, and as much below 1 becomes 1
BORDER = 4  # transparent pixels around a layer; places outside read these


@dataclass(frozen=True)
class Composite:
    """A background with a cut-out pasted onto it.

    Attributes:
        image: RGB, dtype of the background, shape (H, W, 3).
        mask: the foreground mask: opacity of the pasted cut-out at each pixel, uint8, shape (H, W).
        box: left, top, right and bottom around the pixels that are at least half opaque (right and bottom outside), or
            None if there are none.
    """

    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int] | None


def paste(
    cutout: Any,
    alpha: Any,
    background: Any,
    *,
    position: tuple[float, float],
    scale: float = 1.0,
    rotation: float = 0.0,
    flip: bool = False,
    feather: float = 0.0,
    decontaminate: bool = False,
) -> Composite:
    """Paste a cut-out onto a background.

    Whole coordinates are the corners of pixels, not their centres: with `position=(w / 2, h / 2)` and the other options
    at their defaults, a cut-out of w x h pixels fills the upper left corner without resampling. Parts that hang over
    the border are cut off.

    Args:
        cutout: PIL image, NumPy array or torch tensor, as `AICTImageProcessor` accepts them.
        alpha: opacity of the cut-out, of the same size (white is opaque), or None if `cutout` has an alpha channel.
        background: an image of any of the same kinds. Its own alpha channel is ignored.
        position: x (to the right) and y (down) of the cut-out's centre, in pixels of the background; may be fractional.
        scale: size of a cut-out pixel in background pixels.
        rotation: degrees, counterclockwise.
        flip: mirror left to right, before rotating.
        feather: width of the soft edge in background pixels. The edge lies inside the cut-out; narrower parts vanish.
        decontaminate: estimate the cut-out's own colours at translucent pixels, so that its old background does not
            show through. Needs `pip install "aict_hf[compositing]"` (pymatting).
    Raises:
        ValueError: if an argument is not an image, sizes differ, or a number is out of range.
        InputError: if `decontaminate` is set and pymatting is not installed.
    Examples:
        >>> import numpy as np
        >>> square, opaque = np.full((4, 4, 3), 200, np.uint8), np.full((4, 4), 255, np.uint8)
        >>> pasted = paste(square, opaque, np.zeros((10, 20, 3), np.uint8), position=(5, 5))
        >>> pasted.box
        (3, 3, 7, 7)
        >>> int((pasted.mask == 255).sum())
        16

    Source: Porter and Duff, "Compositing digital images" (SIGGRAPH 1984), operator over.
    """
    for name, value, low in (("scale", scale, 0.0), ("feather", feather, None), ("rotation", rotation, None)):
        if not np.isfinite(value) or (low is not None and value <= low):
            raise ValueError(f"{name} is {value}; expected a finite number{'' if low is None else ' above 0'}")
    if feather < 0:
        raise ValueError(f"feather is {feather}; expected a width in pixels, 0 or more")
    if not np.isfinite(position).all() or len(position) != 2:
        raise ValueError(f"position is {position}; expected finite x and y in pixels of the background")
    rgb, opacity = photo_arrays(cutout, alpha)
    opacity = to_unit(opacity[0])
    canvas = rgb_array(background, name="background")
    if decontaminate:
        rgb = _decontaminated(rgb, opacity)
    height, width = canvas.shape[1:]
    size = scale * opacity.shape[1], scale * opacity.shape[0]
    # The soft edge of an opaque border reaches half a pixel of the cut-out further.
    left, top, right, bottom = _region((size[0] + scale, size[1] + scale), position, rotation, (height, width))
    image, mask = canvas.transpose(1, 2, 0).copy(), np.zeros((height, width), np.uint8)
    if left >= right or top >= bottom:
        return Composite(image, mask, None)
    if flip:
        rgb, opacity = rgb[:, :, ::-1], opacity[:, ::-1]
    layer = _premultiplied(rgb, opacity, min(scale, 1.0))
    del rgb, opacity  # they are large
    rows = max(1, STRIP_PIXELS // (right - left))
    strips = [(left, first, right, min(first + rows, bottom)) for first in range(top, bottom, rows)]
    soft = None
    if feather:
        alphas = [_placed(layer[3:], position, size, rotation, strip)[0] for strip in strips]
        soft = _feathered(np.concatenate(alphas), feather)
    for strip in strips:
        _, first, _, last = strip
        placed = _placed(layer, position, size, rotation, strip)
        if soft is not None:
            placed *= soft[first - top : last - top] / placed[3].clip(min=1e-6)
        mask[first:last, left:right] = (placed[3] * 255).round()
        touched, remaining = placed[3] > 0, 1 - placed[3]
        for index in range(3):
            region = canvas[index, first:last, left:right]
            blended = placed[index] + remaining * to_unit(region)
            if canvas.dtype.kind == "u":
                blended = (blended * np.float32(full_scale(canvas))).round()
            # other pixels keep the background's exact values
            image[first:last, left:right, index] = np.where(touched, blended.astype(canvas.dtype), region)
    return Composite(image, mask, mask_box(mask >= OPAQUE))


def _region(
    size: tuple[float, float], position: tuple[float, float], rotation: float, canvas_shape: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the background that a rectangle touches, plus a pixel on each side."""
    half_width, half_height = half_extent(*size, rotation)
    x, y = position
    return (
        int(np.clip(np.floor(x - half_width) - 1, 0, canvas_shape[1])),
        int(np.clip(np.floor(y - half_height) - 1, 0, canvas_shape[0])),
        int(np.clip(np.ceil(x + half_width) + 1, 0, canvas_shape[1])),
        int(np.clip(np.ceil(y + half_height) + 1, 0, canvas_shape[0])),
    )


def _premultiplied(rgb: np.ndarray, opacity: np.ndarray, scale: float) -> np.ndarray:
    """Make a layer of a cut-out, shrunk to whole pixels without aliasing; `_placed` does the remaining fraction.

    Returns:
        RGB times opacity, and opacity, shape (4, h, w), with a border of `BORDER` transparent pixels.
    """
    height, width = (max(1, round(side * scale)) for side in opacity.shape)
    layer = np.zeros((4, height + 2 * BORDER, width + 2 * BORDER), np.float32)
    for index, inner in enumerate(layer[:, BORDER:-BORDER, BORDER:-BORDER]):
        channel = opacity if index == 3 else to_unit(rgb[index]) * opacity
        if channel.shape != inner.shape:
            channel = np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR))
        np.clip(channel, 0, 1, out=inner)
    return layer


def _placed(
    layer: np.ndarray,
    position: tuple[float, float],
    size: tuple[float, float],
    rotation: float,
    region: tuple[int, int, int, int],
) -> np.ndarray:
    """Resample a layer bicubically onto a region of the background; 0 outside the layer.

    Pillow's `Image.transform` would sharpen: its bicubic kernel has a = -1, that of torch and OpenCV a = -0.75.

    Args:
        layer: what `_premultiplied` returns, or only its opacity, shape (1, h, w).
        size: width and height of the layer without its border, in pixels of the background.
        region: left, top, right and bottom, in pixels of the background.
    Returns:
        float32 in [0, 1], shape (4, bottom - top, right - left), or (1, ...) for an opacity.

    Source: Keys, "Cubic convolution interpolation for digital image processing" (1981).
    """
    left, top, right, bottom = region
    x, y = np.arange(left, right) + 0.5 - position[0], np.arange(top, bottom) + 0.5 - position[1]
    across, down = (layer.shape[2] - 2 * BORDER) / size[0], (layer.shape[1] - 2 * BORDER) / size[1]
    if rotation % 360 == 0:
        placed = _upright(layer, x * across, y * down)
    else:
        placed = _rotated(layer, x, y, across, down, rotation)
    alpha = placed[-1].clip(0, 1)
    alpha[alpha < LEAST_ALPHA] = 0
    alpha[alpha > 1 - LEAST_ALPHA] = 1
    placed[:-1] *= alpha / np.maximum(placed[-1], 1e-6)  # bicubic resampling overshoots 1 next to an edge
    placed[-1] = alpha
    np.maximum(placed, 0, out=placed)
    return np.minimum(placed, alpha, out=placed)


def _upright(layer: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Resample a layer at columns x and rows y, in its own pixels from its centre."""
    channels, height, width = layer.shape
    row, down = _taps(y, height)
    column, across = _taps(x, width)
    read = slice(column[0], column[-1] + 4)
    lines = np.zeros((channels, len(y), read.stop - read.start), np.float32)
    for index in range(4):
        lines += layer[:, row + index, read] * down[index][:, None]
    placed = np.zeros((channels, len(y), len(x)), np.float32)
    for index in range(4):
        placed += lines.take(column - read.start + index, axis=2) * across[index]
    return placed


def _rotated(
    layer: np.ndarray, x: np.ndarray, y: np.ndarray, across: float, down: float, rotation: float
) -> np.ndarray:
    """Resample a layer at columns x and rows y of the background, in pixels from the layer's centre.

    Args:
        across, down: pixels of the layer for one of the background.
    """
    channels, height, width = layer.shape
    cosine, sine = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    column = across * cosine * x - (across * sine * y)[:, None]
    row = down * sine * x + (down * cosine * y)[:, None]
    margin = 1.5 - BORDER
    reached = np.flatnonzero((abs(column) < width / 2 + margin) & (abs(row) < height / 2 + margin))
    first_row, rows = _taps(row.ravel()[reached], height)
    first_column, columns = _taps(column.ravel()[reached], width)
    first = first_row * width + first_column
    placed = np.zeros((channels, *row.shape), np.float32)
    for channel in reversed(range(channels)):
        values = _weighted(layer[channel], first, rows, columns)
        placed[channel].reshape(-1)[reached] = values
        visible = values >= LEAST_ALPHA
        if channel == 3 and np.count_nonzero(visible) < 0.9 * len(visible):  # colours do not show elsewhere
            reached, first, rows, columns = reached[visible], first[visible], rows[:, visible], columns[:, visible]
    return placed


def _weighted(channel: np.ndarray, first: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sum 4 x 4 weighted pixels of a channel (h, w) for each of P places. New arrays would take longer than the sums.

    Args:
        first: index of the upper left of the 16 in the flat channel, shape (P,).
        rows, columns: weights, shape (4, P).
    """
    values = channel.reshape(-1)
    total, line, pixel = np.zeros((3, len(first)), np.float32)
    for j in range(4):
        values[j * channel.shape[1] :].take(first, out=line, mode="clip")
        line *= columns[0]
        for i in range(1, 4):
            values[j * channel.shape[1] + i :].take(first, out=pixel, mode="clip")
            pixel *= columns[i]
            line += pixel
        line *= rows[j]
        total += line
    return total


def _taps(position: np.ndarray, length: int, a: float = -0.75) -> tuple[np.ndarray, np.ndarray]:
    """The four pixels that bicubic resampling reads along an axis of `length` pixels.

    Args:
        position: in pixels from the axis' middle, shape (P,).
    Returns:
        index of the first pixel, shape (P,), and weights of the four, float32, shape (4, P).
    """
    position = position + (length - 1) / 2
    before = np.floor(position)
    t = (position - before).astype(np.float32)
    weights = np.empty((4, len(t)), np.float32)
    outer = a * t * (1 - t)
    weights[0], weights[3] = outer * (1 - t), outer * t
    weights[1] = ((a + 2) * t - (a + 3)) * t * t + 1
    weights[2] = 1 - weights[0] - weights[1] - weights[3]
    return np.clip(before - 1, 0, length - 4).astype(np.intp), weights


def _feathered(alpha: np.ndarray, feather: float) -> np.ndarray:
    """Soften the edge of an opacity (H, W): it rises over `feather` pixels to the inside, from 0 where it was half."""
    feather = min(feather, max(alpha.shape))  # a wider edge leaves nothing either
    levels = (alpha * 255).round().astype(np.uint8)
    margin = int(np.ceil(2 * feather))
    blurred = Image.fromarray(np.pad(levels, margin, mode="edge")).filter(ImageFilter.GaussianBlur(feather / 2))
    inside = np.asarray(blurred)[margin : margin + alpha.shape[0], margin : margin + alpha.shape[1]]
    return np.clip(2 * (inside.astype(np.float32) / 255) - 1, 0, alpha)


def _decontaminated(rgb: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Estimate the colours of the object at translucent pixels, float32, shape (3, h, w)."""
    try:
        from pymatting import estimate_foreground_ml
    except ImportError as error:
        raise InputError('decontaminate needs pymatting; install it with pip install "aict_hf[compositing]"') from error
    colors = estimate_foreground_ml(
        to_unit(rgb).transpose(1, 2, 0).astype(np.float64), opacity.astype(np.float64), return_background=False
    )
    return colors.astype(np.float32).transpose(2, 0, 1).clip(0, 1)


__all__ = ["OPAQUE", "Composite", "paste"]
