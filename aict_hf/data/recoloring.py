"""Composites from real photos: the foreground is recoloured, and the photo itself is the result to be predicted.

There are two kinds of change. Transfers give the foreground the colour statistics of another photo. Photographic
changes imitate another camera or editor. All functions depend only on their arguments and a `numpy.random.Generator`.
Needs OpenCV (`pip install "aict_hf[training]"`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import cv2
import numpy as np

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
QUANTILES = np.linspace(0, 1, 129)


def reinhard_transfer(pixels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give pixels the mean and standard deviation of a reference, per channel of CIE Lab.

    Args:
        pixels: foreground colours, RGB in [0, 1], float32, shape (N, 3).
        reference: colours with the wanted statistics, RGB in [0, 1], float32, shape (M, 3).
    Returns:
        recoloured pixels, shape (N, 3), which may leave [0, 1]. Contrast grows at most threefold.
    Source: Reinhard et al., "Color transfer between images" (2001), in Lab instead of l-alpha-beta.
    """
    source, target = _to_lab(pixels), _to_lab(reference)
    spread, wanted = source.std(axis=0), target.std(axis=0)
    ratio = np.minimum(wanted, 3 * spread + 1) / (spread + 1e-4)
    moved = ((source - source.mean(axis=0)) * ratio + target.mean(axis=0)).astype(np.float32)
    return cv2.cvtColor(moved[None], cv2.COLOR_LAB2RGB)[0]


