"""Exceptions for input that this package cannot use."""

import os
from pathlib import Path


class InputError(ValueError):
    """Bad input. The message says what was expected, what came and what to do, on one line."""


class TooLargeError(InputError):
    """An image over the limit of pixels.

    Attributes:
        path: the file.
        size: its width and height in pixels.
        limit: the limit in megapixels.
    """

    def __init__(self, path: str | os.PathLike, size: tuple[int, int], limit: float) -> None:
        super().__init__(path, size, limit)
        self.path, self.size, self.limit = path, size, limit

    @property
    def problem(self) -> str:
        """What is wrong, without advice."""
        return f"{self.path}: has {self.size[0]} x {self.size[1]} pixels, over the limit of {self.limit:g} megapixels"

    def __str__(self) -> str:
        return f"{self.problem}; raise max_megapixels if you trust the file"


class NothingPastedError(InputError):
    """A cut-out of which nothing shows on the background it was pasted onto.

    Attributes:
        size: the background's width and height in pixels.
        reason: the option that leaves nothing of the cut-out; None if it lies outside the background.
    """

    def __init__(self, size: tuple[int, int], reason: str | None = None) -> None:
        super().__init__(size, reason)
        self.size, self.reason = size, reason

    def __str__(self) -> str:
        if self.reason is not None:
            return self.reason
        return f"the cut-out lies outside the background of {self.size[0]} x {self.size[1]} pixels; move it"


class NoMasksError(InputError):
    """A folder of composites with neither masks nor alpha channels.

    Attributes:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return (
            f"{self.folder}: holds images without alpha channel; give the folder of its masks with --masks, or put "
            "each mask beside its image, as photo_mask.png beside photo.jpg"
        )


class UnpairedError(InputError):
    """A composite of a folder that cannot be harmonized for its name.

    Attributes:
        path: the composite.
        reason: why: it has no mask, several masks, or the output of another composite.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks, which libraries add for the terminal."""
    return " ".join(str(error).split())


__all__ = ["InputError", "NoMasksError", "NothingPastedError", "TooLargeError", "UnpairedError", "one_line"]
