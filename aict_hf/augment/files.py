"""Augment a dataset on the disk with harmonized copy-paste. A run can be resumed.

Images are augmented in blocks. The files of a block appear one by one under their final names. Once all are written, a
record of the block appears in `OUT/.parts`, and a later run skips the block. Copy number c is the result of
`HarmonizedCopyPaste` in epoch c. The results depend only on the settings, not on the number of workers. Do not run two
processes on one output folder.
"""

import io
import json
import shutil
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..errors import InputError, one_line
from ..files.atomic_write import atomic_file
from ..files.images import OUTPUT_FORMATS
from ..files.photo_folders import check_outside
from ..harmonize.run_record import file_stamp
from ..pretrained import checkpoint_location
from .annotations import AnnotatedDataset
from .cutouts import CutoutBank
from .fields import has_segmentation
from .formats.coco import read_coco, write_coco
from .formats.hugging_face import read_hf, shard_suffix, write_imagefolder_metadata, write_parquet, write_webdataset
from .formats.yolo import read_yolo, write_yolo_config, write_yolo_labels, yolo_classes, yolo_label_path
from .options import AugmentJob, DatasetFormat
from .transform import HarmonizedCopyPaste

_WRITTEN = set(OUTPUT_FORMATS) - {".avif", ".jp2"}  # `datasets` does not find the former in shards and folders
IMAGE_FOLDERS = {"coco": "images", "yolo": "images/train", "imagefolder": "train"}
SHEET_IMAGES, SHEET_COLUMNS, SHEET_HEIGHT = 12, 4, 300
ORIGINAL_COLOR, PASTED_COLOR = (0, 200, 255), (255, 120, 0)