def covariance_transfer(pixels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give pixels the mean and covariance of a reference in RGB, by the linear map that moves colours least.

    Arguments and result as for `reinhard_transfer`.
    Source: Pitié and Kokaram, "The linear Monge-Kantorovitch linear colour mapping" (2007).
    """
    source = np.cov(pixels.T) + 1e-4 * np.eye(3)
    target = np.cov(reference.T) + 1e-4 * np.eye(3)
    root, inverse_root = _matrix_power(source, 0.5), _matrix_power(source, -0.5)
    transform = inverse_root @ _matrix_power(root @ target @ root, 0.5) @ inverse_root
    return ((pixels - pixels.mean(axis=0)) @ transform.T + reference.mean(axis=0)).astype(np.float32)


def histogram_transfer(pixels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give pixels the histogram of a reference, per channel of RGB.

    Arguments and result as for `reinhard_transfer`.
    """
    result = np.empty_like(pixels)
    for channel in range(3):
        source = _quantiles(pixels[:, channel]) + np.arange(len(QUANTILES)) * 1e-6  # strictly increasing
        result[:, channel] = np.interp(pixels[:, channel], source, _quantiles(reference[:, channel]))
    return result


def distribution_transfer(
    pixels: np.ndarray, reference: np.ndarray, rng: np.random.Generator, *, iterations: int = 6
) -> np.ndarray:
    """Give pixels the colour distribution of a reference, by matching histograms along random rotations of RGB.

    Args:
        pixels, reference: as for `reinhard_transfer`.
        rng: draws the rotations.
        iterations: number of rotations. More bring the distribution closer to the reference's and add grain.
    Source: Pitié, Kokaram and Dahyot, "N-dimensional probability density function transfer" (2005).
    """
    result = pixels
    for _ in range(iterations):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
        result = histogram_transfer(result @ rotation, reference @ rotation) @ rotation.T
    return result


def photographic_change(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change white balance, gamma, exposure, contrast, saturation, highlights and shadows at random.

    Args:
        pixels: as for `reinhard_transfer`.
        rng: draws the changes and their sizes.
    """
    result = pixels
    if rng.random() < 0.7:  # white balance
        result = result * np.exp(rng.normal(0, 0.22, 3))
    if rng.random() < 0.7:  # gamma
        result = np.clip(result, 0, None) ** np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.6:  # exposure
        result = result * np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.5:  # contrast and brightness
        middle = result.mean()
        result = (result - middle) * np.exp(rng.normal(0, 0.25)) + middle + rng.normal(0, 0.05)
    if rng.random() < 0.5:  # saturation
        gray = (result @ LUMINANCE)[:, None]
        result = gray + (result - gray) * np.exp(rng.normal(-0.1, 0.35))
    if rng.random() < 0.4:  # highlights and shadows: a smooth curve, a little different in each channel
        positions = np.linspace(0, 1, 5)
        common = rng.normal(0, 0.07, 5)
        curves = [positions + common + rng.normal(0, 0.03, 5) for _ in range(3)]
        columns = [np.interp(result[:, c], positions, np.maximum.accumulate(curves[c])) for c in range(3)]
        result = np.stack(columns, axis=1)
    return np.asarray(result, dtype=np.float32)


def varied_light(
    shape: tuple[int, int], rng: np.random.Generator, *, spread: tuple[float, float], tint: float
) -> np.ndarray:
    """Gains of light that varies smoothly over an area, such as bright on one side and warm on the other.

    Args:
        shape: rows and columns of the area, in pixels.
        rng: draws the field.
        spread: range of the standard deviation of the gain's natural logarithm; 0.23 is a third of a stop.
        tint: largest standard deviation of the natural logarithm of a single channel's gain.
    Returns:
        positive factors, float32, shape (*shape, 3): a 3 x 3 field of normal numbers, upsampled bicubically.
    """
    field = rng.normal(0, rng.uniform(*spread), (3, 3, 1)) + rng.normal(0, rng.uniform(0, tint), (3, 3, 3))
    return np.exp(cv2.resize(field.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC))


TRANSFERS: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {
        "reinhard": lambda pixels, reference, rng: reinhard_transfer(pixels, reference),
        "covariance": lambda pixels, reference, rng: covariance_transfer(pixels, reference),
        "histogram": lambda pixels, reference, rng: histogram_transfer(pixels, reference),
        "distribution": distribution_transfer,
        "photographic": lambda pixels, reference, rng: photographic_change(pixels, rng),
    }
)
"""All changes by name: functions of foreground pixels, reference pixels and a random generator."""


@dataclass(frozen=True)
class RecoloringOptions:
    """Which changes are drawn, and which of them are rejected as implausible.

    Attributes:
        weights: relative frequencies of the `TRANSFERS`.
        full_strength_probability: probability that a change is applied in full.
        strength: range of the applied share of all other changes.
        harmonious_probability: probability that the composite is the photo itself.
        change: smallest and largest plausible change of the foreground, as fMSE on the 0..255 scale.
        max_clipped: largest share of foreground pixels that a change may push out of [0, 1].
        light_probability: probability that a change also gets light that varies over the foreground (`varied_light`).
        light: range of the spread of that light, in natural logarithms of the gain.
        light_tint: largest spread of the tint of that light, in natural logarithms of the gain.
        attempts: number of draws before giving up.
    Raises:
        ValueError: if a value is out of its range, or a weight has an unknown name.
    """

    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "reinhard": 1.0,
            "covariance": 1.0,
            "histogram": 1.0,
            "distribution": 1.0,
            "photographic": 2.0,
        }
    )
    strength: tuple[float, float] = (0.4, 1.0)
    full_strength_probability: float = 0.7
    harmonious_probability: float = 0.0
    change: tuple[float, float] = (60.0, 4500.0)
    max_clipped: float = 0.15
    light_probability: float = 0.0
    light: tuple[float, float] = (0.1, 0.35)
    light_tint: float = 0.08
    attempts: int = 8

    def __post_init__(self) -> None:
        unknown = set(self.weights) - set(TRANSFERS)
        if unknown or not self.weights or min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
            raise ValueError(f"weights are {dict(self.weights)}; expected weights of {', '.join(TRANSFERS)}")
        for name in ("full_strength_probability", "harmonious_probability", "max_clipped", "light_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        for name in ("strength", "change", "light"):
            if not 0 <= getattr(self, name)[0] <= getattr(self, name)[1]:
                raise ValueError(f"{name} is {getattr(self, name)}; expected two numbers, the smaller one first")
        if self.light_tint < 0 or self.attempts < 1:
            raise ValueError(f"light_tint is {self.light_tint} and attempts {self.attempts}; expected >= 0 and >= 1")


@dataclass(frozen=True)
class RecoloredPhoto:
    """A composite made from a real photo.

    Attributes:
        composite: RGB, uint8, shape (H, W, 3); equal to the photo where the mask is 0.
        method: name of the change in `TRANSFERS`, or "harmonious".
        change: fMSE between composite and photo, 0..255 scale.
    """

    composite: np.ndarray
    method: str
    change: float


def recolor_foreground(
    photo: np.ndarray,
    mask: np.ndarray,
    references: Sequence[np.ndarray],
    rng: np.random.Generator,
    options: RecoloringOptions | None = None,
) -> RecoloredPhoto | None:
    """Make a composite from a real photo by recolouring its foreground.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        mask: foreground, uint8, shape (H, W); soft values blend.
        references: colours of other photos, each of a foreground or a whole photo, RGB uint8, shape (N, 3). One of them
            is drawn for each attempt.
        rng: source of every random choice, so the same seed gives the same composite.
        options: the changes that may be drawn.
    Returns:
        the composite, or None if no attempt gave a plausible one.
    Raises:
        ValueError: if shapes or dtypes are not these, the mask is empty or there are no references.
    """
    options = options or RecoloringOptions()
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"photo has dtype {photo.dtype} and shape {photo.shape}; expected uint8 RGB (H, W, 3)")
    if mask.dtype != np.uint8 or mask.shape != photo.shape[:2]:
        raise ValueError(f"mask has dtype {mask.dtype} and shape {mask.shape}; expected uint8 {photo.shape[:2]}")
    if not references:
        raise ValueError("there are no reference colours; pass at least one array of other photos' pixels")
    foreground = mask > 0
    if not foreground.any():
        raise ValueError("the mask has no foreground; there is nothing to recolour")
    if rng.random() < options.harmonious_probability:
        return RecoloredPhoto(photo.copy(), "harmonious", 0.0)

    pixels = photo[foreground].astype(np.float32) / 255
    if len(pixels) < 2:
        return None  # one pixel has no statistics
    weight = mask[foreground].astype(np.float32)[:, None] / 255
    left, top, width, height = cv2.boundingRect(mask)
    names = list(options.weights)
    probabilities = np.array([options.weights[name] for name in names])
    for _ in range(options.attempts):
        method = str(rng.choice(names, p=probabilities / probabilities.sum()))
        reference = references[int(rng.integers(len(references)))].astype(np.float32) / 255
        changed = TRANSFERS[method](pixels, reference, rng)
        if rng.random() >= options.full_strength_probability:
            changed = pixels + (changed - pixels) * rng.uniform(*options.strength)
        if options.light_probability and rng.random() < options.light_probability:
            light = varied_light((height, width), rng, spread=options.light, tint=options.light_tint)
            changed = changed * light[foreground[top : top + height, left : left + width]]
        clipped = ((changed < -0.02) | (changed > 1.02)).any(axis=1).mean()
        blended = weight * changed.clip(0, 1) + (1 - weight) * pixels
        change = float(((blended - pixels) ** 2).sum() / (3 * weight.sum()) * 255**2)  # only the foreground differs
        if clipped <= options.max_clipped and options.change[0] <= change <= options.change[1]:
            composite = photo.copy()
            composite[foreground] = (blended * 255).round().astype(np.uint8)
            return RecoloredPhoto(composite, method, change)
    return None


def _quantiles(values: np.ndarray) -> np.ndarray:
    """`np.quantile(values, QUANTILES)`, but five times faster: sorting beats partitioning for so many quantiles."""
    return np.interp(QUANTILES * (len(values) - 1), np.arange(len(values)), np.sort(values))


def _to_lab(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(pixels, dtype=np.float32)[None], cv2.COLOR_RGB2LAB)[0]


def _matrix_power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-6) ** exponent) @ vectors.T


__all__ = [
    "TRANSFERS",
    "RecoloredPhoto",
    "RecoloringOptions",
    "covariance_transfer",
    "distribution_transfer",
    "histogram_transfer",
    "photographic_change",
    "recolor_foreground",
    "reinhard_transfer",
    "varied_light",
]
