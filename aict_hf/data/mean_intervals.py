"""Confidence intervals of the mean figures of an evaluation.

Needs SciPy (`pip install "aict_hf[training]"`).
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap

LEVEL = 0.95
BATCH_VALUES = 4_000_000  # figures that are resampled at once: 32 MB


def mean_intervals(
    values: np.ndarray, photos: Sequence[str], *, seed: int = 0, resamples: int = 9999
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap intervals of means over images, at the level of 95 %, by the percentile method.

    Photos are drawn, each with all of its composites: iHarmony4 has several composites of one photo, whose errors are
    alike. Drawing images would give intervals that are too narrow. All columns share the
    draws.

    Args:
        values: figures of the images, shape (images, columns).
        photos: for each image the name of the photo that it is made from.
        seed: of the draws.
        resamples: number of draws.
    Returns:
        lower and upper ends, both of shape (columns,); NaN if there are fewer than two photos.
    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
    Examples:
        >>> import numpy as np
        >>> low, high = mean_intervals(np.array([[1.0], [1.0], [3.0]]), ["a", "a", "b"])
        >>> low.item(), high.item()
        (1.0, 3.0)
    """
    names, clusters = np.unique(np.asarray(photos), return_inverse=True)
    if len(names) < 2:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    # The mean over images is the ratio of two sums over photos: of figures, and of numbers of images.
    sums = np.stack([np.bincount(clusters, weights=column) for column in values.T])
    counts = np.broadcast_to(np.bincount(clusters), sums.shape)
    interval = bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis=axis) / counts.sum(axis=axis),
        paired=True,
        axis=-1,
        n_resamples=resamples,
        batch=max(1, BATCH_VALUES // sums.size),
        confidence_level=LEVEL,
        method="percentile",  # BCa has no interval where all figures are equal
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return interval.low, interval.high


__all__ = ["LEVEL", "mean_intervals"]