@dataclass
class AugmentReport:
    """Result of a job.

    Attributes:
        written: images in the output folder.
        earlier: images that an earlier run of the same job had already processed.
        dropped: objects that were left out because of `max_disharmony`.
        failures: one line for each image that failed.
        warnings: one line for each warning, for example about a cut-out that cannot be read.
    """

    written: int = 0
    earlier: int = 0
    dropped: int = 0
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class AugmentRun:
    """A job in progress.

    Call `start`, then `make_block` for each number that it returns (in any process), then `finish`.

    Args:
        job: the job to do.
    Attributes:
        warnings: one line for each thing that the readers of source and cut-outs left out.
    Raises:
        InputError: if the source or the cut-outs cannot be read.
    """

    def __init__(self, job: AugmentJob):
        self.job = job.with_absolute_paths()
        self.output = Path(self.job.output)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            self.dataset, source_format = _open_source(job)
            self.format = job.format or source_format
            bank = _open_cutouts(job, self.dataset)
        self._bank = bank
        self.warnings = list(dict.fromkeys(str(warning.message) for warning in caught))
        known = {name: key for key, name in self.dataset.unique_names.items()}
        for key, name in self.dataset.category_names.items():
            if self.dataset.unique_names[key] != name:
                self.warnings.append(
                    f"{job.source}: two categories are called {name!r}; cut-outs of that name get the id "
                    f"{known[name]}, not {key}"
                )
        new = [name for name in bank.categories if name not in known]
        for name in new:
            alike = [other for other in known if other.strip().casefold() == name.strip().casefold()]
            if alike:
                self.warnings.append(f"the cut-outs' category {name!r} is a new one beside the dataset's {alike[0]!r}")
        known |= {name: max(known.values(), default=-1) + 1 + number for number, name in enumerate(new)}
        added = [{"id": known[name], "name": name} for name in new]
        self.dataset = AnnotatedDataset(
            self.dataset.images, [*self.dataset.categories, *added], dict(self.dataset.extra)
        )
        self.transform = HarmonizedCopyPaste(bank, known, job.options, checkpoint=job.checkpoint, device=job.device)

    @property
    def copies(self) -> Sequence[int]:
        """Numbers of the copies to write; 0 stands for the originals."""
        return range(0 if self.job.keep_originals else 1, self.job.copies + 1)

    @property
    def total(self) -> int:
        """Number of images to write."""
        return len(self.copies) * len(self.dataset.images)

    @cached_property
    def names(self) -> list[str]:
        """Names of the images, in order."""
        return [image.name for image in self.dataset.images]

    def start(self) -> list[int]:
        """Create the output folder, or resume an interrupted run of the same job in it.

        Returns:
            the numbers of the blocks that are still to be made.
        Raises:
            InputError: if the folder has other content or lies in a folder of inputs, two outputs would have the same
                name, an output would be outside the folder, or inputs have changed since the run was finished.
        """
        for searched in self._searched:
            check_outside(self.output, searched)
        for name in self.names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise InputError(f"{name}: its copies would be written outside {self.output}; rename the image")
        taken: set[str] = set()
        for copy in self.copies if self.job.keep_originals else (1,):  # names of copies cannot clash with each other
            for name in self.names if self.format != "webdataset" else ():
                path = self._output_name(name, copy)
                path = str(PurePosixPath(path).with_suffix("")) if self.format == "yolo" else path
                if path in taken:
                    raise InputError(f"two images would be written as {path}; rename one")
                if copy < 2:
                    taken.add(path)
        settings = self._settings
        marker = self.output / "augment.json"
        # A run that was killed while writing its first file leaves only a temporary file.
        if self.output.exists() and (
            not self.output.is_dir() or any(not path.name.startswith(".aict-") for path in self.output.iterdir())
        ):
            try:
                before = json.loads(marker.read_text())
                changed = [name for name in settings if before["settings"].get(name) != settings[name]]
                finished = before["finished"]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                raise InputError(
                    f"{self.output}: exists and is not an interrupted run; choose another folder"
                ) from None
            if changed:
                raise InputError(
                    f"{self.output}: was begun with other settings ({', '.join(changed)}); choose another folder"
                )
            if finished:
                if before.get("images") != self._stamps(range(len(self.names))):
                    raise InputError(f"{self.output}: was finished with other image files; choose another folder")
                return []
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            if not marker.exists():  # written first, so that the run can be resumed
                self._mark(None)
            for folder in (".parts", IMAGE_FOLDERS.get(self.format, "data")):
                (self.output / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.output}: the folder cannot be created ({error.strerror})") from error
        return [number for number in range(self._blocks) if not self._is_made(number)]

    def make_block(self, number: int) -> int:
        """Make and write one block.

        Returns:
            the number of images in the block, including those that failed.
        """
        copy = self.copies[number // self._blocks_of_a_copy]
        indices = self._indices(number)
        stamps = self._stamps(indices)
        made: list[tuple[dict[str, Any], bytes]] = []
        failures: list[str] = []
        dropped = 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            batch_size = self.job.options.batch_size
            for start in range(0, len(indices), batch_size):
                dropped += self._make_batch(indices[start : start + batch_size], copy, made, failures)
        if self.format in IMAGE_FOLDERS:
            classes = yolo_classes(self.dataset)
            for record, content in made:
                path = self.output / IMAGE_FOLDERS[self.format] / record["file_name"]
                _write(path, content)
                if self.format == "yolo":
                    label = yolo_label_path(path)
                    label.parent.mkdir(parents=True, exist_ok=True)
                    write_yolo_labels(label, record, classes, only_boxes=self.dataset.only_boxes)
        elif made:
            write_shard, suffix = (
                (write_parquet, ".parquet") if self.format == "parquet" else (write_webdataset, ".tar")
            )
            name = f"train-{number:05d}-of-{self._blocks:05d}{suffix}"
            write_shard(self.output / "data" / name, self.dataset, made)
        records = [record for record, _ in made] if self.format in ("coco", "imagefolder") else []
        rectangles = 0
        if self.format == "yolo" and not self.dataset.only_boxes:
            objects = [annotation for record, _ in made for annotation in record["annotations"]]
            rectangles = sum(not has_segmentation(annotation) for annotation in objects)
        part = {
            "images": records,
            "stamps": stamps,
            "rectangles": rectangles,
            "written": len(made),
            "dropped": dropped,
            "failures": failures,
            "warnings": sorted({str(warning.message) for warning in caught}),
        }
        _write(self._part(number), json.dumps(part).encode())
        return len(indices)

    def finish(self) -> AugmentReport:
        """Write the files that describe the whole dataset, once all blocks are made.

        If images failed, the records of the blocks are kept, and another run tries the blocks of these images again.
        """
        marker = json.loads((self.output / "augment.json").read_text())
        if marker["finished"]:
            shutil.rmtree(self.output / ".parts", ignore_errors=True)
            return AugmentReport(**marker["finished"])
        parts = [json.loads(self._part(number).read_text()) for number in range(self._blocks)]
        records = [record for part in parts for record in part["images"]]
        if self.format == "coco":
            write_coco(self.output / "annotations.json", self.dataset, records)
        elif self.format == "yolo":
            write_yolo_config(self.output / "data.yaml", self.dataset, IMAGE_FOLDERS["yolo"])
        elif self.format == "imagefolder":
            write_imagefolder_metadata(self.output / "train" / "metadata.jsonl", self.dataset, records)
        self._write_contact_sheet()
        rectangles = sum(part["rectangles"] for part in parts)
        if rectangles:
            self.warnings.append(
                f"{rectangles} objects have only a box; their polygons are its corners, because YOLO's tools do not "
                "read boxes beside polygons"
            )
        report = AugmentReport(
            sum(part["written"] for part in parts),
            dropped=sum(part["dropped"] for part in parts),
            failures=[failure for part in parts for failure in part["failures"]],
            warnings=[*self.warnings, *sorted({warning for part in parts for warning in part["warnings"]})],
        )
        for left in self.output.rglob(".aict-*"):  # temporary files of killed workers
            left.unlink()
        if not report.failures:
            self._mark(asdict(report))
            shutil.rmtree(self.output / ".parts", ignore_errors=True)
        return report

    def count_images(self, blocks: Sequence[int]) -> int:
        """Return the number of images in these blocks."""
        return sum(len(self._indices(number)) for number in blocks)

    def _indices(self, number: int) -> range:
        """Indices of a block's images."""
        first = number % self._blocks_of_a_copy * self.job.block_size
        return range(first, min(first + self.job.block_size, len(self.names)))

    @property
    def _blocks_of_a_copy(self) -> int:
        return -(-len(self.names) // self.job.block_size)

    @property
    def _blocks(self) -> int:
        return self._blocks_of_a_copy * len(self.copies)

    def _output_name(self, name: str, copy: int) -> str:
        """Return the file name of a copy.

        The suffix becomes .png if the original's format cannot be written, or if shards would hold several formats.
        """
        path = PurePosixPath(name)
        if copy == 0 and not self._mixed:
            return name
        suffix = path.suffix if path.suffix.lower() in _WRITTEN and not self._mixed else ".png"
        stem = f"{path.stem}_aug{copy}" if copy else path.stem
        return str(path.with_name(stem + suffix))

    @cached_property
    def _mixed(self) -> bool:
        """Whether webdataset shards would hold images of several formats, which `datasets` cannot read."""
        kinds = {shard_suffix(name) for name in self.names}
        return self.format == "webdataset" and (len(kinds) > 1 or not kinds <= _WRITTEN)

    def _is_made(self, number: int) -> bool:
        """Whether a block has been made, without failures and from the images as they are now."""
        try:
            part = json.loads(self._part(number).read_text())
        except FileNotFoundError:
            return False
        return not part["failures"] and part["stamps"] == self._stamps(self._indices(number))

    def _stamps(self, indices: Sequence[int]) -> int | None:
        """A checksum of sizes and times of image files; None for images without files of their own."""
        if not isinstance(self.dataset.images, list):
            return None
        return _file_stamps(image.content for image in (self.dataset.images[index] for index in indices))

    @property
    def _searched(self) -> list[Path]:
        """Folders whose files are all inputs, whatever their names."""
        folders = {Path(name) for name in self.job.cutouts if Path(name).is_dir()}
        source = Path(self.job.source)
        if isinstance(self.dataset.images, list):
            if source.suffix != ".json":  # COCO's files are read by their names
                folders |= {image.content.parent for image in self.dataset.images if isinstance(image.content, Path)}
        elif source.is_dir():
            folders.add(source)
        return sorted(folders)

    def _part(self, number: int) -> Path:
        return self.output / ".parts" / f"{number:06d}.json"

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Everything that the results depend on, one value per name, as it is stored in the output folder."""
        settings = asdict(self.job)
        settings = {**settings.pop("options"), **settings}
        del settings["output"]
        settings["format"], settings["names"] = self.format, zlib.crc32("\n".join(self.names).encode())
        if isinstance(self.dataset.images, list):  # in memory; other datasets may be too large to read each image
            annotations = json.dumps([image.annotations for image in self.dataset.images], default=str)
            settings["annotations"] = zlib.crc32(annotations.encode())
        else:
            settings["annotations"] = getattr(self.dataset.images, "checksum", None)
        sources = self._bank.sources
        settings["foregrounds"] = zlib.crc32("\n".join(f"{s.category}\0{s.name}" for s in sources).encode())
        settings["foreground_files"] = _file_stamps(file for s in sources for file in (s.image, s.mask))
        if not self.job.options.naive:
            checkpoint = Path(checkpoint_location(self.job.checkpoint))
            settings["weights"] = _file_stamps(sorted(checkpoint.glob("*.safetensors")))
        return json.loads(json.dumps(settings))

    def _mark(self, finished: dict[str, Any] | None) -> None:
        content: dict[str, Any] = {"settings": self._settings, "finished": finished}
        if finished is not None:
            content["images"] = self._stamps(range(len(self.names)))
        _write(self.output / "augment.json", json.dumps(content, indent=1).encode())

    def _make_batch(
        self, indices: Sequence[int], copy: int, made: list[tuple[dict[str, Any], bytes]], failures: list[str]
    ) -> int:
        """Augment a batch of images.

        Args:
            indices: the images.
            copy: number of the copy.
            made: gets a COCO record and the encoded file of each image.
            failures: gets one line for each image that failed.
        Returns:
            the number of objects that were left out because of their disharmony.
        """
        dropped = 0
        images, befores = [], []
        for index in indices:
            try:
                image = self.dataset.images[index]
                befores.append(image.sample())
                images.append((index, image))
            except Exception as error:  # fields may hold anything; the other images must not fail because of it
                failures.append(str(error) if isinstance(error, InputError) else _failure(self.names[index], error))
                continue
            empty = int((~befores[-1]["masks"].any(axis=(1, 2))).sum())
            if empty and copy:
                warnings.warn(f"{self.names[index]}: {empty} objects have an empty mask and are left out", stacklevel=2)
        try:
            afters = befores if copy == 0 else self.transform(befores, epoch=copy)
        except Exception:  # one sample failed; the others must not fail because of it
            afters = [self._augmented_or_error(before, copy) for before in befores]
        for (index, image), before, after in zip(images, befores, afters, strict=True):
            if isinstance(after, Exception):
                failures.append(_failure(image.name, after))
                continue
            dropped += len(after.get("dropped", ()))
            name = self._output_name(image.name, copy)
            if copy == 0:
                after = after | {"origins": np.arange(len(before["masks"])), "cutouts": []}
                content = image.content if isinstance(image.content, bytes) else image.content.read_bytes()
                if PurePosixPath(name).suffix != PurePosixPath(image.name).suffix:
                    content = _encoded(before["image"], name)
            else:
                content = _encoded(after["image"], name)
                if copy == 1 and index < SHEET_IMAGES:
                    _write(self.output / ".parts" / f"sheet-{index:02d}.png", _encoded(_outlined(after), ".png"))
            height, width = before["image"].shape[:2]
            record = {**image.record, "file_name": name, "width": width, "height": height}
            if copy:
                record["augmented_from"] = image.name
            try:
                record["annotations"] = image.updated_annotations(before, after)
            except Exception as error:  # as above
                failures.append(_failure(image.name, error))
                continue
            made.append((record, content))
        return dropped

    def _augmented_or_error(self, before: Mapping[str, Any], copy: int) -> Any:
        """Return the augmented sample, or the exception if it fails."""
        try:
            return self.transform(before, epoch=copy)
        except Exception as error:
            return error

    def _write_contact_sheet(self) -> None:
        """Write an overview of the first augmented images, if there are any."""
        pictures = [Image.open(path) for path in sorted((self.output / ".parts").glob("sheet-*.png"))]
        rows = [pictures[start : start + SHEET_COLUMNS] for start in range(0, len(pictures), SHEET_COLUMNS)]
        width = max((sum(picture.width for picture in row) for row in rows), default=0)
        if not width:
            return
        sheet = Image.new("RGB", (width, SHEET_HEIGHT * len(rows)), "white")
        for place, row in enumerate(rows):
            left = 0
            for picture in row:
                sheet.paste(picture, (left, place * SHEET_HEIGHT))
                left += picture.width
        _write(self.output / "contact_sheet.png", _encoded(np.asarray(sheet), ".png"))


def augment_files(job: AugmentJob, *, workers: int = 1, progress: bool = False) -> AugmentReport:
    """Do a job on this machine. Call it again with the same job to resume an interrupted run.

    Args:
        job: the job to do.
        workers: number of processes, each with its own network and one thread; 1 uses the current process. Processes
            are spawned, so a script that asks for more than one needs `if __name__ == "__main__":`.
        progress: show a progress bar.
    Raises:
        InputError: if the job cannot be done, or a worker dies.
    """
    run = AugmentRun(job)
    todo = run.start()
    earlier = run.total - run.count_images(todo)
    with tqdm(total=run.total, initial=earlier, unit="image", disable=not progress) as bar:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in workers: another order of summation changes the last bit
        try:
            if workers == 1:
                for number in todo:
                    bar.update(run.make_block(number))
            elif todo:
                loader = DataLoader(
                    _Blocks(job, todo),
                    batch_size=None,
                    num_workers=min(workers, len(todo)),
                    multiprocessing_context="spawn",
                )
                for count in loader:
                    if isinstance(count, InputError):
                        raise count
                    bar.update(count)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise InputError(
                f"a worker died ({one_line(error)[:200]}); run again to resume, with fewer workers if memory ran out"
            ) from error
        finally:
            torch.set_num_threads(threads)
    return replace(run.finish(), earlier=earlier)


class _Blocks(Dataset):
    """Makes blocks in the workers of a DataLoader; an item is the number of images in its block.

    Input errors are returned, not raised, because a DataLoader would wrap them in a traceback.
    """

    def __init__(self, job: AugmentJob, numbers: Sequence[int]):
        self.job, self.numbers = job, numbers
        self._run: AugmentRun | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> int | InputError:
        try:
            if self._run is None:
                self._run = AugmentRun(self.job)
            return self._run.make_block(self.numbers[index])
        except InputError as error:
            return error


def _open_source(job: AugmentJob) -> tuple[AnnotatedDataset, DatasetFormat]:
    """Read the dataset; return it with its format."""
    path = Path(job.source)
    if path.suffix.lower() == ".json":
        if job.split != AugmentJob.split:
            raise InputError(f"{path}: a COCO file has no splits (split is {job.split!r}); give the file of the split")
        return read_coco(path, job.images), "coco"
    if job.images is not None:
        raise InputError(f"{path}: a folder of images goes with a COCO JSON file; leave the folder out")
    if path.suffix in (".yaml", ".yml") or (path.is_dir() and [*path.glob("*.yaml"), *path.glob("*.yml")]):
        return read_yolo(path, job.split), "yolo"
    if not path.exists() and job.source.count("/") != 1:  # not a dataset's name on the Hub either
        raise InputError(f"{path}: no such file or folder; expected a COCO JSON file, a YOLO or a `datasets` folder")
    if path.is_file() and path.suffix != ".parquet":
        raise InputError(f"{path}: is not a dataset; expected a COCO JSON file, a YOLO or a `datasets` folder")
    is_parquet = path.suffix == ".parquet" or (path.is_dir() and any(path.rglob("[!.]*.parquet")))
    return read_hf(path, job.split), "parquet" if is_parquet or not path.exists() else "imagefolder"


def _open_cutouts(job: AugmentJob, dataset: AnnotatedDataset) -> CutoutBank:
    """Collect the cut-outs of a job; without any, the objects of its own dataset."""
    paths = [Path(name) for name in job.cutouts]
    annotated = any(path.suffix.lower() == ".json" for path in paths)
    if job.category is not None and (annotated or not paths):
        raise InputError("category names cut-outs from folders and pools; annotated objects have categories")
    if job.cutout_images is not None and not annotated:
        raise InputError("the folder of the cut-outs' images goes with a COCO JSON file of them; leave it out")
    if annotated and len(paths) > 1:
        raise InputError("cut-outs from a COCO file cannot be mixed with others; give only the file")
    if annotated or not paths:
        objects = read_coco(paths[0], job.cutout_images) if annotated else dataset
        try:
            return CutoutBank.from_dataset(objects)
        except InputError as error:
            raise InputError(f"{paths[0] if annotated else job.source}: {error}") from error
    sources = []
    for path in paths:
        if not path.is_dir():
            missing = "" if path.exists() else "; it does not exist"
            raise InputError(f"{path}: is neither a folder of cut-outs nor a COCO JSON file{missing}")
        if (path / "metadata.csv").is_file():
            sources += CutoutBank.from_pool([path], category=job.category).sources
        else:
            sources += CutoutBank.from_folder(path, category=job.category).sources
    return CutoutBank(sources)


def _file_stamps(files: Iterable[Any]) -> int:
    """A checksum of sizes and times of files. What is not a path does not count."""
    stamps = []
    for file in files:
        if isinstance(file, Path) and (stamp := file_stamp(file)):
            stamps.append((file.name, *stamp))
    return zlib.crc32(repr(stamps).encode())


def _failure(name: str, error: Exception) -> str:
    return f"{name}: {one_line(error) or type(error).__name__}"


def _encoded(image: np.ndarray, name: str) -> bytes:
    """Encode an RGB image (H, W, 3) in the format of a file name or suffix. JPEG and WebP have quality 95."""
    buffer = io.BytesIO()
    format_name = OUTPUT_FORMATS[(PurePosixPath(name).suffix or name).lower()]
    Image.fromarray(image).save(buffer, format_name, **({"quality": 95} if format_name in ("JPEG", "WEBP") else {}))
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        partial.write_bytes(content)


def _outlined(sample: Mapping[str, Any]) -> np.ndarray:
    """Return a small picture of a sample with its masks outlined; pasted objects have another colour."""
    height, width = sample["image"].shape[:2]
    size = max(1, round(width * SHEET_HEIGHT / height)), SHEET_HEIGHT
    picture = np.array(Image.fromarray(sample["image"]).resize(size, Image.Resampling.LANCZOS))
    for mask, origin in zip(sample["masks"], sample["origins"], strict=True):
        small = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        edge = np.asarray(small.filter(ImageFilter.MaxFilter(3))) > np.asarray(small)
        picture[edge] = PASTED_COLOR if origin < 0 else ORIGINAL_COLOR
    return picture


__all__ = ["AugmentReport", "AugmentRun", "augment_files"]
