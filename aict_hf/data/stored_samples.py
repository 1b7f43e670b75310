"""Training samples that are made once and read many times.

Making samples takes a third of the training time of a small network.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..errors import InputError, one_line
from ..files.atomic_write import atomic_file, writable_folder
from .training_samples import SampleOptions, ShuffledOrder, TrainingSamples, sample_item, varied

SHARD = 1024  # samples in a file: 118 MB at 128 pixels


def store_samples(
    samples: TrainingSamples, folder: str | os.PathLike, *, count: int, settings: dict, workers: int = 2
) -> list[str]:
    """Write the first samples as shards, and keep the shards that are already there.

    The number of a sample determines its content, so the same call resumes an interrupted one.

    Args:
        samples: at least `count` samples, all of one square size. Leave flips and `varied` to `StoredSamples`.
        folder: gets `samples-00000.npy` and so on, and `samples.json` with the settings.
        count: number of samples to write.
        settings: everything the samples depend on, as JSON values. They must equal the settings in the folder.
        workers: number of processes that make samples.
    Returns:
        one line for each file that could not be read.
    Raises:
        InputError: if the folder has other settings, or cannot be written.
    """
    folder = Path(folder)
    writable_folder(folder)
    noted = folder / "samples.json"
    if noted.exists():
        begun = json.loads(noted.read_text(encoding="utf-8"))
        differing = sorted(name for name in settings.keys() | begun.keys() if settings.get(name) != begun.get(name))
        if differing:
            name = differing[0]
            reason = f"holds samples made with {name} {begun.get(name)}, now it is {settings.get(name)}"
            raise InputError(f"{folder}: {reason}; choose another folder")
    else:
        with atomic_file(noted) as partial:
            partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    paths = [folder / f"samples-{number:05}.npy" for number in range(-(-count // SHARD))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    broken: dict[str, None] = {}
    wanted = [i for number in missing for i in range(number * SHARD, min(count, (number + 1) * SHARD))]
    loader = DataLoader(
        samples,
        batch_size=None,
        sampler=wanted,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),  # leaves the caller's random numbers untouched
    )
    # Here and not in the workers: in a forked process, OpenCV waits forever for the threads that the fork left behind.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        made = iter(tqdm(loader, "making samples", total=len(wanted), unit="sample", disable=not wanted))
        for number in missing:
            items = [next(made) for _ in range(number * SHARD, min(count, (number + 1) * SHARD))]
            broken.update(dict.fromkeys(line for item in items for line in item["broken"]))
            layers = (np.concatenate([item[name] for name in ("composite", "real", "mask")]) for item in items)
            with atomic_file(paths[number]) as partial:
                np.save(partial, np.stack([layer.transpose(1, 2, 0) for layer in layers]))
    finally:
        cv2.setNumThreads(threads)
    return list(broken)


class StoredSamples(Dataset):
    """Samples written by `store_samples`, read many times in a new order each time.

    Flips, harmonious samples, weaker and joint changes are drawn anew at every use. Items are those of
    `TrainingSamples`. The number of a sample determines its content.

    Args:
        folder: shards `samples-*.npy`, uint8 (N, side, side, 7): composite, real photo and mask.
        options: only `flip`, `weaker_change`, `joint_change` and `recoloring.harmonious_probability` are used.
        seed: of the order and of every random choice.
        length: number of samples.
        start: number of the first sample.
    Raises:
        InputError: if the folder has no shards, a shard cannot be read, or shards have different shapes.
    """

    def __init__(
        self, folder: str | os.PathLike, options: SampleOptions, *, seed: int, length: int, start: int = 0
    ) -> None:
        self.options, self.seed, self.length, self.start = options, seed, length, start
        self._shards: list[np.ndarray] = []
        for path in sorted(Path(folder).glob("samples-*.npy")):
            try:
                shard = np.load(path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise InputError(f"{path}: cannot be read as samples ({one_line(error)})") from error
            side = self._shards[0].shape[1] if self._shards else shard.shape[1] if shard.ndim == 4 else 0
            if shard.dtype != np.uint8 or shard.ndim != 4 or shard.shape[1:] != (side, side, 7):
                found = f"{shard.dtype} {shard.shape}"
                raise InputError(f"{path}: holds {found}; expected uint8 (N, side, side, 7), one side in all shards")
            self._shards.append(shard)
        if not self._shards:
            raise InputError(f"{folder}: holds no samples-*.npy; make them with store_samples")
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self._order = ShuffledOrder(int(self._ends[-1]), seed=seed)

    @property
    def resolution(self) -> int:
        """Side of the stored samples, in pixels."""
        return int(self._shards[0].shape[1])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        number = self.start + index
        stored = self._order[number]
        shard = int(np.searchsorted(self._ends, stored, side="right"))
        pixels = self._shards[shard][stored - int(self._ends[shard])]  # counted from the shard's end
        rng = np.random.default_rng([self.seed, number])
        if rng.random() < self.options.flip:
            pixels = pixels[:, ::-1]
        composite, real, mask = (np.ascontiguousarray(pixels[..., c]) for c in (slice(3), slice(3, 6), 6))
        if rng.random() < self.options.recoloring.harmonious_probability:
            composite = real
        return sample_item(varied((composite, mask, real), rng, self.options), f"stored sample {stored}", [])


__all__ = ["StoredSamples", "store_samples"]
