"""The Space under load: many clients at once, over loopback, for a bounded time, with 12-megapixel photos.

    python benchmarks/bench_space.py --clients 64 --seconds 180

Starts the Space in a process of its own. Each client uploads a photo and its mask, asks for /harmonize, waits in the
queue, downloads the result, and begins again; one that is told that the queue is full waits a second. Prints how many
were answered how, the latency from the upload's start to the result's end, and the server's resident memory (RSS) after
a first photo and at the end. Anything but a result or a full queue is a failure, and the exit status 1.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
from measuring import save_table
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--clients", type=int, default=64)
parser.add_argument("--seconds", type=float, default=180, help="for how long clients begin new requests")
parser.add_argument("--size", default="4000x3000", help="width x height of the photo")
parser.add_argument("--port", type=int, default=7871)
parser.add_argument("--output", type=Path, help="write the table to this file too")
arguments = parser.parse_args()
address = f"http://127.0.0.1:{arguments.port}/gradio_api"


def resident_memory(process: int) -> float:
    """MiB held by a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def harmonize_once(client: httpx.Client, files: dict[str, bytes]) -> str:
    """One request from upload to download: "result", "queue full", or what went wrong."""
    uploads = [("files", (name, content)) for name, content in files.items()]
    answer = client.post(f"{address}/upload", files=uploads)
    answer.raise_for_status()
    sent = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in answer.json()]
    answer = client.post(f"{address}/call/harmonize", json={"data": [*sent, 1.0, False, "jpeg"]})
    if answer.status_code != 200:
        return "queue full" if "queue is full" in answer.text.lower() else f"HTTP {answer.status_code}: {answer.text}"
    kind = ""
    with client.stream("GET", f"{address}/call/harmonize/{answer.json()['event_id']}") as events:
        for line in events.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind in ("complete", "error"):
                data = line.removeprefix("data: ")
                break
        else:
            return "the answer ended without a result"
    if kind == "error":
        return "queue full" if "queue is full" in data.lower() else f"error: {data}"
    result = client.get(f"{address}/file={json.loads(data)[0]['path']}")
    if result.status_code != 200 or not result.content.startswith(b"\xff\xd8"):
        return f"the result cannot be fetched: HTTP {result.status_code}"
    return "result"


def keep_asking(deadline: float, files: dict[str, bytes], answers: Counter, latencies: list[float]) -> None:
    with httpx.Client(timeout=600) as client:
        while time.monotonic() < deadline:
            start = time.monotonic()
            try:
                answer = harmonize_once(client, files)
            except httpx.HTTPError as error:
                answer = f"{type(error).__name__}: {error}"
            answers[answer] += 1
            if answer == "result":
                latencies.append(time.monotonic() - start)
            elif answer == "queue full":
                time.sleep(1)


def main() -> int:
    width, height = map(int, arguments.size.split("x"))
    answers: Counter = Counter()
    latencies: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source, target in (("dandelion_on_hills.jpg", "photo.jpg"), ("dandelion_on_hills_mask.png", "mask.png")):
            picture = Image.open(ROOT / "space" / "examples" / source).resize((width, height), Image.Resampling.BICUBIC)
            picture.save(folder / target, quality=90)
        files = {part: (folder / part).read_bytes() for part in ("photo.jpg", "mask.png")}
        environment = os.environ | {
            "GRADIO_TEMP_DIR": str(folder / "gradio"),
            "GRADIO_SERVER_PORT": str(arguments.port),
        }
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "space" / "app.py")], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            for _ in range(120):
                time.sleep(1)
                try:
                    httpx.get(f"http://127.0.0.1:{arguments.port}/config").raise_for_status()
                    break
                except httpx.HTTPError:
                    pass
            with httpx.Client(timeout=600) as client:
                if (first := harmonize_once(client, files)) != "result":
                    sys.exit(f"the first photo was answered by: {first}")
            before = resident_memory(server.pid)
            start = time.monotonic()
            threads = [
                threading.Thread(target=keep_asking, args=(start + arguments.seconds, files, answers, latencies))
                for _ in range(arguments.clients)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.monotonic() - start
            after = resident_memory(server.pid)
        finally:
            server.terminate()
            server.wait()
    latencies.sort()
    failures = {answer: count for answer, count in answers.items() if answer not in ("result", "queue full")}
    rows = {
        "results": answers["result"],
        "told that the queue is full": answers["queue full"],
        "failures": sum(failures.values()),
        "results a second": f"{len(latencies) / took:.2f}",
        "latency p50": f"{statistics.median(latencies):.1f} s",
        "latency p95": f"{latencies[int(0.95 * (len(latencies) - 1))]:.1f} s",
        "server's RSS after a first photo": f"{before:.0f} MiB",
        "server's RSS at the end": f"{after:.0f} MiB",
    }
    what = f"{arguments.clients} clients, {width} x {height} pixels, {took:.0f} s, JPEG in and out"
    table = "\n".join(
        [
            f"cpu ({platform.machine()}, {os.cpu_count()} cores for server and clients): {what}",
            "",
            "| what | |",
            "|---|---|",
        ]
        + [f"| {name} | {value} |" for name, value in rows.items()]
    )
    save_table(table, arguments.output)
    for answer, count in failures.items():
        print(f"failure, {count} times: {answer[:300]}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
