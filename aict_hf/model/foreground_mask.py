"""What a mask may be, everywhere in the package: `read_mask` reads it, `mask_surprises` looks at what was read."""

import numpy as np

from .levels import full_scale, to_eight_bits, to_unit

LOWEST_WHITE = 0.1  # a mask whose highest level is below this holds numbers, not strengths
FULL_STRENGTH = 0.9  # one below this changes plainly less than its author expects
TINT = 32 / 255  # colours whose channels differ by less are gray, as in masks that were saved as JPEG
STRAY = 0.01  # share of a mask's pixels that may contradict its kind, as noise of compression does
MANY = 0.2  # share of a mask's colours that only a second colour changes
SEEN_ROWS = 256  # of a mask are looked at for flat areas; all would take long
TURNED = "photos are turned upright by their EXIF orientation, so the mask must be made of the upright photo"
MOST_FLAT_LEVELS = 64  # soft edges have more levels between black and white, or no flat areas


def read_mask(channels: np.ndarray) -> np.ndarray:
    """Read a foreground mask. All commands, the pipeline, the Space and the augmentation read masks by these rules.

    - Gray of 8 bits (0..255), of 16 bits (0..65535) or float (0..1): white is foreground, black is background, and
      levels between them are soft. Bool and bilevel masks are foreground where they are True.
    - Colours and palettes: gray colours are gray levels. One colour on black, such as a mask painted in red or a
      palette with one class, is foreground where that colour is. Several colours are refused.
    - With transparency: the alpha channel is the mask if what is visible is in colour, or of one gray level, as in
      cut-outs and painted layers. Otherwise the mask is laid on black.
    - Numbers of classes or instances, 0 and 1, and levels of 8 bits stored in 16 are refused: the highest level must be
      at least a tenth of white.

    Args:
        channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA), uint8 0..255, uint16 0..65535 or float 0..1, shape
            (C, H, W).
    Returns:
        share of foreground, uint8 or float in [0, 1], shape (1, H, W). A mask without foreground is all 0.
    Raises:
        ValueError: if the mask is in several colours, or its highest level is above 0 and below a tenth of white.
    """
    if channels.dtype == np.uint16:
        check_highest_level(int(channels.max()), 65535)
        channels = to_unit(channels)
    alpha = channels[-1:] if channels.shape[0] in (2, 4) else None
    colors = channels[: 3 if channels.shape[0] > 2 else 1]
    if _are_equal(colors):
        colors = colors[:1]
    white = full_scale(channels)
    if is_painted(channels):
        mask = _one_color_on_black(colors)
    elif alpha is None or alpha.min() == white:
        mask = luminance(colors)
    elif not (visible := alpha[0] > 0).any():
        mask = alpha
    else:
        shown = colors[:, visible]
        gray = luminance(colors) if len(shown) == 1 or _is_gray(shown) else None
        if gray is None or np.ptp(gray[0, visible]) < LOWEST_WHITE * white:
            mask = alpha
        else:
            mask = to_unit(gray) * to_unit(alpha)
    check_highest_level(mask.max().item(), full_scale(mask))
    return mask


def is_painted(channels: np.ndarray) -> bool:
    """Whether `read_mask` takes the one colour of a mask for its foreground, instead of reading gray levels or alpha.

    Args:
        channels: as for `read_mask`, a mask that it does not refuse.
    """
    if channels.shape[0] < 3:
        return False
    if channels.shape[0] == 4 and channels[-1].min() < full_scale(channels):
        return False
    return not _are_equal(channels[:3]) and not _is_gray(channels[:3])


def check_highest_level(highest: float, white: float) -> None:
    """Refuse a mask that holds numbers instead of strengths.

    Args:
        highest: the mask's highest level.
        white: the level of white, 255, 65535 or 1.0.
    Raises:
        ValueError: if the highest level is above 0 and below a tenth of white.
    """
    if not 0 < highest < LOWEST_WHITE * white:
        return
    if highest == 1:
        kind = "uint8" if white == 255 else "uint16"
        raise ValueError(
            f"the mask is {kind} but holds only 0 and 1, where {white:g} is foreground; pass it as bool or times "
            f"{white:g}"
        )
    if highest == 255 and white == 65535:
        raise ValueError(
            "the mask has 16 bits, where 65535 is foreground, but its highest level is 255; save it with 8 bits"
        )
    raise ValueError(
        f"the mask's highest level is {highest:.4g}, where {white:g} is foreground; "
        "if it holds numbers of classes or instances, make the one you mean white and all else black"
    )


