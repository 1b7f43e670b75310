"""Find photos in folders, pair them with their masks by name, and find the files that tables and lists name."""

import filecmp
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import InputError

MASK_ENDINGS = ("_mask", "-mask", ".mask")
# Folders that file managers, disk stations and archives fill with copies and previews.
TOOL_FOLDERS = frozenset(
    {"__macosx", "__pycache__", "@eadir", "@tmp", "@recycle", "@__thumb", "#recycle", "#snapshot"}
    | {"$recycle.bin", "system volume information", "lost+found"}
)
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
# Formats in Pillow's registry that hold measurements, films or programs, or that Pillow cannot decode by itself.
_NO_PHOTOS = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})


@dataclass(frozen=True)
class FoundPhotos:
    """The photos of a folder and its subfolders.

    Attributes:
        folder: the folder that was searched.
        files: the photos, in order of path.
        left_out: what else the folder holds, as one phrase with counts, or "".
    """

    folder: Path
    files: list[Path]
    left_out: str

    def relative(self, path: Path) -> Path:
        """A photo's path relative to the folder."""
        return path.relative_to(self.folder)


def photo_suffixes(formats: Iterable[str] | None = None) -> frozenset[str]:
    """File name extensions, in lower case, of the photos that Pillow reads with the plugins that are loaded.

    Args:
        formats: Pillow's names of formats to stay within; all if left out.
    Examples:
        >>> {".jpg", ".jfif", ".tga"} <= photo_suffixes()
        True
        >>> sorted(photo_suffixes(["PNG"]))
        ['.apng', '.png']
    """
    by_suffix = Image.registered_extensions()  # loads the plugins
    # Cameras' MPO files begin with a JPEG, and Pillow opens them as one.
    readable = {*Image.OPEN, "MPO"} - _NO_PHOTOS if formats is None else {*formats}
    if "JPEG" in readable:
        readable.add("MPO")
    return frozenset(suffix for suffix, name in by_suffix.items() if name in readable)


def find_photos(
    folder: Path,
    *,
    without: Sequence[Path] = (),
    not_counted: Iterable[str] = (),
    formats: Iterable[str] | None = None,
) -> FoundPhotos:
    """Find the photos in a folder and its subfolders.

    A photo is a file with an extension of a format that Pillow reads. Hidden files and folders, and folders in which
    systems and tools keep copies (`__MACOSX`, `@eaDir`, `.ipynb_checkpoints`), are left out. Links to folders are
    followed, each folder once.

    Args:
        folder: the folder to search.
        without: folders inside it that are not searched.
        not_counted: extensions of other files that belong there, such as `.txt`: `left_out` does not count them.
        formats: as for `photo_suffixes`.
    Raises:
        InputError: if the folder, or one inside it, cannot be read.
    Examples:
        >>> [path.as_posix() for path in find_photos(Path("cutouts")).files][:2]
        ['cutouts/bird/1.png', 'cutouts/bird/3.png']
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give a folder of images")
    suffixes = photo_suffixes(formats)
    passed = {_identity(path) for path in without if path.is_dir()}
    seen = {_identity(folder)}
    files: list[Path] = []
    hidden, tools, others = 0, Counter[str](), Counter[str]()

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        inside = []
        for name in sorted(folders):
            path = Path(place, name)
            if is_clutter(name):
                tools[name] += 1
            elif (identity := _identity(path)) not in seen | passed:
                seen.add(identity)
                inside.append(name)
        folders[:] = inside
        for name in names:
            path = Path(place, name)
            suffix = path.suffix.lower()
            if name.lower() in SYSTEM_FILES:
                continue
            if is_clutter(name):
                hidden += suffix in suffixes
            elif suffix in suffixes:
                files.append(path)
            elif suffix not in not_counted:
                others[suffix or "no extension"] += 1
    parts = [f"{hidden} hidden {'image' if hidden == 1 else 'images'}"] if hidden else []
    if tools:
        parts.append(f"{_amount(tools.total(), 'folder')} of tools ({', '.join(sorted(tools))})")
    if others:
        kinds = ", ".join(f"{suffix} {count}" for suffix, count in sorted(others.items()))
        parts.append(f"{_amount(others.total(), 'file')} of other kinds ({kinds})")
    return FoundPhotos(folder, sorted(files), " and ".join(parts))


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or one in which systems and tools keep copies.

    Examples:
        >>> is_clutter("._photo.png"), is_clutter("@eaDir"), is_clutter("photo.png")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in TOOL_FOLDERS | SYSTEM_FILES


def name_key(name: str) -> str:
    """A name in composed Unicode and lower case: equal for names that macOS and Windows take for the same.

    Examples:
        >>> name_key("Cafe\\u0301") == name_key("caf\\u00e9")
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def pair_masks(photos: FoundPhotos, masks: FoundPhotos | None = None) -> dict[Path, list[Path]]:
    """Find the masks of photos by name.

    The mask of `day/photo.jpg` is `day/photo.png` in the folder of masks, or `day/photo_mask.png` (also `-mask`,
    `.mask`). As in iHarmony4, the mask's name may also lack the last number of the photo's name: the mask of
    `a0002_1_4.jpg` is `a0002_1.png`, unless this is the name of another photo. Case and Unicode composition may differ.
    If masks lie beside the photos, only `photo_mask.png` is a mask. No file is its own mask, nor is a copy of it.

    Args:
        photos: the photos.
        masks: the masks; None if they lie beside the photos. It may also be the same folder.
    Returns:
        for each photo the files that may be its mask: exactly one if the names are clear. Photos that turn out to be
        masks of others are not in it.
    """
    beside = masks is None or _identity(masks.folder) == _identity(photos.folder)
    given = photos if masks is None else masks
    by_key: dict[tuple[str, str], list[Path]] = {}
    for path in given.files:
        by_key.setdefault(_key(given.relative(path), path.stem), []).append(path)
    stems = {_key(photos.relative(photo), photo.stem) for photo in photos.files}
    pairs: dict[Path, list[Path]] = {}
    for photo in photos.files:
        relative = photos.relative(photo)
        base, _, number = photo.stem.rpartition("_")
        names = [photo.stem + ending for ending in MASK_ENDINGS]
        if not beside:
            names = [photo.stem, *names]
            if number.isdigit() and _key(relative, base) not in stems:
                names.append(base)
        pairs[photo] = []
        for name in names:
            candidates = [mask for mask in by_key.get(_key(relative, name), ()) if not _is_copy(mask, photo)]
            exact = [mask for mask in candidates if given.relative(mask).with_suffix("") == relative.with_name(name)]
            if exact or candidates:
                pairs[photo] = exact or candidates
                break
    used = {found[0] for found in pairs.values() if len(found) == 1}
    for photo, found in list(pairs.items()):
        itself = by_key.get(_key(photos.relative(photo), photo.stem), ())
        if photo in used or (not found and any(mask in used and _is_copy(mask, photo) for mask in itself)):
            del pairs[photo]
    return pairs


