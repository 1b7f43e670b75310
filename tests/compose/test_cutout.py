"""rembg's own code, with tiny models that the tests make: the brightest pixels are the object."""

import builtins
import io

import numpy as np
import pytest
from conftest import make_photo, photo_of_a_ball, write_bright_model
from PIL import Image

from aict_hf.compose.cutout import CUT_OUT_MODEL, find_object, open_session
from aict_hf.errors import InputError
from aict_hf.files.images import ImageFile

pytest.importorskip("rembg")

import requests
from rembg.sessions.u2net import U2netSession
from rembg.sessions.u2net_custom import U2netCustomSession


@pytest.fixture
def home(rembg_home):
    """The folder of rembg's models, not there yet."""
    (rembg_home / "u2net.onnx").unlink()
    rembg_home.rmdir()
    return rembg_home


@pytest.fixture
def session(home):
    write_bright_model(home / "u2net.onnx")
    return open_session("u2net")


def test_the_object_is_found_softly(session):
    photo, opacity = photo_of_a_ball()
    mask = find_object(ImageFile(Image.fromarray(photo)), session)
    assert (mask.dtype, mask.shape) == (np.uint8, photo.shape[:2])
    assert np.abs(mask / 255 - opacity).max() < 0.1
    assert ((mask > 20) & (mask < 235)).any()
    [expected] = session.predict(Image.fromarray(photo))
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize("kind", ["gray", "16 bits", "transparent"])
def test_photos_of_any_kind_are_cut_out(session, kind):
    photo, _ = photo_of_a_ball()
    wanted = find_object(ImageFile(Image.fromarray(photo)), session)
    pixels = {
        "gray": Image.fromarray(photo[..., 0]),
        "16 bits": photo.astype(np.uint16) * 257,
        "transparent": Image.fromarray(np.dstack([photo, photo[..., 0]])),
    }[kind]
    assert np.array_equal(find_object(ImageFile(pixels), session), wanted)


def test_a_session_of_ones_own_is_taken(home):
    write_bright_model(home / "mine.onnx", weight=-1.0)
    import rembg

    session = rembg.new_session("u2net_custom", model_path=str(home / "mine.onnx"))
    assert isinstance(session, U2netCustomSession)
    photo, opacity = photo_of_a_ball()
    mask = find_object(ImageFile(Image.fromarray(255 - photo)), session)
    assert np.abs(mask / 255 - opacity).max() < 0.1


def test_a_photo_without_an_object_is_an_error(home):
    write_bright_model(home / "u2net.onnx", weight=0.0)
    with pytest.raises(InputError, match="u2net found no object; try another model, or give a mask"):
        find_object(ImageFile(Image.fromarray(make_photo()[0])), open_session("u2net"))


def test_a_model_that_fails_is_an_error_of_one_line(home):
    write_bright_model(home / "u2net.onnx", channels=4)
    with pytest.raises(InputError, match="u2net cannot find the object") as caught:
        find_object(ImageFile(Image.fromarray(make_photo()[0])), open_session("u2net"))
    assert "\n" not in str(caught.value)


def test_several_masks_are_an_error(session, monkeypatch):
    predict = U2netSession.predict
    monkeypatch.setattr(U2netSession, "predict", lambda *args, **options: 3 * predict(*args, **options))
    with pytest.raises(InputError, match="u2net gives several masks"):
        find_object(ImageFile(Image.fromarray(make_photo()[0])), session)


def test_models_that_need_more_than_a_photo_are_refused_before_a_download(home):
    for name, reason in (
        ("u2nett", "is not a model of rembg"),
        ("sam", "needs points"),
        ("u2net_cloth_seg", "gives several masks"),
        ("u2net_custom", "needs a model file of your own"),
    ):
        with pytest.raises(InputError, match=rf"^{name}: {reason}.*expected one of .*{CUT_OUT_MODEL}, .*u2net, "):
            open_session(name)
    assert not home.exists()


def test_services_that_photos_would_be_sent_to_are_refused(home, monkeypatch):
    monkeypatch.setattr(U2netSession, "is_local", classmethod(lambda cls: False), raising=False)
    with pytest.raises(InputError, match=r"^u2net: sends photos to a server"):
        open_session("u2net")


def test_without_a_network_one_line_says_what_is_missing(home, monkeypatch, capfd):
    def unreachable(url, **_):
        raise requests.ConnectionError("long story", request=requests.Request("GET", url).prepare())

    monkeypatch.setattr(requests, "get", unreachable)
    with pytest.raises(InputError) as caught:
        open_session()
    line = str(caught.value)
    assert line.startswith(f"{CUT_OUT_MODEL}.onnx is not in {home}")
    assert "cannot be downloaded (no connection to https://github.com/" in line
    assert "connect to the internet once" in line
    assert capfd.readouterr() == ("", "")
    assert not [path for path in home.rglob("*") if path.is_file()]


class Answer(requests.Response):
    """An answer of a server."""

    def __init__(self, url, content, status=200):
        super().__init__()
        self.url, self.status_code, self.raw = url, status, io.BytesIO(content)


def test_a_damaged_download_leaves_nothing_that_is_trusted_later(home, monkeypatch):
    monkeypatch.delenv("MODEL_CHECKSUM_DISABLED")
    monkeypatch.setattr(requests, "get", lambda url, **_: Answer(url, b"half a model"))
    for _ in range(2):
        with pytest.raises(InputError, match=rf"{CUT_OUT_MODEL}.onnx .*: the download is damaged"):
            open_session()
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_download_that_breaks_off_leaves_nothing(home, monkeypatch):
    def half(chunk_size):
        yield b"half"
        raise requests.exceptions.ChunkedEncodingError("Connection broken:\n4 bytes read")

    answer = Answer("", b"")
    answer.iter_content = half
    monkeypatch.setattr(requests, "get", lambda url, **_: answer)
    with pytest.raises(InputError, match=r"cannot be downloaded \(Connection broken: 4 bytes read\)"):
        open_session()
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_what_a_server_answers_is_said(home, monkeypatch):
    monkeypatch.setattr(requests, "get", lambda url, **_: Answer(url, b"", 503))
    with pytest.raises(InputError, match=r"cannot be downloaded \(https://github.com/\S+ answers 503\)"):
        open_session()


def test_a_folder_that_cannot_be_written_is_said(home, monkeypatch):
    home.write_text("a file where the folder should be")
    monkeypatch.setattr(requests, "get", lambda url, **_: Answer(url, b""))
    with pytest.raises(InputError, match=r"and cannot be stored there \("):
        open_session()


def test_a_damaged_model_file_is_named(home):
    home.mkdir()
    (home / "u2net.onnx").write_bytes(b"half a model")
    with pytest.raises(InputError, match=r"u2net.onnx: cannot be opened as a model .*delete it") as caught:
        open_session("u2net")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["onnxruntime", "rembg"])
def test_without_rembg_the_extra_is_named(missing, monkeypatch, capfd):
    real = builtins.__import__

    def imported(name, *args, **options):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(InputError, match=r'cutting out needs rembg; install it with pip install "aict_hf\[cutout\]"'):
        open_session()
    assert capfd.readouterr() == ("", "")
