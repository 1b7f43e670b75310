"""Read EXIF blocks without the tags that describe the old file, and add them to TIFF files of other libraries."""

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

# Tags for the pixel layout of a TIFF file, which hold only for the file that was read, and blocks that are not EXIF.
TIFF_LAYOUT_TAGS = frozenset(
    (
        *range(254, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 330,
        *range(332, 335), *range(336, 342), 347, *range(529, 533), 700, 33723, 34377, ExifTags.Base.InterColorProfile,
    )
)  # fmt: skip

UNDEFINED = 7  # type of a tag whose bytes only its reader understands
MAX_SIZE = 2**32 - 2**24  # bytes of a TIFF file; offsets inside the new directory have 32 bits


def exif_block(image: Image.Image) -> bytes | None:
    """The EXIF block of a photo without orientation and TIFF layout, or None if it is missing or damaged.

    The orientation is removed from `image` as well. Turn the photo upright before calling this function.
    """
    try:
        exif = image.getexif()
        exif.pop(ExifTags.Base.Orientation, None)
        kept = Image.Exif()  # the Exif object of a BigTIFF would be written in the BigTIFF layout
        for tag in exif:
            if tag not in TIFF_LAYOUT_TAGS:
                kept[tag] = _directory(exif, tag) or exif[tag]
        return kept.tobytes() if len(kept) else None
    except Exception:  # many types; a photo with a damaged block can still be read
        return None


def _directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    """The tags of a directory in an EXIF block, without pointers into the old block; empty for another tag."""
    return {name: value for name, value in exif.get_ifd(tag).items() if name != ExifTags.IFD.Interop}


def append_exif(path: Path, exif: bytes, blocks: Mapping[int, bytes] | None = None) -> None:
    """Add EXIF tags to a TIFF or BigTIFF file, by a new directory at its end with the old and the new entries.

    libvips does not write EXIF to TIFF, tifffile does not write nested directories, and Pillow fails on most files.

    Args:
        path: the TIFF.
        exif: an EXIF block; may be empty.
        blocks: content of further tags, such as XMP.
    Raises:
        ValueError: if the file is larger than `MAX_SIZE`, or a big-endian BigTIFF.
    Source: TIFF 6.0, section 2; the BigTIFF specification.
    """
    tags = Image.Exif()
    tags.load(exif)
    with path.open("r+b") as file:
        head = file.read(4)
        order = "<" if head[:2] == b"II" else ">"
        big = head == b"II+\0"
        if head == b"MM\0+":
            raise ValueError(f"{path}: is a big-endian BigTIFF; EXIF can be added to the other kinds of TIFF only")
        count, offset, entry = ("Q", "Q", 20) if big else ("H", "L", 12)
        pointer = 8 if big else 4  # position of the offset of the first directory in the header

        def number(code: str, at: int) -> int:
            file.seek(at)
            return struct.unpack(order + code, file.read(struct.calcsize(order + code)))[0]

        number_of_entries = number(count, number(offset, pointer))
        entries = file.read(entry * number_of_entries)

        start = file.seek(0, os.SEEK_END)
        if start > MAX_SIZE:
            raise ValueError(f"{path}: is too large to add EXIF to; expected at most {MAX_SIZE} bytes, it has {start}")
        start += file.write(b"\0" * (start % 2))  # directories start at even offsets
        added = TiffImagePlugin.ImageFileDirectory_v2((head + bytes(12)) if big else (head + bytes(4)))
        for tag in tags:
            added[tag] = _directory(tags, tag) or tags[tag]
        for tag, content in (blocks or {}).items():
            added[tag] = content
            added.tagtype[tag] = TiffImagePlugin.TiffTags.BYTE if tag == ExifTags.Base.XMLPacket else UNDEFINED
        block = added.tobytes(start)
        start += file.write(block + b"\0" * (len(block) % 2))

        first = struct.calcsize(order + count)
        entries = block[first : first + entry * len(added)] + entries
        by_tag = {entries[i : i + 2]: entries[i : i + entry] for i in range(0, len(entries), entry)}
        ordered = sorted(by_tag.values(), key=lambda item: struct.unpack(f"{order}H", item[:2]))
        file.write(struct.pack(order + count, len(ordered)) + b"".join(ordered) + struct.pack(order + offset, 0))
        file.seek(pointer)
        file.write(struct.pack(order + offset, start))


__all__ = ["MAX_SIZE", "append_exif", "exif_block"]
