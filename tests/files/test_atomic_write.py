import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from aict_hf.errors import InputError
from aict_hf.files.atomic_write import atomic_file, atomic_folder


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "photo.png"
    with atomic_file(path) as partial:
        assert partial.suffix == ".png"
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    umask = os.umask(0o022)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [path]


def write_half(manager, path):
    with manager(path) as partial:
        (partial / "half" if partial.is_dir() else partial).write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("manager", [atomic_file, atomic_folder])
def test_an_interruption_leaves_what_was_there(tmp_path, manager):
    with pytest.raises(KeyboardInterrupt):
        write_half(manager, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_and_replaces_nothing(tmp_path):
    with atomic_folder(tmp_path / "deep" / "out") as partial:
        (partial / "file").write_text("x")
    assert (tmp_path / "deep" / "out" / "file").read_text() == "x"
    with pytest.raises(InputError, match="exists already"), atomic_folder(tmp_path / "deep" / "out"):
        pass


@pytest.mark.parametrize("manager", [atomic_file, atomic_folder])
def test_unwritable_places_are_named(tmp_path, manager):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/out: cannot be written"), manager(tmp_path / "file" / "out"):
        pass


def write(manager, path):
    with manager(path) as partial:
        if partial.is_dir():
            (partial / "photos").mkdir()
            (partial / "weights").touch(0o600)  # as safetensors creates its files
        else:
            partial.unlink()
            partial.touch(0o600)


@pytest.mark.parametrize("manager", [atomic_file, atomic_folder])
def test_threads_neither_change_nor_miss_the_umask(tmp_path, monkeypatch, manager):
    """Reading the umask means setting it, and between the two calls another thread reads the wrong one."""
    umask = os.umask
    meeting = threading.Barrier(2)

    def interleaved_umask(mask):
        before = umask(mask)
        with suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=2)
        return before

    original = umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", interleaved_umask)
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(write, [manager] * 2, [tmp_path / "a", tmp_path / "b"]))
        assert umask(0o027) == 0o027
    finally:
        umask(original)
    written = [*tmp_path.iterdir(), *tmp_path.glob("*/*")]
    modes = {path.name: path.stat().st_mode & 0o777 for path in written}
    top = 0o640 if manager is atomic_file else 0o750
    inside = {"photos": 0o750, "weights": 0o640} if manager is atomic_folder else {}
    assert modes == {"a": top, "b": top, **inside}