def mask_surprises(mask: np.ndarray) -> list[str]:
    """Find signs that a mask is not meant as it is read.

    Args:
        mask: uint8 0..255 or float 0..1, shape (1, H, W).
    Returns:
        one sentence for each surprise: the mask has no white, or flat areas between black and white. None for a mask
        without foreground.
    """
    highest = round(to_unit(mask.max()).item() * 255)
    if not mask.any():
        return []
    if highest < FULL_STRENGTH * 255:
        return [
            f"the mask's highest level is {highest} of 255, so at most {highest / 2.55:.0f} % of the colour change "
            "is applied; white is full strength"
        ]
    step = max(1, mask.shape[1] // SEEN_ROWS)
    rows, lower = (to_eight_bits(values) for values in (mask[0, :-1:step], mask[0, 1::step]))
    counts = np.bincount(rows.ravel(), minlength=256)
    present = counts.nonzero()[0].tolist()
    middle = [level for level in present if 0 < level < FULL_STRENGTH * 255]
    if not 0 < len(middle) <= MOST_FLAT_LEVELS:
        return []
    corner, right, lower = rows[:, :-1], rows[:, 1:], lower[:, :-1]
    between = (corner > 0) & (corner < FULL_STRENGTH * 255)
    flat = int((between & (corner == right) & (corner == lower)).sum())
    if flat <= 0.5 * int(between.sum()) or flat < STRAY * int(counts[1:].sum()):
        return []
    most = max(middle, key=lambda level: int(counts[level]))
    return [
        f"the mask has flat areas between black and white, such as level {most} of 255; levels are read as strengths, "
        "not as numbers of classes or instances"
    ]


def luminance(channels: np.ndarray) -> np.ndarray:
    """(C, H, W) to (1, H, W) by the weights of ITU-R 601, alpha left out; gray stays exactly gray."""
    if channels.shape[0] < 3:
        return channels[:1]
    red, green, blue = channels[:3].astype(np.promote_types(np.float32, channels.dtype), copy=False)
    weighted = 0.299 * red + 0.587 * green + 0.114 * blue
    if channels.dtype.kind == "u":
        weighted = weighted + 0.5  # rounds where it is cut to an integer
    return np.where((red == green) & (green == blue), red, weighted).astype(channels.dtype)[None]


def _are_equal(colors: np.ndarray) -> bool:
    """Whether three channels are the same."""
    return len(colors) == 3 and np.array_equal(colors[0], colors[1]) and np.array_equal(colors[0], colors[2])


def _is_gray(colors: np.ndarray) -> bool:
    """Whether almost all pixels, shape (3, ...), are gray; black ones do not count."""
    highest, lowest = colors.max(0), colors.min(0)
    white = full_scale(colors)
    colored = int((highest - lowest > TINT * white).sum())
    return colored <= STRAY * int((highest > TINT * white).sum())


def _one_color_on_black(colors: np.ndarray) -> np.ndarray:
    """The share of the one colour at each pixel, float, shape (1, H, W)."""
    color = _only_color(_flat_colors(colors))[:, None, None]
    share = (to_unit(colors) * color).sum(0) / (color**2).sum()
    return np.clip(share, 0, 1)[None]


def _flat_colors(colors: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] of visible pixels, shape (3, N), without edges, where JPEG mixes them.

    All visible pixels if few are flat, as in soft masks and small ones. Tall masks are sampled.
    """
    step = max(1, colors.shape[1] // SEEN_ROWS)
    upper, lower = to_unit(colors[:, :-1:step]), to_unit(colors[:, 1::step])
    change = np.maximum(np.abs(upper - lower)[..., 1:], np.abs(np.diff(upper, axis=2))).max(0)
    right = upper[:, :, 1:]
    visible = right.max(0) > TINT
    flat = visible & (change < TINT / 4)
    if int(flat.sum()) > MANY * int(visible.sum()):
        return right[:, flat]
    unit = to_unit(colors)
    return unit[:, unit.max(0) >= min(TINT, unit.max())]


def _only_color(seen: np.ndarray) -> np.ndarray:
    """The one colour of which all colours, in [0, 1], shape (3, N), are shares. Its shape is (3,).

    Raises:
        ValueError: if there are several.
    """
    brightness = seen.sum(0)
    # The median, because compression leaves single pixels that are brighter.
    bright = seen[:, brightness >= 0.8 * brightness.max()]
    middle = (bright.shape[1] - 1) // 2
    color = np.partition(bright, middle, axis=1)[:, middle]
    share = (seen * color[:, None]).sum(0) / (color**2).sum()
    difference = np.abs(seen - share * color[:, None]).max(0)
    # Compression changes few pixels by much. A second colour that resembles the first changes many by less.
    for least, most in ((4 * TINT / 3, STRAY), (TINT / 2, MANY)):
        other = difference > least
        if int(other.sum()) > most * seen.shape[1]:
            named = [tuple((255 * values).round().astype(int).tolist()) for values in (color, seen[:, other][:, 0])]
            raise ValueError(
                f"the mask is in several colours, such as {named[0]} and {named[1]}, as pictures and maps of classes "
                "are; make the object white and all else black"
            )
    return color


__all__ = ["TURNED", "check_highest_level", "is_painted", "luminance", "mask_surprises", "read_mask"]
