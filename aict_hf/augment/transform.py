"""Copy-paste augmentation with harmonized objects, as a transform for any data pipeline.

    bank = CutoutBank.from_folder("cutouts")
    options = CopyPasteOptions(objects=(1, 3), strengths=(0.7, 1.0), seed=0)
    transform = HarmonizedCopyPaste(bank, {"person": 1, "dog": 2}, options)
    loader = DataLoader(dataset, batch_size=8, num_workers=4, collate_fn=transform)  # one run of the network per batch

Pasted objects do not cover each other. Each object is harmonized against the original photo, so other pasted objects do
not affect it, and all objects of a batch go through the network together.

Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (CVPR 2021).
"""

import math
import os
import sys
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..compose.boxes import mask_box
from ..compose.paste import OPAQUE, paste
from ..compose.placement import draw_placement
from ..errors import InputError
from ..harmonize.harmonizer import Harmonizer
from ..model.image_arrays import rgb_array
from ..model.opened_photo import OpenedPhoto
from .cutouts import Cutout, CutoutBank
from .options import CopyPasteOptions

ATTEMPTS = 10  # cut-outs tried for one object, because some do not fit or cannot be read
BoxFormat = Literal["xyxy", "xywh", "cxcywh"]


class HarmonizedCopyPaste:
    """Paste harmonized objects into samples of instance segmentation and update their annotations.

    Call it with one sample or a list of samples; a list goes through the network together. A sample is a dict:

    - `image`: RGB or gray, as a PIL image, a NumPy array (H, W, C), a tensor (C, H, W) or a `tv_tensors.Image`; uint8,
      uint16 or float in [0, 1]. Gray becomes RGB, alpha is dropped.
    - `masks`: (N, H, W), bool, or numbers that are 0 outside the object.
    - `boxes`: (N, 4), in pixels.
    - `labels`: (N,).
    - `image_id`: a number or text that is unique to the sample. All random draws depend only on the seed, the epoch and
      this id, so the result is the same in any worker and order. (Pixels may differ in the last bit if the network runs
      on another batch.)
    - `area`, `iscrowd`: (N,), optional. Other keys are passed through.

    Masks, boxes and labels are NumPy arrays, torch tensors or `tv_tensors`. The result is a new dict of the same types:

    - Objects under a pasted one lose the covered pixels, and their masks, boxes and areas are recomputed. Objects that
      keep less than `min_visible` of their pixels, and objects with empty masks, are dropped.
    - Pasted objects come last, with `iscrowd` 0. Their masks have the same value as the others.
    - `origins`, int64, (N,): the index of each object in the original sample, -1 for pasted objects.
    - `cutouts`: the names of the pasted cut-outs.
    - `disharmony` and `dropped`, only with `max_disharmony`: the disharmony of each pasted object, and the names of the
      cut-outs that were left out.

    Cut-outs are scaled, so they may be larger than the image. A cut-out that cannot be read is replaced by another one,
    with a warning. An object that finds no free place is left out.

    The transform can be pickled. Each process loads the network when it first needs it. Keep the network on the CPU in
    a DataLoader with workers, unless the workers are spawned.

    Args:
        cutouts: what to paste: a `CutoutBank` or any sequence of `Cutout`.
        labels: the label of each category of the cut-outs, as the samples number them.
        options: how objects are drawn, pasted and harmonized; the defaults of `CopyPasteOptions` if left out.
        checkpoint: name or folder of the network, or a `Harmonizer`; the bundled checkpoint if left out.
        device: where the network runs.
        box_format: "xyxy", "xywh" or "cxcywh", for boxes that do not state their format as `tv_tensors` do.
    Raises:
        ValueError: if there are no cut-outs, a category has no label, or the box format is unknown.

    Examples:
        >>> import numpy as np
        >>> bank = CutoutBank.from_folder("cutouts")
        >>> options = CopyPasteOptions(objects=(1, 1), seed=0)
        >>> transform = HarmonizedCopyPaste(bank, {"bird": 1, "kite": 2}, options)
        >>> nothing = {"masks": np.zeros((0, 40, 56), bool), "boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
        >>> augmented = transform({"image": photo, "image_id": 1, **nothing})
        >>> len(augmented["cutouts"]), augmented["masks"].shape
        (1, (1, 40, 56))
    """

    def __init__(
        self,
        cutouts: Sequence[Cutout],
        labels: Mapping[str, int],
        options: CopyPasteOptions | None = None,
        *,
        checkpoint: str | os.PathLike | Harmonizer | None = None,
        device: torch.device | str = "cpu",
        box_format: BoxFormat = "xyxy",
    ):
        if len(cutouts) == 0:
            raise ValueError("there are no cut-outs to paste; pass at least one")
        if box_format not in get_args(BoxFormat):
            raise ValueError(f"box_format is {box_format!r}; expected one of {', '.join(get_args(BoxFormat))}")
        unknown = set(cutouts.categories) - set(labels) if isinstance(cutouts, CutoutBank) else set()
        if unknown:
            raise ValueError(f"labels lacks {', '.join(sorted(unknown))}, a category of the cut-outs; add it")
        self.cutouts, self.labels, self.options = cutouts, dict(labels), options or CopyPasteOptions()
        self.checkpoint, self.device, self.box_format = checkpoint, device, box_format
        self.epoch = 0
        self._harmonizer: Harmonizer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_harmonizer": None}

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which all random draws depend. Call it before each pass over a DataLoader.

        Workers use the epoch that was set when they started, so with `persistent_workers` they repeat the first one.
        """
        self.epoch = epoch

    @overload
    def __call__(self, samples: Mapping[str, Any], *, epoch: int | None = None) -> dict[str, Any]: ...
    @overload
    def __call__(self, samples: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> list[dict[str, Any]]: ...
    def __call__(self, samples: Any, *, epoch: int | None = None) -> Any:
        """Augment one sample or a list of samples.

        Args:
            samples: one sample or a list of samples, as described above.
            epoch: epoch to use instead of the one that `set_epoch` set.
        Raises:
            ValueError: if a sample lacks a field, or its fields differ in size or have invalid values.
            InputError: if no cut-out can be read, or the checkpoint cannot be loaded.
        """
        if isinstance(samples, Mapping):
            return self([samples], epoch=epoch)[0]
        drawn = []
        for sample in samples:
            try:
                drawn.append(self._draw(sample, self.epoch if epoch is None else epoch))
            except ValueError as error:
                kind = InputError if isinstance(error, InputError) else ValueError
                raise kind(f"sample {sample.get('image_id', '')}: {error}") from error
        self._harmonize([pasted for _, several in drawn for pasted in several])
        return [self._augmented(sample, image, pasted) for sample, (image, pasted) in zip(samples, drawn, strict=True)]

    def _draw(self, sample: Mapping[str, Any], epoch: int) -> tuple[np.ndarray, list["_Pasted"]]:
        """Return the image as an array (H, W, 3), and for each drawn object a copy of the image with it pasted in."""
        for field in ("image", "masks", "boxes", "labels", "image_id"):
            if sample.get(field) is None:
                raise ValueError(f"has no {field}; expected image, masks, boxes, labels and image_id")
        given = sample["image"]
        if isinstance(given, Image.Image) and given.mode.startswith("I;16"):
            raise ValueError("the image is a PIL image of 16 bits, which has no colours; pass a uint16 array (H, W, 3)")
        image = rgb_array(_plain(given)).transpose(1, 2, 0)
        masks, boxes = _masks(sample, image.shape[:2]), _array(sample["boxes"])
        counts = {"masks": len(masks), "boxes": len(boxes), "labels": len(sample["labels"])}
        if len(set(counts.values())) > 1:
            raise ValueError(f"has {', '.join(f'{n} {name}' for name, n in counts.items())}; expected as many of each")
        if len(masks) and (masks.shape[1:] != image.shape[:2] or boxes.shape[1:] != (4,)):
            raise ValueError(
                f"masks have shape {masks.shape}, boxes {boxes.shape}, the image {image.shape[:2]}; "
                "expected masks of its size, and boxes of 4 numbers"
            )
        key = sample["image_id"]
        key = key.item() if isinstance(key, Tensor | np.ndarray | np.generic) else key
        generator = np.random.default_rng([self.options.seed, epoch, zlib.crc32(str(key).encode())])
        pasted: list[_Pasted] = []
        if generator.random() < self.options.probability:
            for _ in range(int(generator.integers(*self.options.objects, endpoint=True))):
                self._paste_one(image, generator, pasted)
        return image, pasted

    def _paste_one(self, image: np.ndarray, generator: np.random.Generator, pasted: list["_Pasted"]) -> None:
        """Draw a cut-out and its place and add it to `pasted`, unless there is no free place."""
        options = self.options
        problem: InputError | None = None
        for _ in range(ATTEMPTS):
            try:
                cutout = self.cutouts[int(generator.integers(len(self.cutouts)))]
            except InputError as error:
                warnings.warn(f"{error}; another cut-out takes its place", stacklevel=5)
                problem = error
                continue
            problem = None
            if cutout.category not in self.labels:
                raise ValueError(f"labels lacks {cutout.category}, the category of {cutout.name}; add it")
            strength = generator.uniform(*options.strengths)
            largest = options.max_scale * max(cutout.alpha.shape) / min(image.shape[:2])
            smallest_size, largest_size = options.size
            if largest < smallest_size:
                continue
            placement = draw_placement(
                generator,
                cutout.alpha.shape,
                image.shape[:2],
                size=(smallest_size, min(largest_size, largest)),
                rotation=options.rotation,
                flip=options.flip,
                avoid=[other.box for other in pasted],
            )
            if placement is None:
                continue
            composite = paste(cutout.rgb, cutout.alpha, image, **vars(placement), feather=options.feather)
            if composite.box is not None:
                pasted.append(_Pasted(composite.image, composite.mask, composite.box, cutout, strength))
                return
        if problem is not None:
            raise InputError(f"none of {ATTEMPTS} cut-outs could be read; {problem}")

    def _harmonize(self, pasted: Sequence["_Pasted"]) -> None:
        """Harmonize the pasted objects, and measure their disharmony if it is limited."""
        options = self.options
        if not pasted or (options.naive and options.max_disharmony is None):
            return
        if isinstance(self.checkpoint, Harmonizer):
            self._harmonizer = self.checkpoint
        elif self._harmonizer is None:
            self._harmonizer = Harmonizer.from_pretrained(self.checkpoint, device=self.device)
        for start in range(0, len(pasted), options.batch_size):
            batch = pasted[start : start + options.batch_size]
            photos = []
            for one in batch:
                rgb = rgb_array(one.image, input_data_format="channels_last")
                photos.append(OpenedPhoto(one.image, rgb, one.mask[None], "channels_last"))
            predicted = self._harmonizer.predict_opened(photos)
            for one, luts in zip(batch, predicted, strict=True):
                if options.max_disharmony is not None:
                    one.disharmony = luts.disharmony()
                if not options.naive:
                    one.image = luts.apply(strength=one.strength)

    def _augmented(self, sample: Mapping[str, Any], image: np.ndarray, drawn: Sequence["_Pasted"]) -> dict[str, Any]:
        """Return the sample with the drawn objects in it, except those above the limit of disharmony."""
        options = self.options
        limit = math.inf if options.max_disharmony is None else options.max_disharmony
        pasted = [one for one in drawn if one.disharmony <= limit]
        result = image.copy()
        owner = np.full(image.shape[:2], -1)
        for index, one in enumerate(pasted):
            touched = one.mask > 0
            result[touched] = one.image[touched]
            owner[one.mask >= OPAQUE] = index
        before = _masks(sample, image.shape[:2])
        whole = before != 0
        visible = whole & (owner < 0) if len(before) else whole
        areas = whole.sum(axis=(1, 2)), visible.sum(axis=(1, 2))
        kept = np.flatnonzero((areas[1] > 0) & (areas[1] >= options.min_visible * areas[0]))
        new = [owner == index for index in range(len(pasted))]
        cut = areas[0][kept] != areas[1][kept]

        boxes = _array(sample["boxes"]).reshape(-1, 4)[kept]
        box_format = _box_format(sample["boxes"], self.box_format)
        updated = [_formatted_box(mask, box_format) for mask in [*visible[kept][cut], *new]]
        boxes[cut] = np.reshape(updated[: cut.sum()], (-1, 4))
        boxes = np.concatenate([boxes, np.reshape(updated[cut.sum() :], (-1, 4)).astype(boxes.dtype)])
        value = before.max(initial=0) or 1
        masks = np.concatenate([before[kept] * visible[kept], np.reshape(new, (-1, *image.shape[:2])) * value])
        labels = _array(sample["labels"])[kept]
        labels = np.concatenate([labels, np.array([self.labels[one.cutout.category] for one in pasted], int)])

        augmented = dict(sample)
        image = result.transpose(2, 0, 1) if isinstance(sample["image"], Tensor) else result
        values = {"image": image, "masks": masks.astype(before.dtype), "boxes": boxes, "labels": labels}
        if sample.get("area") is not None:
            area = _array(sample["area"])[kept]
            area[cut] = areas[1][kept][cut]
            values["area"] = np.concatenate([area, [mask.sum() for mask in new]])
        if sample.get("iscrowd") is not None:
            values["iscrowd"] = np.concatenate([_array(sample["iscrowd"])[kept], np.zeros(len(new))])
        for name, value in values.items():
            augmented[name] = _like(value, sample[name])
        augmented["origins"] = np.concatenate([kept, np.full(len(new), -1)])
        augmented["cutouts"] = [one.cutout.name for one in pasted]
        if options.max_disharmony is not None:
            augmented["disharmony"] = [one.disharmony for one in pasted]
            augmented["dropped"] = [one.cutout.name for one in drawn if one.disharmony > limit]
        return augmented


@dataclass
class _Pasted:
    """One object pasted into a copy of the image.

    Attributes:
        image: the composite, or the harmonized image once the network has run, shape (H, W, 3).
        mask: its foreground mask, uint8, shape (H, W).
        box: left, top, right and bottom of the object.
        cutout: what was pasted.
        strength: strength of the harmonization, 0 to 1.
        disharmony: mean CIEDE2000, if it was measured.
    """

    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]
    cutout: Cutout
    strength: float
    disharmony: float = 0.0


def _plain(value: Any) -> Any:
    """Turn a tensor of a subclass (tv_tensors) into a plain tensor."""
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else value


def _array(value: Any) -> np.ndarray:
    return _plain(value).cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _masks(sample: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Return the masks, shape (N, H, W), even if the sample has no objects and an empty list of masks."""
    masks = _array(sample["masks"])
    return masks if masks.size or masks.ndim == 3 else np.zeros((0, *shape), bool)


