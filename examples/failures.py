"""Failures of the bundled checkpoint: strong colour casts on the example photos, before and after.

    python examples/failures.py examples/failures.jpg

Each row shows a composite with a changed foreground, its mask and the harmonized result. The last row is the
dandelion's harmonized composite, harmonized again: it should not change.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from aict_hf import Harmonizer

FOLDER = Path(__file__).parent
WIDTH = 380
CASTS = {"dandelion": np.array([0.45, 0.75, 1.5]), "drum": np.array([1.4, 0.55, 1.2])}

harmonizer = Harmonizer.from_pretrained()


def row(composite: Image.Image, mask: Image.Image, result: Image.Image) -> np.ndarray:
    size = WIDTH, round(WIDTH * composite.height / composite.width)
    return np.hstack(
        [np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS)) for image in (composite, mask, result)]
    )


rows = []
for name, factors in CASTS.items():
    original = Image.open(FOLDER / f"{name}_composite.jpg")
    mask = Image.open(FOLDER / f"{name}_mask.png").convert("L")
    share = np.asarray(mask)[..., None] / 255
    pixels = np.asarray(original)
    cast = Image.fromarray((share * (pixels * factors).clip(0, 255) + (1 - share) * pixels).round().astype(np.uint8))
    rows.append(row(cast, mask, harmonizer(cast, mask)))
    if name == "dandelion":
        once = harmonizer(original, mask)
        again = row(once, mask, harmonizer(once, mask))
Image.fromarray(np.vstack([*rows, again])).save(sys.argv[1], quality=88)
