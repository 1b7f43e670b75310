"""What the bundled checkpoint does not manage: strong casts on the example photos, before and after.

    python examples/failures.py examples/failures.jpg

Each row: the composite after a change of its foreground, its mask, what the model makes of it. The last row is the
dandelion's composite once harmonized, given to the model again: it should stay as it is.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from aict_hf.pretrained import load_checkpoint

FOLDER = Path(__file__).parent
WIDTH = 380
CASTS = {"dandelion": np.array([0.45, 0.75, 1.5]), "drum": np.array([1.4, 0.55, 1.2])}

model, processor = load_checkpoint()


def harmonize(composite: Image.Image, mask: Image.Image) -> Image.Image:
    with torch.inference_mode():
        outputs = model(**processor(composite, mask, return_tensors="pt"), return_harmonized=False)
    return processor.post_process_harmonization(outputs, composite, mask)[0]


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
    rows.append(row(cast, mask, harmonize(cast, mask)))
    if name == "dandelion":
        once = harmonize(original, mask)
        again = row(once, mask, harmonize(once, mask))
Image.fromarray(np.vstack([*rows, again])).save(sys.argv[1], quality=88)
