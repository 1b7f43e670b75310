"""Train a network on photos that are augmented while they are loaded.

    python examples/train_with_transform.py instances.json photos/ --cutouts cutouts/ --epochs 5 --workers 4

The script shows where the transform goes in a training loop. The network is a toy that predicts which pixels belong to
an object; replace it with your own. The workers paste and harmonize, each with its own copy of AICT on the CPU. Needs
`pip install "aict_hf[augment]"`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from aict_hf.augment.annotations import AnnotatedDataset
from aict_hf.augment.cutouts import CutoutBank
from aict_hf.augment.formats.coco import read_coco
from aict_hf.augment.options import CopyPasteOptions
from aict_hf.augment.transform import HarmonizedCopyPaste


class Photos(Dataset):
    """The samples of a dataset, as `HarmonizedCopyPaste` takes them."""

    def __init__(self, dataset: AnnotatedDataset):
        self.images = dataset.images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.images[index].sample()


class Batches:
    """Augments the samples of a batch together, then resizes them to square tensors."""

    def __init__(self, transform: HarmonizedCopyPaste, size: int):
        self.transform, self.size = transform, size

    def __call__(self, samples: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        images, targets = [], []
        for sample in self.transform(samples):
            image = torch.from_numpy(sample["image"]).permute(2, 0, 1)[None] / 255
            objects = torch.from_numpy(sample["masks"].any(axis=0))[None, None].float()
            images.append(F.interpolate(image, (self.size, self.size), mode="bilinear", antialias=True))
            targets.append(F.interpolate(objects, (self.size, self.size)))
        return torch.cat(images), torch.cat(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="the JSON file in COCO's format")
    parser.add_argument("image_folder", type=Path, help="the folder of its images")
    parser.add_argument("--cutouts", type=Path, help="folder of cut-outs; the dataset's own objects if left out")
    parser.add_argument("--epochs", type=int, default=2, help="passes over the dataset")
    parser.add_argument("--batch_size", type=int, default=4, help="photos per batch")
    parser.add_argument("--size", type=int, default=128, help="side of the network's input, in pixels")
    parser.add_argument("--workers", type=int, default=0, help="processes that load and augment")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    dataset = read_coco(arguments.annotations, arguments.image_folder)
    labels = {name: key for key, name in dataset.category_names.items()}
    if arguments.cutouts:
        bank = CutoutBank.from_folder(arguments.cutouts)
        labels = dict.fromkeys(bank.categories, 0) | labels  # the network does not tell categories apart
    else:
        bank = CutoutBank.from_dataset(dataset)
    options = CopyPasteOptions(probability=0.8, strengths=(0.5, 1.0), seed=arguments.seed)
    transform = HarmonizedCopyPaste(bank, labels, options)
    loader = DataLoader(
        Photos(dataset),
        arguments.batch_size,
        shuffle=True,
        num_workers=arguments.workers,
        collate_fn=Batches(transform, arguments.size),
    )

    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 1)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for epoch in range(arguments.epochs):
        transform.set_epoch(epoch)  # before the workers start, so that each epoch pastes other objects
        total = 0.0
        for images, targets in loader:
            loss = F.binary_cross_entropy_with_logits(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        print(f"epoch {epoch}: loss {total / len(dataset.images):.4f}", flush=True)


if __name__ == "__main__":
    main()
