"""Train a network on photos that are augmented as they are loaded: where the transform goes in a training loop.

    python examples/train_with_transform.py instances.json photos/ --cutouts cutouts/ --epochs 5 --workers 4

The network is a toy that marks which pixels belong to any object; put your own in its place. The workers paste and
harmonize, each with its own copy of AICT on the CPU. Needs `pip install "aict_hf[augment]"`.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from aict_hf.augment.foregrounds import ForegroundBank
from aict_hf.augment.formats.coco import read_coco
from aict_hf.augment.transform import HarmonizedCopyPaste


class Photos(Dataset):
    """Samples as `HarmonizedCopyPaste` takes them."""

    def __init__(self, dataset):
        self.images = dataset.images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index].sample()


class Batches:
    """Augments the samples of a batch together, then makes tensors of one size of them."""

    def __init__(self, transform, size):
        self.transform, self.size = transform, size

    def __call__(self, samples):
        images, targets = [], []
        for sample in self.transform(samples):
            image = torch.from_numpy(sample["image"]).permute(2, 0, 1)[None] / 255
            objects = torch.from_numpy(sample["masks"].any(axis=0))[None, None].float()
            images.append(F.interpolate(image, (self.size, self.size), mode="bilinear", antialias=True))
            targets.append(F.interpolate(objects, (self.size, self.size)))
        return torch.cat(images), torch.cat(targets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="COCO's JSON")
    parser.add_argument("image_folder", type=Path)
    parser.add_argument("--cutouts", type=Path, help="what to paste; the dataset's own objects if left out")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    dataset = read_coco(arguments.annotations, arguments.image_folder)
    labels = {name: key for key, name in dataset.category_names.items()}
    if arguments.cutouts:
        bank = ForegroundBank.from_folder(arguments.cutouts)
        labels = dict.fromkeys(bank.categories, 0) | labels  # new categories: this network does not tell them apart
    else:
        bank = ForegroundBank.from_dataset(dataset)
    transform = HarmonizedCopyPaste(bank, labels, probability=0.8, strengths=(0.5, 1.0), seed=arguments.seed)
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
        transform.set_epoch(epoch)  # before the workers start: other objects in every epoch
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
