"""Put the Space on the Hub, with this version of aict_hf in it.

python space/deploy.py ORG/NAME                      # needs `hf auth login`
python space/deploy.py ORG/NAME --folder out/space   # only write the folder
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from aict_hf.errors import InputError
from aict_hf.files.atomic_write import atomic_folder

SPACE = Path(__file__).resolve().parent


def write_space(repository: str, out_dir: Path) -> Path:
    """Write the Space's files, a wheel of aict_hf, and requirements that install the wheel from the Space.

    Raises:
        InputError: if the wheel cannot be built, or `out_dir` exists or cannot be written.
    """
    with atomic_folder(out_dir) as partial:
        shutil.copytree(
            SPACE, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "deploy.py", "*.pyi")
        )
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(partial), str(SPACE.parent)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(partial.glob("aict_hf-*.whl"))
        if built.returncode or not wheels:
            raise InputError(f"{SPACE.parent}: the wheel cannot be built ({built.stderr.strip()[-300:]})")
        url = f"https://huggingface.co/spaces/{repository}/resolve/main/{wheels[0].name}"
        requirements = partial / "requirements.txt"
        lines = requirements.read_text().splitlines()
        requirements.write_text(
            "\n".join(f"{line} @ {url}" if line.startswith("aict_hf") else line for line in lines) + "\n"
        )
    return out_dir


def main() -> None:
    """Write the folder. Without --folder, create the Space and upload the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", metavar="ORG/NAME")
    parser.add_argument("--folder", type=Path, help="write the Space here and upload nothing")
    parser.add_argument("--model", help="the checkpoint, as AICT_MODEL (default: the bundled one)")
    arguments = parser.parse_args()
    if arguments.repository.count("/") != 1:
        parser.error(f"{arguments.repository} is not the name of a Space; expected ORG/NAME")
    try:
        if arguments.folder is not None:
            print(f"wrote {write_space(arguments.repository, arguments.folder)}")
            return
        with tempfile.TemporaryDirectory() as folder:
            written = write_space(arguments.repository, Path(folder) / "space")
            api = HfApi()
            api.create_repo(arguments.repository, repo_type="space", space_sdk="gradio", exist_ok=True)
            if arguments.model:
                api.add_space_variable(arguments.repository, "AICT_MODEL", arguments.model)
            print(f"uploaded {api.upload_folder(repo_id=arguments.repository, repo_type='space', folder_path=written)}")
    except InputError as error:
        sys.exit(f"deploy: {error}")


if __name__ == "__main__":
    main()
