"""Python commands in processes of their own, forked from one that has imported the slow packages already.

Importing torch and transformers takes a processor four seconds. A fork has them at once, is as separate from the tests
as any other process, and imports `aict_hf` itself. What imports a package that a command must not have, or must import
in a certain order, does not belong here.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 600  # seconds after which a process counts as hanging
TRANSFORMERS = """
from transformers import AutoConfig, AutoModel, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor
"""


class ForkServer:
    """A process that has run the code `preload`, and runs commands in forks of itself; offline, with one thread.

    It is itself a fork of the server `parent` if one is given. If not, it looks for packages in the folder `packages`
    first. The Hub's cache is the folder `home` of the working folder, so that each test has its own.
    """

    def __init__(
        self,
        folder: Path,
        preload: str = TRANSFORMERS,
        *,
        parent: "ForkServer | None" = None,
        packages: Path | None = None,
    ):
        self.folder, self.count, self.running = folder, 0, []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [__file__, preload, str(listener.getsockname()[1])]
            if parent:
                self.process = parent.start(command, folder)
            else:
                environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
                environment |= {"HF_HOME": "home", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
                environment["PYTHONPATH"] = os.pathsep.join(map(str, [*filter(None, [packages]), ROOT]))
                self.process = subprocess.Popen([sys.executable, *command], env=environment, cwd=folder)
            listener.settimeout(PATIENCE)
            self.connection, _ = listener.accept()
        self.connection.settimeout(PATIENCE)
        self.stream = self.connection.makefile("rw")

    def ask(self, **job: object) -> int | None:
        """Send a job to the process and return its answer."""
        print(json.dumps(job), file=self.stream, flush=True)
        return json.loads(self.stream.readline())

    def start(self, command: list[object], folder: Path, **variables: object) -> "Fork":
        """Start a command, given as the arguments of `python`, in `folder`."""
        self.count += 1
        streams = [self.folder / f"{self.count}.{name}" for name in ("out", "err")]
        environment = {name: str(value) for name, value in variables.items()}
        arguments = [str(argument) for argument in command]
        pid = self.ask(command=arguments, folder=str(folder), streams=[*map(str, streams)], environment=environment)
        fork = Fork(self, pid, *streams)
        self.running.append(fork)
        return fork

    def run(self, command: list[object], folder: Path, **variables: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        fork = self.start(command, folder, **variables)
        return subprocess.CompletedProcess(command, fork.wait(), fork.out.read_text(), fork.err.read_text())

    def lines(self, command: list[object], folder: Path, **variables: object) -> list[str]:
        """Run a command that must succeed; the lines that it wrote to stdout."""
        result = self.run(command, folder, **variables)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    def close(self) -> None:
        """End the process and what still runs in its forks."""
        for fork in self.running:
            os.killpg(fork.pid, signal.SIGKILL)
        self.stream.close()
        self.connection.close()
        self.process.wait()


class Fork:
    """A command that a `ForkServer` has started, in a process group of its own."""

    def __init__(self, server: ForkServer, pid: int, out: Path, err: Path):
        self.server, self.pid, self.out, self.err = server, pid, out, err

    def poll(self) -> int | None:
        """The exit code if the command has ended; a signal's is negative."""
        return self.wait(os.WNOHANG)

    def wait(self, options: int = 0) -> int | None:
        """Wait for the end and return the exit code."""
        code = self.server.ask(wait=self.pid, options=options)
        if code is not None:
            self.server.running.remove(self)
        return code


def serve(preload: str, port: str) -> dict | None:
    """Answer what a `ForkServer` asks, until it closes; in a fork, return the job to do."""
    exec(preload, {})
    gc.freeze()  # what is imported stays shared with the forks
    with socket.create_connection(("127.0.0.1", int(port))) as connection, connection.makefile("rw") as lines:
        for line in iter(lines.readline, ""):
            job = json.loads(line)
            if "wait" in job:
                pid, status = os.waitpid(job["wait"], job["options"])
                answer = os.waitstatus_to_exitcode(status) if pid else None
            else:
                answer = os.fork()
                if answer == 0:
                    return job
                os.setpgid(answer, answer)
            print(json.dumps(answer), file=lines, flush=True)
    return None


def execute(job: dict) -> None:
    """Do what `python` does with the arguments of a command."""
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    for number, name in enumerate([os.devnull, *job["streams"]]):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY), number)
    program, *rest = job["command"]
    sys.path[0] = str(Path(program).parent) if program.endswith(".py") else ""
    if program == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif program == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *rest]
        runpy.run_path(program, run_name="__main__")


def leave(job: dict) -> NoReturn:
    """Do a job and end the process as Python does, except for taking its modules apart, which takes half a second."""
    code = 0
    try:
        execute(job)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        code = 1
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in background jobs
    job = serve(*sys.argv[1:])
    if job is None:
        os._exit(0)
    leave(job)
