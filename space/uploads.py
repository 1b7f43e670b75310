"""Uploads and results: limits, checks and messages. All files are deleted after an hour."""

import contextlib
import functools
import logging
import os
import re
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from aict_hf.errors import InputError, TooLargeError
from aict_hf.files.images import MAX_JPEG_SIDE, ImageFile, not_kept, read_image, what_is_lost, write_image
from aict_hf.files.photo_folders import FoundPhotos, find_photos, is_clutter, photo_suffixes

MAX_MEGAPIXELS = float(os.environ.get("AICT_SPACE_MAX_MEGAPIXELS", "50"))
MAX_FILE_MB = int(os.environ.get("AICT_SPACE_MAX_FILE_MB", "64"))
MAX_BATCH = int(os.environ.get("AICT_SPACE_MAX_BATCH", "40"))  # composites in one batch
MAX_UNPACKED_MB = 4 * MAX_FILE_MB  # of all zips of one batch
MAX_ZIP_ENTRIES = 4 * MAX_BATCH  # without those of systems and tools
MAX_ZIP_DEPTH = 32  # folders inside folders
LIFETIME = 3600  # seconds that uploads and results are kept
# Pillow's names. Of the others, EPS runs a program; ICO is decoded while it is opened, before its size is checked; QOI
# is decoded in Python, which takes minutes for a large photo; HEIC is decoded by a library outside of Pillow; the rest
# hold icons, textures, measurements or films, or are hardly used for photos.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "BMP", "GIF", "PPM", "TGA")
FORMAT_WORDS = "JPEG, PNG, WebP, TIFF, AVIF, JPEG 2000, BMP, GIF, PPM or TGA"
PREVIEW_SIDE = 1280  # pixels of small copies
PREVIEWS = "previews"  # name of the queue of quick events, which do not wait for slow ones

log = logging.getLogger("aict_space")


def photo_upload(label: str, elem_id: str) -> gr.Image:
    """An input for a photo or mask. Handlers get the path of the uploaded file.

    gr.Image would open the file first, and a file that it cannot open would end in an error without a message. This is
    not a subclass, because Gradio writes a stub file next to the source of each subclass. To hide the input, hide its
    container: Gradio builds a component anew to change its properties, which would undo the change made here.
    """
    image = gr.Image(
        label=label, elem_id=elem_id, type="filepath", image_mode=None, sources=["upload", "clipboard"], height=260
    )
    image.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    return image


def visitors_errors(handler: Callable) -> Callable:
    """Turn a handler's exceptions into messages on the page.

    Bad input is described, without folders of this machine. Other exceptions go to the log, and visitors see a
    general message.
    """

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except ValueError as error:
            raise gr.Error(in_words(error), title="Please check", print_exception=False) from None
        except Exception as error:
            log.exception("a handler failed")
            raise gr.Error(
                "Something went wrong here, and not with your files. Please try again, perhaps with a smaller photo.",
                title="Sorry",
                print_exception=False,
            ) from error

    return wrapped


def warn(name: str, notes: list[str]) -> None:
    """Show notes on the page as warnings that begin with a name."""
    for note in notes:
        gr.Warning(without_folders(f"{name}: {note}."), duration=30)


def in_words(error: ValueError) -> str:
    """The message of bad input for visitors, without folders of this machine."""
    return without_folders(f"{error.problem}; scale it down" if isinstance(error, TooLargeError) else str(error))


def without_folders(message: str) -> str:
    """A message without the folders of file names."""
    for folder in (get_upload_folder(), tempfile.gettempdir(), Path.cwd(), Path(__file__).parent):
        message = re.sub(rf"{re.escape(str(folder))}(?:/[^/\s]+)*/(?=[^/\s])", "", message)
    return re.sub(r"(?<![\w.])/(?:[\w.+@-]+/)+", "", message)


