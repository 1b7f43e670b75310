"""Time and peak memory of `aict harmonize` on a TIFF far larger than is comfortable: 30000 x 20000 by default.

    python benchmarks/bench_large.py --folder /somewhere/with/10/GB

Makes a tiled TIFF and its mask from the example picture, harmonizes it in a process of its own, and checks that the
result has its size.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyvips

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", default="30000x20000", help="width x height")
parser.add_argument("--folder", type=Path, help="for the files, which are deleted; default: the system's temporary one")
arguments = parser.parse_args()
width, height = map(int, arguments.size.split("x"))

with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
    folder = Path(name)
    for source, target in (("dandelion_composite.jpg", "photo.tif"), ("dandelion_mask.png", "mask.tif")):
        image = pyvips.Image.new_from_file(str(EXAMPLES / source))
        image = image.resize(width / image.width, vscale=height / image.height, kernel="linear")
        image = image.gravity("centre", width, height, extend="copy")
        image.tiffsave(str(folder / target), tile=True, compression="deflate", bigtiff=True)
    files = [str(folder / part) for part in ("photo.tif", "mask.tif")]
    command = [sys.executable, "-m", "aict_hf", "harmonize", *files, "-o", str(folder / "out.tif")]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--max-megapixels", str(width * height / 1e6 + 1), "--device", "cpu"])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit("aict harmonize failed")
    result = pyvips.Image.new_from_file(str(folder / "out.tif"))
    assert (result.width, result.height) == (width, height)
    print(f"cpu ({platform.machine()}, {os.cpu_count()} cores), one run: {width} x {height}, {seconds:.0f} s, ", end="")
    print(f"peak {usage.ru_maxrss / 2**20:.2f} GiB, file {(folder / 'out.tif').stat().st_size / 2**30:.2f} GiB")
