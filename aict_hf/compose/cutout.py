"""Find the object in a photo with rembg, a background remover, so that it can be cut out."""

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import InputError, one_line
from ..files.images import ImageFile
from ..model.image_arrays import rgb_array
from ..model.levels import to_eight_bits
from .paste import OPAQUE

if TYPE_CHECKING:
    from rembg.sessions.base import BaseSession

# It sees 1024 x 1024 pixels, which gives finer edges than the 320 x 320 of u2net, and is much smaller than
# birefnet-general. Both it and its code are free to use (Apache 2.0). rembg's own default, bria-rmbg, needs a contract
# for commercial use.
CUT_OUT_MODEL = "isnet-general-use"
UNFIT = {
    "sam": "needs points or boxes of the object",
    "u2net_cloth_seg": "gives several masks, one for each kind of clothes",
}


def open_session(model: str = CUT_OUT_MODEL) -> "BaseSession":
    """Open a model of rembg, which downloads it at its first use and checks the download.

    The file is kept where rembg keeps it: in `~/.rembg` (`~/.u2net` in earlier versions), or in the folder that the
    environment variable `U2NET_HOME` names. A session may cut out any number of photos.

    Args:
        model: a name that rembg knows, such as "u2net" or "birefnet-general-lite". Models that need more than a photo,
            and services that photos would be sent to, are refused.
    Raises:
        InputError: if rembg is not installed, the name is unknown, or the model can be neither found nor downloaded, or
            is damaged.
    """
    try:
        import onnxruntime  # noqa: F401  rembg ends the program where it is missing
        from rembg import new_session
        from rembg.sessions import sessions_class
    except ImportError as error:
        raise InputError('cutting out needs rembg; install it with pip install "aict_hf[cutout]"') from error
    sessions = {session.name(): session for session in sessions_class}
    if (reason := _unfit(model, sessions.get(model))) is not None:
        usable = ", ".join(name for name in sorted(sessions) if _unfit(name, sessions[name]) is None)
        raise InputError(f"{model}: {reason}; expected one of {usable}")
    path = _downloaded(sessions[model])
    try:
        return new_session(model)
    except Exception as error:  # onnxruntime's are of many kinds
        raise InputError(
            f"{path}: cannot be opened as a model ({one_line(error)}); if it is damaged, delete it, and it is "
            "downloaded again"
        ) from error


def find_object(photo: ImageFile, session: "BaseSession") -> np.ndarray:
    """Find the foreground of a photo.

    The mask is rembg's as it is: soft at the edges, without thresholds or smoothing. Like rembg, this ignores the
    colour profile and the alpha channel. Most models stretch their answer to the full range, so they mark something
    even in a photo without an object.

    Args:
        photo: a decoded photo of any kind that `read_image` returns.
        session: from `open_session`, or any other session of rembg.
    Returns:
        the foreground mask: opacity of the object, uint8, shape (H, W).
    Raises:
        InputError: if nothing is found, or the model fails. The message does not name the photo.
    """
    from rembg import remove

    colors = to_eight_bits(rgb_array(photo.pixels)).transpose(1, 2, 0)
    try:
        with np.errstate(all="ignore"):  # a model that sees nothing makes rembg divide 0 by 0
            found = remove(Image.fromarray(np.ascontiguousarray(colors)), session=session, only_mask=True)
    except Exception as error:  # onnxruntime's are of many kinds
        raise InputError(f"{session.model_name} cannot find the object ({one_line(error)})") from error
    if not isinstance(found, Image.Image) or found.size != photo.size:
        raise InputError(f"{session.model_name} gives several masks; choose a model that gives one")
    mask = np.asarray(found.convert("L"))
    if mask.max() < OPAQUE:
        raise InputError(f"{session.model_name} found no object; try another model, or give a mask")
    return mask


def _unfit(name: str, session: "type[BaseSession] | None") -> str | None:
    """Why a model cannot find the object from nothing but a photo on this machine; None if it can."""
    if session is None:
        return "is not a model of rembg"
    if name.endswith("_custom"):
        return "needs a model file of your own, which goes into rembg.new_session in Python"
    if not getattr(session, "is_local", lambda: True)():  # earlier versions have no others
        return "sends photos to a server, which is not done here"
    return UNFIT.get(name)


def _downloaded(session: "type[BaseSession]") -> str:
    """The path of a model's file, which is downloaded if it is not there.

    pooch writes to a temporary name, compares the checksum, and renames, so what is left of a failure is never taken
    for a model.

    Raises:
        InputError: if the model cannot be downloaded or stored.
    """
    import pooch
    from requests import RequestException

    folder = getattr(session, "model_dir", session.u2net_home)()
    wanted = f"{session.name()}.onnx is not in {folder} yet"
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # it announces a download that may fail; the progress bar stays
    try:
        return os.fspath(session.download_models())
    except RequestException as error:
        raise InputError(
            f"{wanted} and cannot be downloaded ({_cause(error)}); connect to the internet once, or copy the file "
            "there from a machine that has it"
        ) from error
    except ValueError as error:
        raise InputError(f"{wanted}: the download is damaged ({one_line(error)}); try again") from error
    except OSError as error:
        raise InputError(f"{wanted} and cannot be stored there ({error.strerror or error})") from error
    finally:
        logger.setLevel(level)


def _cause(error: Exception) -> str:
    """What a network error says, without the addresses and objects of the libraries that it went through."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.url.split('?')[0]} answers {response.status_code}"
    request = getattr(error, "request", None)
    return f"no connection to {request.url.split('?')[0]}" if request is not None else one_line(error)


__all__ = ["CUT_OUT_MODEL", "find_object", "open_session"]
