"""Files and folders that appear under their names only when they are complete.

>>> with atomic_file(Path("report.txt")) as partial:
...     _ = partial.write_text("complete")
...     Path("report.txt").exists()
False
>>> Path("report.txt").read_text()
'complete'
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends without an error.

    The temporary file is in the folder of `path`, has the same suffix, and is removed after an error. The result has
    the permissions of a newly created file.

    Raises:
        InputError: if the file cannot be written.
    """
    partial = path.parent / f".aict-{secrets.token_hex(8)}{path.suffix.lower()}"
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            mode = os.fstat(descriptor).st_mode & 0o777
            os.close(descriptor)
            yield partial
            partial.chmod(mode)  # some libraries, such as safetensors, replace the file by a private one
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an error.

    The temporary folder is in the parent folder of `path` and is removed after an error. The result and all that it
    contains have the permissions of newly created files and folders.

    Raises:
        InputError: if `path` exists and is not an empty folder, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already; choose a folder that does not, or empty it")
    partial = path.parent / f".aict-{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(0o777)
        try:
            mode = partial.stat().st_mode & 0o777
            yield partial
            for file in partial.rglob("*"):  # some libraries, such as safetensors, write private files
                file.chmod(mode if file.is_dir() else mode & 0o666)
            partial.replace(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def writable_folder(path: Path) -> None:
    """Create a folder if it does not exist, and check that files can be created in it.

    Long jobs call this before they start, so that a wrong output folder is reported at once.

    Raises:
        InputError: if the folder cannot be created, or files cannot be created in it.
    Examples:
        >>> writable_folder(Path("out/photos"))
        >>> Path("out/photos").is_dir()
        True
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


__all__ = ["atomic_file", "atomic_folder", "writable_folder"]
