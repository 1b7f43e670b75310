"""How well a checkpoint's disharmony tells composites from the photos they were made of.

    python benchmarks/disharmony_roc.py --data_dir POOL [POOL ...] --photos training/splits/in_domain.txt \
        training/splits/out_of_domain.txt --output out/disharmony

For each list: every photo and one synthetic composite of it are scored; the area under the ROC curve says how often the
composite's disharmony is the larger one (0.5: a coin). Rows by amount of change: composites of that fMSE against all
photos. A table and a picture with both curves and both distributions come out.
"""

import argparse
import platform
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from measuring import save_table
from torchmetrics.functional.classification import binary_auroc, binary_roc
from tqdm import tqdm

from aict_hf import Harmonizer
from aict_hf.data.metrics import photo_metrics
from aict_hf.data.photos import synthetic_sample
from aict_hf.files.photo_pools import photos_named_in, read_photo_pool

mpl.use("agg")
from matplotlib import pyplot as plt

CHANGES = {"25 to 200": (25, 200), "200 to 1000": (200, 1000), "over 1000": (1000, np.inf), "all": (0, np.inf)}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data_dir", nargs="+", type=Path, required=True)
parser.add_argument("--photos", nargs="+", type=Path, required=True, help="lists of photos, one name a line")
parser.add_argument("--model", help="bundled name, folder or Hub repository; the default checkpoint if left out")
parser.add_argument("--output", type=Path, required=True)
arguments = parser.parse_args()

pool = read_photo_pool(arguments.data_dir)
harmonizer = Harmonizer.from_pretrained(arguments.model)


def disharmony(image: np.ndarray, mask: np.ndarray) -> float:
    [luts] = harmonizer.predict(image, mask)
    return luts.disharmony()


def area(right: np.ndarray, wrong: np.ndarray) -> float:
    scores = torch.from_numpy(np.concatenate([right, wrong]))
    return binary_auroc(scores, torch.tensor([0] * len(right) + [1] * len(wrong))).item()


lines = [
    f"cpu ({platform.machine()}), torch {torch.__version__}",
    "",
    "| photos | change (fMSE) | composites | area under the ROC curve | median disharmony, photos / composites |",
    "|---|---|---|---|---|",
]
figure, (curves, spread) = plt.subplots(1, 2, figsize=(9, 3.6), dpi=110, layout="constrained")
for path in arguments.photos:
    photos = photos_named_in(path, pool)
    right, wrong, change = [], [], []
    for index in tqdm(range(len(photos)), path.stem, unit="photo"):
        sample = synthetic_sample(photos, index)
        if sample is None:
            continue
        change.append(photo_metrics(sample.composite, sample.real, sample.mask).fmse)
        right.append(disharmony(sample.real, sample.mask))
        wrong.append(disharmony(sample.composite, sample.mask))
    right, wrong, change = map(np.array, (right, wrong, change))
    for name, (least, most) in CHANGES.items():
        chosen = wrong[(change >= least) & (change < most)]
        if len(chosen):
            medians = f"{np.median(right):.1f} / {np.median(chosen):.1f}"
            lines.append(f"| {path.stem} | {name} | {len(chosen)} | {area(right, chosen):.3f} | {medians} |")
    scores = torch.from_numpy(np.concatenate([right, wrong]))
    false, true, _ = binary_roc(scores, torch.tensor([0] * len(right) + [1] * len(wrong)))
    [curve] = curves.plot(false, true, label=f"{path.stem}: {area(right, wrong):.2f}")
    for values, style in ((right, "--"), (wrong, "-")):
        spread.plot(np.sort(values), np.linspace(0, 1, len(values)), style, color=curve.get_color())
curves.plot([0, 1], [0, 1], ":", color="gray")
curves.set(xlabel="photos taken for composites", ylabel="composites found")
curves.legend(loc="lower right")
spread.set(xlabel="disharmony (CIEDE2000)", ylabel="share below", xlim=(0, 25))
spread.set_title("photos dashed, composites solid", fontsize=9)
arguments.output.mkdir(parents=True, exist_ok=True)
figure.savefig(arguments.output / "roc.png")
save_table("\n".join(lines), arguments.output / "table.md")
