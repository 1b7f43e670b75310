"""Augment a COCO dataset, or a part of it, with harmonized copy-paste, and list what changed.

    python examples/augment_coco.py annotations/instances_val2017.json val2017 out/ --images 500 --category dog

The script cuts objects out of the dataset, optionally of one category, and pastes them into the dataset's photos. It
shows the steps of `aict augment`, as a start for your own pipeline. Needs `pip install "aict_hf[augment]"`.
"""

import argparse
from pathlib import Path, PurePosixPath

from PIL import Image

from aict_hf.augment.annotations import AnnotatedDataset
from aict_hf.augment.cutouts import CutoutBank
from aict_hf.augment.formats.coco import read_coco, write_coco
from aict_hf.augment.options import CopyPasteOptions
from aict_hf.augment.transform import HarmonizedCopyPaste

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("annotations", type=Path, help="the JSON file in COCO's format")
parser.add_argument("image_folder", type=Path, help="the folder of its images")
parser.add_argument("output", type=Path, help="the folder to write")
parser.add_argument("--images", type=int, help="augment only this many images, the first ones")
parser.add_argument("--category", help="paste only objects of this category")
parser.add_argument("--batch_size", type=int, default=8, help="images that are augmented at once")
parser.add_argument("--seed", type=int, default=0, help="seed of all random draws")
arguments = parser.parse_args()

dataset = read_coco(arguments.annotations, arguments.image_folder)
part = AnnotatedDataset(dataset.images[: arguments.images], dataset.categories, dataset.extra)
bank = CutoutBank.from_dataset(dataset, categories=[arguments.category] if arguments.category else None)
labels = {name: key for key, name in dataset.category_names.items()}
options = CopyPasteOptions(objects=(1, 3), strengths=(0.7, 1.0), seed=arguments.seed)
transform = HarmonizedCopyPaste(bank, labels, options)

records = []
for start in range(0, len(part.images), arguments.batch_size):
    images = part.images[start : start + arguments.batch_size]
    before = [image.sample() for image in images]
    after = transform(before)  # one run of the network for the whole batch
    for image, sample, augmented in zip(images, before, after, strict=True):
        name = str(PurePosixPath(image.name).with_suffix(".png"))
        (arguments.output / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(augmented["image"]).save(arguments.output / "images" / name)
        annotations = image.updated_annotations(sample, augmented)
        records.append({**image.record, "file_name": name, "annotations": annotations})
        cut = sum(
            int(origin >= 0 and (mask != sample["masks"][origin]).any())
            for mask, origin in zip(augmented["masks"], augmented["origins"], strict=True)
        )
        pasted = len(augmented["cutouts"])
        dropped = len(sample["masks"]) + pasted - len(augmented["masks"])
        print(f"{name}: {pasted} pasted, {cut} cut, {dropped} hidden")
write_coco(arguments.output / "annotations.json", part, records)
print(f"wrote {arguments.output / 'annotations.json'}")
