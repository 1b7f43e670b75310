"""Folders with the results of other methods for the composites of iHarmony4."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from ..errors import InputError
from ..files.images import upright_size
from ..files.photo_folders import find_photos, name_key
from .photos import Triplet

# What follows a composite's name in the names of its results: nothing (iDIH, DoveNet, DCCF at full size), PCT-Net's two
# scripts, DCCF's script for the refined result.
RESULT_ENDINGS = ("", "_harmonized", "_harm", "_stage3_rgb")
NAMED = 3  # how many files an error names


@dataclass(frozen=True)
class PeerResults:
    """The results of a folder.

    Attributes:
        files: one result for each composite, in the composites' order.
        left_out: images of the folder that are not among them, such as a real photo saved beside each result.
    """

    files: list[Path]
    left_out: list[Path]


def find_results(folder: Path, triplets: Sequence[Triplet], *, endings: Sequence[str] = RESULT_ENDINGS) -> PeerResults:
    """Find the result of each composite in a folder and its subfolders.

    A result has the name of its composite, with any extension of an image, and with one of `endings` after the name:
    the result of `a0002_1_4.jpg` may be `a0002_1_4.png` or `HAdobe5k/a0002_1_4_harmonized.jpg`. Case does not matter.
    If several subsets have a composite of the same name, its result lies in a folder with the name of the subset.

    Args:
        folder: the folder of one method.
        triplets: the composites.
        endings: what may follow a composite's name.
    Raises:
        InputError: if a composite has no result, several, that of another composite, or itself as the result.
    """
    photos = find_photos(folder).files
    if not photos:
        raise InputError(f"{folder}: holds no images; expected the results of a method, named as their composites")
    by_stem: dict[str, list[Path]] = {}
    for path in photos:
        by_stem.setdefault(name_key(path.stem), []).append(path)
    composites = Counter(name_key(triplet.composite.stem) for triplet in triplets)
    files: list[Path] = []
    missing: list[str] = []
    composite_of: dict[Path, Triplet] = {}
    for triplet in triplets:
        stem = triplet.composite.stem
        found = [path for ending in endings for path in by_stem.get(name_key(stem + ending), ())]
        if composites[name_key(stem)] > 1:
            subset = name_key(triplet.subset)
            in_subset = [path for path in found if subset in map(name_key, path.relative_to(folder).parts[:-1])]
            found = in_subset or found
        if not found:
            missing.append(triplet.composite.name)
            continue
        if len(found) > 1:
            raise InputError(
                f"{found[0]} and {found[1]} may both be the result of {triplet.composite.name}; keep one of them"
            )
        [path] = found
        if path.resolve() == triplet.composite.resolve():
            raise InputError(f"{path}: is the composite itself; give a folder that holds results alone")
        other = composite_of.setdefault(path, triplet)
        if other is not triplet:
            raise InputError(
                f"{path}: may be the result of {other.composite} and of {triplet.composite}; put the results of each "
                "subset into a folder with its name"
            )
        files.append(path)
    left_out = sorted(set(photos) - set(composite_of))
    if missing:
        instead = f"; it holds {first_few([path.name for path in left_out])} instead" if left_out else ""
        after = " or ".join(ending or "nothing" for ending in endings)
        raise InputError(
            f"{folder}: lacks the results of {len(missing)} of {len(triplets)} composites, "
            f"{first_few(missing)}{instead}; a result has its composite's name, with {after} after it "
            "(--results_ending names another ending)"
        )
    return PeerResults(files, left_out)


def check_result_sizes(files: Sequence[Path], triplets: Sequence[Triplet], *, side: int | None) -> None:
    """Compare the sizes of results with what they are measured against, without decoding them.

    Files without a readable header pass; decoding finds them later.

    Args:
        files: results.
        triplets: their composites.
        side: side of the square in pixels that composites are resized to, None if they keep their size.
    Raises:
        InputError: if a result has another size.
    """

    def problem(pair: tuple[Path, Triplet]) -> str | None:
        path, triplet = pair
        expected = upright_size(triplet.composite) if side is None else (side, side)
        size = upright_size(path)
        if size is None or expected is None or size == expected:
            return None
        return f"{path.name} is {size[0]} x {size[1]}, expected {expected[0]} x {expected[1]}"

    with ThreadPool(8) as pool:
        wrong = list(filter(None, pool.imap(problem, zip(files, triplets, strict=True), chunksize=64)))
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(files)} results have another size than the photos they are compared with: "
            f"{first_few(wrong, separator='; ')}; choose --resolution as the results were made, or give --resize to "
            "scale them"
        )


def first_few(names: Sequence[str], *, separator: str = ", ") -> str:
    """The first names of a list, and how many more there are.

    Examples:
        >>> first_few(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return separator.join(names[:NAMED]) + more


__all__ = ["RESULT_ENDINGS", "PeerResults", "check_result_sizes", "find_results", "first_few"]
