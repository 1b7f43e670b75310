"""Make the pictures that the Space shows as examples, from photos of the Debian package lomiri-wallpapers-16.04.

    python examples/space_pictures.py PHOTOS MASKS

PHOTOS holds seeding_by_Clements_Engelhardt.jpg, Wine_by_Jakkub_Mede.jpg, friends_by_Aitzol_Berasategi.jpg and
sunset_by_Aitzol_Berasategi.jpg; MASKS the foreground masks of the first two under the same stems, as PNG.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from aict_hf.compose.paste import paste
from aict_hf.files.images import ImageFile, write_image

OUT = Path(__file__).parents[1] / "space" / "examples"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photos", type=Path)
parser.add_argument("masks", type=Path)
arguments = parser.parse_args()


def photo(stem: str, side: int) -> Image.Image:
    opened = Image.open(next(arguments.photos.glob(f"*{stem}.jpg"))).convert("RGB")
    opened.thumbnail((side, side), Image.Resampling.LANCZOS)
    return opened


def cut_out(stem: str, side: int, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Image.Image:
    """The foreground within a part of the photo (left, top, right, bottom as shares of its size), cropped tightly."""
    picture = photo(stem, side)
    alpha = Image.open(next(arguments.masks.glob(f"*{stem}.png"))).convert("L").resize(picture.size)
    kept = Image.new("L", picture.size)
    corners = [round(share * length) for share, length in zip(box, picture.size * 2, strict=True)]
    kept.paste(alpha.crop(corners), corners[:2])
    picture.putalpha(kept)
    return picture.crop(kept.point(lambda level: 255 if level > 8 else 0).getbbox())


flower = cut_out("seeding_by_Clements_Engelhardt", 1600)
drum = cut_out("Wine_by_Jakkub_Mede", 1600, (0, 0.492, 1, 1))
hills, yard = photo("sunset_by_Aitzol_Berasategi", 1600), photo("friends_by_Aitzol_Berasategi", 1500)

OUT.mkdir(exist_ok=True)
flower.save(OUT / "dandelion_cutout.webp", quality=85, method=6)
drum.save(OUT / "drum_cutout.webp", quality=85, method=6)
hills.save(OUT / "hills.jpg", quality=82)
yard.save(OUT / "yard.jpg", quality=80)
for name, foreground, background, place in (
    ("dandelion_on_hills", flower, hills, {"position": (420, 760), "scale": 0.75}),
    ("drum_in_yard", drum, yard, {"position": (250, 1260), "scale": 0.6}),
):
    composite = paste(np.asarray(foreground), None, background, **place, decontaminate=True)
    Image.fromarray(composite.image).save(OUT / f"{name}.jpg", quality=85)
    write_image(OUT / f"{name}_mask.png", ImageFile(Image.fromarray(composite.mask)))