def uploaded(file: Any, what: str) -> Path:
    """The path of an upload, from a component or the API.

    Raises:
        ValueError: if nothing was uploaded, or the path is not one of an upload.
    """
    path = file.get("path") if isinstance(file, dict) else getattr(file, "path", file)
    if not path:
        raise ValueError(f"There is no {what} yet: upload one, or start from an example.")
    try:
        resolved = Path(path).resolve()
    except (TypeError, ValueError) as error:  # not a text, or a text with a null character
        raise ValueError(f"The {what} is not an upload: upload the file itself.") from error
    allowed = (Path(get_upload_folder()).resolve(), Path(__file__).resolve().parent / "examples")
    if not any(resolved.is_relative_to(folder) for folder in allowed):
        raise ValueError(f"The {what} is not an upload: upload the file itself.")
    if resolved.is_dir():
        raise ValueError(f"The {what} is a folder: upload a file.")
    if not resolved.is_file():
        raise ValueError(f"The {what} was deleted, as all files are after an hour: upload it again.")
    return resolved


def read_photo(file: Any, what: str = "photo") -> ImageFile:
    """Decode an upload.

    Raises:
        ValueError: if the upload is missing, no image, or too large. The message says what it was uploaded as, because
            pasted pictures all have one name.
    """
    path = uploaded(file, what)
    if path.stat().st_size > MAX_FILE_MB * 2**20:
        raise InputError(f"The {what} {path}: is larger than {MAX_FILE_MB} MB; scale it down")
    try:
        return read_image(path, max_megapixels=MAX_MEGAPIXELS, formats=FORMATS)
    except TooLargeError:
        raise
    except InputError as error:
        raise InputError(f"The {what} {error}") from error


def new_file(name: str) -> Path:
    """A path for a result. Gradio deletes the file when it is older than `LIFETIME`."""
    for folder in _upload_folder().glob("result-*"):  # Gradio empties old folders and leaves them
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > LIFETIME:
                folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="result-", dir=_upload_folder())) / name


def shown(photo: ImageFile, name: str) -> str:
    """A full-size picture for browsers, which show neither TIFF nor 16 bits: JPEG, or PNG if JPEG is too small."""
    pixels = _eight_bit(photo.pixels)
    pixels = pixels.convert("L" if pixels.mode in ("L", "LA") else "RGB")  # a gray profile needs gray pixels
    path = new_file(name + (".jpg" if max(pixels.size) <= MAX_JPEG_SIDE else ".png"))
    write_image(path, ImageFile(pixels, photo.icc_profile))
    return str(path)