def _like(array: np.ndarray, given: Any) -> Any:
    """Convert an array to the type of `given`."""
    if isinstance(given, Image.Image):
        return Image.fromarray(array)
    if not isinstance(given, Tensor):
        given = np.asarray(given)
        return array.astype(given.dtype, copy=False) if given.size else array  # an empty list has no dtype to keep
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(given.device, given.dtype)
    vision = sys.modules.get("torchvision.tv_tensors")  # loaded if a sample uses its types
    if vision is not None and isinstance(given, vision.TVTensor):
        return vision.wrap(tensor, like=given)
    return tensor


def _box_format(boxes: Any, default: BoxFormat) -> BoxFormat:
    """Return the format of boxes; `tv_tensors.BoundingBoxes` state their own."""
    stated = getattr(boxes, "format", None)
    if stated is None:
        return default
    name = str(getattr(stated, "value", stated)).lower()
    for known in get_args(BoxFormat):
        if name == known:
            return known
    raise ValueError(f"boxes are {name}; expected one of {', '.join(get_args(BoxFormat))}")


def _formatted_box(mask: np.ndarray, box_format: BoxFormat) -> tuple[float, float, float, float]:
    """Return the box around a mask that is not empty."""
    box = mask_box(mask)
    assert box is not None
    left, top, right, bottom = box
    if box_format == "xyxy":
        return box
    if box_format == "xywh":
        return left, top, right - left, bottom - top
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


__all__ = ["BoxFormat", "HarmonizedCopyPaste"]
