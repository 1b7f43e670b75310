"""Measure whether harmonizing pasted objects helps a small segmentation network.

    python benchmarks/augmentation_study.py --data_dir train_pool train_pool_2 --output out/augmentation_study

The data are photos of animals from photo pools (a metadata.csv with the column `category`). The network learns which
pixels belong to an animal. A few photos are the training set. The test set has photos of other sources, which look
different. There are three arms: real photos only, real photos and naive composites, real photos and harmonized
composites. All arms share the real photos. The composites show animals of the training set, pasted onto its photos; the
two kinds differ only in the colours. Within a seed, all arms share the initial weights, the order and the crops.

The script prints the mean intersection over union (IoU) on the test set, and for each two arms the difference within
seeds with its 95 % confidence interval (Student's t). Finished runs are kept in the output folder. Run the same command
again to resume an interrupted study.
"""

import argparse
import itertools
import json
import platform
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from measuring import save_table
from PIL import Image
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from aict_hf.augment.cutouts import CutoutBank
from aict_hf.augment.options import CopyPasteOptions
from aict_hf.augment.transform import HarmonizedCopyPaste
from aict_hf.compose.boxes import mask_box
from aict_hf.files.atomic_write import atomic_file
from aict_hf.files.photo_pools import read_photo_pool

ANIMALS = (
    *("bear", "bird", "butterfly", "cat", "cow", "dog", "elephant", "emu", "flamingo", "horse", "otter"),
    *("rhesus_monkey", "rhino", "sheep", "tiger", "turtle", "zebra"),
)
ARMS = ("real photos alone", "and naive composites", "and harmonized composites")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data_dir", nargs="+", required=True, help="photo pools")
parser.add_argument("--output", type=Path, required=True, help="folder for results and table")
parser.add_argument("--photos", type=int, default=100, help="real photos in the training set")
parser.add_argument("--copies", type=int, default=4, help="composites of each real photo")
parser.add_argument("--test_photos", type=int, default=300, help="most photos to test on")
parser.add_argument(
    "--test_sources", nargs="+", default=["coc", "wzh", "cat", "msr"], help="prefixes of the file names of test photos"
)
parser.add_argument("--resolution", type=int, default=48, help="side of the network's input")
parser.add_argument("--steps", type=int, default=500, help="training steps")
parser.add_argument("--batch_size", type=int, default=16, help="photos per step")
parser.add_argument("--seeds", type=int, default=8, help="networks trained per arm")
arguments = parser.parse_args()


class SmallUNet(nn.Module):
    """U-Net with three scales and about 0.1 million weights: RGB (B, 3, H, W) to logits (B, 1, H, W)."""

    def __init__(self, widths: tuple[int, ...] = (12, 24, 48)):
        super().__init__()

        def block(channels: int, width: int) -> nn.Sequential:
            layers = []
            for before in (channels, width):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            return nn.Sequential(*layers)

        self.down = nn.ModuleList([block(*pair) for pair in zip((3, *widths[:-1]), widths, strict=True)])
        self.up = nn.ModuleList([block(low + high, high) for high, low in itertools.pairwise(widths)][::-1])
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, photos: Tensor) -> Tensor:
        features, skipped = photos, []
        for index, block in enumerate(self.down):
            features = block(features if index == 0 else F.max_pool2d(features, 2))
            skipped.append(features)
        skipped.pop()
        for block in self.up:
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = block(torch.cat([features, skipped.pop()], dim=1))
        return self.head(features)


def read_animals() -> dict[str, tuple[Path, list[Path]]]:
    """Return photos by name, each with the masks of its animals."""
    found: dict[str, tuple[Path, list[Path]]] = {}
    for photo in read_photo_pool(arguments.data_dir):
        if photo.kind != "stuff" and photo.category in ANIMALS:
            found.setdefault(photo.name, (photo.image, []))[1].append(photo.mask)
    return found


def sample_of(name: str, image: Path, masks: list[Path]) -> dict:
    """Return a photo as a sample for `HarmonizedCopyPaste`."""
    photo = np.array(Image.open(image).convert("RGB"))
    layers = [np.array(Image.open(mask).convert("L").resize(photo.shape[1::-1])) > 127 for mask in masks]
    boxes = [mask_box(layer) for layer in layers]
    labels = np.ones(len(masks), int)
    return {
        "image": photo,
        "masks": np.stack(layers),
        "boxes": np.array(boxes, float),
        "labels": labels,
        "image_id": name,
    }