def preview(photo: ImageFile, side: int = PREVIEW_SIDE) -> Image.Image:
    """A small RGB or RGBA copy."""
    pixels = _eight_bit(photo.pixels)
    small = pixels.convert("RGBA" if pixels.mode in ("LA", "RGBA") else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return small


def save_result(photo: ImageFile, stem: str, format: str) -> tuple[Path, list[str]]:
    """Encode a result as "PNG" or "JPEG", with its metadata, under a name made of `stem`.

    Returns:
        the file, and notes on what it does not keep.
    """
    pixels, lost = photo.pixels, []
    if format == "JPEG" and isinstance(pixels, Image.Image) and pixels.mode in ("RGBA", "LA"):
        lost = ["the transparency"] if pixels.getchannel("A").getextrema() != (255, 255) else []
        photo = replace(photo, pixels=pixels.convert("RGB"))
    elif format == "JPEG" and isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        lost = ["the transparency"] if pixels[..., -1].min() < 65535 else []
        photo = replace(photo, pixels=np.ascontiguousarray(pixels[..., :-1].squeeze()))
    path = new_file(safe_name(stem) + (".png" if format == "PNG" else ".jpg"))
    write_image(path, photo)
    return path, not_kept([*lost, *what_is_lost(path, photo)])


def safe_name(stem: str) -> str:
    """A file name's stem that is safe on every system."""
    return re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "photo"


def unpack(
    archive: Path, folder: Path, *, max_bytes: int = MAX_UNPACKED_MB * 2**20, max_entries: int = MAX_ZIP_ENTRIES
) -> FoundPhotos:
    """Unpack the images of a zip with their subfolders, and find them.

    Entries that are not images become empty files, so that `find_photos` counts them.

    Raises:
        InputError: if the file is not a zip, is encrypted or uses a rare compression, holds a link or a path that leads
            outside, holds no images, holds more than `max_entries`, or unpacks to more than `max_bytes`. Bytes are
            counted while unpacking; the sizes that the zip states do not matter.
    """
    total, suffixes = 0, photo_suffixes(FORMATS)
    too_many = f"files; all zips of a batch may hold {MAX_ZIP_ENTRIES} together"
    if (entries := _stated_entries(archive)) > 3 * max_entries:  # before reading them: a million take seconds
        raise InputError(f"{archive.name}: holds {entries} {too_many}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [(info, _entry_path(info)) for info in opened.infolist()]
            infos = [(info, path) for info, path in infos if path.parts and not _is_folder(info)]
            wanted = {path for _, path in infos if not any(map(is_clutter, path.parts))}
            if len(wanted) > max_entries:
                raise InputError(f"{archive.name}: holds {len(wanted)} {too_many}")
            for entry, path in infos:
                if ".." in path.parts or path.is_absolute() or re.match(r"[A-Za-z]:", str(path)):
                    raise InputError(f"{archive.name}: holds a path that leads outside of it; pack it again")
                if (entry.external_attr >> 16) & 0o170000 == 0o120000:
                    raise InputError(f"{archive.name}: holds a symbolic link; pack the files themselves")
                if entry.flag_bits & 1:
                    raise InputError(f"{archive.name}: is encrypted; pack it without a password")
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # zipfile unpacks other compressions at once, regardless of their size
                    raise InputError(f"{archive.name}: is compressed in a rare way; pack it as an ordinary zip")
                if len(path.parts) > MAX_ZIP_DEPTH or max(len(os.fsencode(part)) for part in path.parts) > 255:
                    raise InputError(f"{archive.name}: holds a path that is too long; rename or move the file")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if path not in wanted or path.suffix.lower() not in suffixes:
                    target.touch()
                    continue
                if target.exists():
                    raise InputError(f"{archive.name}: holds {path} twice; rename one")
                with opened.open(entry) as source, target.open("wb") as sink:
                    while block := source.read(2**20):
                        total += len(block)
                        if total > max_bytes:
                            raise InputError(
                                f"{archive.name}: all zips of a batch may unpack to {MAX_UNPACKED_MB} MB together, and "
                                "this one exceeds that; send less"
                            )
                        sink.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, IndexError) as error:
        raise InputError(f"{archive.name}: is not a readable zip file; pack it again") from error
    found = find_photos(folder, formats=FORMATS)
    if not found.files:
        words = f" but {found.left_out}" if found.left_out else ""
        advice = "; unpack the zips inside it" if any(path.suffix.lower() == ".zip" for _, path in infos) else ""
        raise InputError(f"{archive.name}: holds no images{words}; expected {FORMAT_WORDS}{advice}")
    return found


def _entry_path(entry: zipfile.ZipInfo) -> PurePosixPath:
    """The path of an entry. Windows may write backslashes, and macOS UTF-8 without saying so."""
    name = entry.filename
    if not entry.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return PurePosixPath(name.replace("\\", "/"))


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith(("/", "\\")) or (entry.file_size == 0 and bool(entry.external_attr & 0x10))


def _stated_entries(archive: Path) -> int:
    """The number of entries in a zip's end record; 65535 stands for more."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - 22 - 65535))
        tail = file.read()
    place = tail.rfind(b"PK\5\6")
    return struct.unpack_from("<H", tail, place + 10)[0] if 0 <= place <= len(tail) - 22 else 0


def working_folder() -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder for one job."""
    return tempfile.TemporaryDirectory(prefix="job-", dir=_upload_folder())


def _eight_bit(pixels: Image.Image | np.ndarray) -> Image.Image:
    return pixels if isinstance(pixels, Image.Image) else Image.fromarray((pixels >> 8).astype(np.uint8))


def _upload_folder() -> Path:
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder
