"""Files and folders that appear under their names only when they are complete."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, with its suffix, that takes its place when the block ends without an error.

    Raises:
        InputError: if the file cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=".aict-", suffix=path.suffix.lower(), dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o666 & ~_umask())  # temporary files are private
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without an error.

    Raises:
        InputError: if `path` exists and is not an empty folder, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already; choose a folder that does not, or empty it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".aict-", dir=path.parent))
        try:
            yield partial
            for file in partial.rglob("*"):
                file.chmod((0o777 if file.is_dir() else 0o666) & ~_umask())
            partial.chmod(0o777 & ~_umask())
            partial.replace(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def writable_folder(path: Path) -> None:
    """Make a folder, if it is not there, and try whether files can be made in it, before long work that ends there.

    Raises:
        InputError: if it cannot be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _umask() -> int:
    umask = os.umask(0)  # there is no call that only reads it
    os.umask(umask)
    return umask


__all__ = ["atomic_file", "atomic_folder", "writable_folder"]