def small(sample: dict) -> tuple[Tensor, Tensor]:
    """Return square tensors of a sample: RGB in [0, 1], (3, r, r), and the mask of all animals, (1, r, r)."""
    size = (arguments.resolution * 5 // 4,) * 2  # larger than the network's input, which is a crop
    photo = Image.fromarray(sample["image"]).resize(size, Image.Resampling.BOX)
    union = Image.fromarray(sample["masks"].any(axis=0).astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    photo_tensor = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255
    return photo_tensor, torch.from_numpy(np.array(union))[None].float() / 255


def composites(samples: list[dict], bank: CutoutBank, *, naive: bool) -> list[tuple[Tensor, Tensor]]:
    """Paste animals into `--copies` copies of each sample, at the same places whether harmonized or not."""
    options = CopyPasteOptions(objects=(1, 2), naive=naive, seed=0)
    paste = HarmonizedCopyPaste(bank, dict.fromkeys(bank.categories, 1), options)
    made = []
    work = list(itertools.product(range(1, arguments.copies + 1), range(0, len(samples), 8)))
    for copy, start in tqdm(work, desc="naive" if naive else "harmonized", unit="batch"):
        made += [small(sample) for sample in paste(samples[start : start + 8], epoch=copy)]
    return made


def train(seed: int, real: list[tuple[Tensor, Tensor]], pasted: list[tuple[Tensor, Tensor]]) -> SmallUNet:
    """Train a network; half of each batch are composites if there are any."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = SmallUNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=arguments.steps)
    side, margin = arguments.resolution, arguments.resolution // 4
    for _ in range(arguments.steps):
        batch = []
        for place in range(arguments.batch_size):
            chosen, (top, left), flipped = generator.random(), generator.integers(0, margin + 1, 2), generator.random()
            pool = pasted if pasted and place % 2 else real
            photo, mask = (part[:, top : top + side, left : left + side] for part in pool[int(chosen * len(pool))])
            batch.append((photo.flip(2), mask.flip(2)) if flipped < 0.5 else (photo, mask))
        photos, masks = (torch.stack(parts) for parts in zip(*batch, strict=True))
        logits = network(photos)
        share = logits.sigmoid()
        overlap = (share * masks).sum((1, 2, 3)) / (share + masks - share * masks).sum((1, 2, 3)).clamp(min=1)
        loss = F.binary_cross_entropy_with_logits(logits, masks) + (1 - overlap).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def mean_iou(network: SmallUNet, tests: list[tuple[Tensor, Tensor]]) -> float:
    """Return the intersection over union of the animals' pixels, averaged over the photos."""
    side = arguments.resolution
    values = []
    for start in range(0, len(tests), 32):
        photos, masks = (torch.stack(parts) for parts in zip(*tests[start : start + 32], strict=True))
        found = F.interpolate(
            network(F.interpolate(photos, (side, side), mode="area")), masks.shape[2:], mode="bilinear"
        )
        found, wanted = found > 0, masks > 0.5
        values += ((found & wanted).sum((1, 2, 3)) / (found | wanted).sum((1, 2, 3)).clamp(min=1)).tolist()
    return float(np.mean(values))


def main() -> None:
    animals = read_animals()
    by_test = defaultdict(list)
    for name in sorted(animals):
        by_test[Path(name).name.split("_")[0] in arguments.test_sources].append(name)
    generator = np.random.default_rng(0)
    training = sorted(generator.permutation(by_test[False])[: arguments.photos].tolist())
    testing = sorted(generator.permutation(by_test[True])[: arguments.test_photos].tolist())
    samples = [sample_of(name, *animals[name]) for name in training]
    bank = CutoutBank.from_pool(arguments.data_dir)
    bank = CutoutBank([s for s in bank.sources if s.name in set(training) and s.category in ANIMALS])
    real = [small(sample) for sample in samples]
    tests = [small(sample_of(name, *animals[name])) for name in testing]

    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = arguments.output / "results.json"
    settings = {name: value for name, value in vars(arguments).items() if name not in ("output", "data_dir", "seeds")}
    results = json.loads(kept.read_text()) if kept.exists() else {"settings": settings, "iou": {}}
    if results["settings"] != settings:
        raise SystemExit(f"{kept}: was made with other settings; choose another folder")
    pools = [[], composites(samples, bank, naive=True), composites(samples, bank, naive=False)]
    runs = [(seed, arm) for seed in range(arguments.seeds) for arm in range(len(ARMS))]
    for seed, arm in tqdm([run for run in runs if str(run) not in results["iou"]], unit="run"):
        results["iou"][str((seed, arm))] = mean_iou(train(seed, real, pools[arm]), tests)
        with atomic_file(kept) as partial:
            partial.write_text(json.dumps(results, indent=1))

    iou = 100 * np.array(
        [[results["iou"][str((seed, arm))] for arm in range(len(ARMS))] for seed in range(arguments.seeds)]
    )
    lines = [
        f"cpu ({platform.machine()}), torch {torch.__version__}: {len(real)} real photos, {len(pools[1])} composites, "
        f"{len(tests)} test photos of {', '.join(arguments.test_sources)}, {arguments.seeds} seeds, "
        f"{arguments.steps} steps at {arguments.resolution} pixels",
        "",
        "| trained on | mean IoU, % (lowest to highest seed) |",
        "|---|---|",
    ]
    lines += [
        f"| {arm} | {x.mean():.2f} ({x.min():.2f} to {x.max():.2f}) |" for arm, x in zip(ARMS, iou.T, strict=True)
    ]
    lines += ["", "| difference, points of IoU | mean | 95 % confidence interval |", "|---|---|---|"]
    for first, second in ((1, 0), (2, 0), (2, 1)):
        difference = iou[:, first] - iou[:, second]
        low, high = stats.t.interval(0.95, len(difference) - 1, difference.mean(), stats.sem(difference))
        names = f"{ARMS[first].removeprefix('and ')} minus {ARMS[second].removeprefix('and ')}"
        lines.append(f"| {names} | {difference.mean():+.2f} | {low:+.2f} to {high:+.2f} |")
    save_table("\n".join(lines), arguments.output / "table.md")


if __name__ == "__main__":
    main()