class NamedFiles:
    """The files of a folder by the names that tables and lists give them.

    Names may have the backslashes of Windows, and another case or Unicode composition than the file, if only one file
    fits.

    Args:
        folder: the folder that names are relative to.
    Examples:
        >>> NamedFiles(Path(".")).find("CUTOUTS\\\\kite\\\\0.png").as_posix()
        'cutouts/kite/0.png'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str) -> Path | None:
        """The file of a name, or None."""
        if (self.folder / name).is_file():
            return self.folder / name
        path = self.folder
        for part in Path(name.replace("\\", "/")).parts:
            if (path / part).exists():
                path /= part
                continue
            if path not in self._listed:
                by_key = self._listed[path] = {}
                for child in path.iterdir() if path.is_dir() else ():
                    by_key.setdefault(name_key(child.name), []).append(child)
            found = self._listed[path].get(name_key(part), [])
            if len(found) != 1:
                return None
            [path] = found
        return path if path.is_file() else None


def check_outside(output: Path, folder: Path) -> None:
    """Check that a folder of results, which need not exist, lies outside a folder of inputs.

    Raises:
        InputError: if it is that folder, or lies in it.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{output}: lies in {folder}, where the next run would read the results as inputs; choose a folder "
            "outside of it"
        )


def _key(relative: Path, stem: str) -> tuple[str, str]:
    """What a photo and its mask have in common: the subfolder, and a name without extension."""
    return name_key(relative.parent.as_posix()), name_key(stem)


def _is_copy(mask: Path, photo: Path) -> bool:
    """Whether a file is the photo itself, or has the same content."""
    try:
        if mask.samefile(photo):
            return True
        return photo.stat().st_size > 0 and filecmp.cmp(mask, photo, shallow=False)
    except OSError:  # reading the files says why
        return False


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _amount(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


__all__ = [
    "FoundPhotos",
    "NamedFiles",
    "check_outside",
    "find_photos",
    "is_clutter",
    "name_key",
    "pair_masks",
    "photo_suffixes",
]
