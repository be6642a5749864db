"""Snakemake in a fork of a process that has imported it.

To import Snakemake and its plugins takes three quarters of a dry run. Here it is done once for each
process of the tests.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

_PLUGINS = ("snakemake_executor_plugin_slurm", "snakemake_executor_plugin_cluster_generic")


class SnakemakeServer:
    """A process that has imported Snakemake; it ends with the process that started it."""

    def __init__(self) -> None:
        self._requests, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other_end:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other_end.fileno())],
                pass_fds=[other_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def run(
        self,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        timeout: float,
        program: Literal["snakemake", "pvio"] = "snakemake",
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake, in a session of its own, as `python -m snakemake` would.

        Args:
            arguments: of the program.
            folder: to work in.
            environment: all of it.
            timeout: seconds after which it is killed.
            program: `pvio` stands for `python -m pvio`.

        Raises:
            subprocess.TimeoutExpired: when it was killed.
        """
        request = json.dumps([[program, *arguments], os.fspath(folder), environment]).encode()
        reader, writer = os.pipe()
        with (
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
            open(reader) as status,
        ):
            descriptors = [output.fileno(), errors.fileno(), writer]
            socket.send_fds(self._requests, [request], descriptors)
            os.close(writer)
            pid = int(status.readline())
            if not select.select([status], [], [], timeout)[0]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(arguments, timeout)
            exit_code = int(status.readline())
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(arguments, exit_code, *texts)


@functools.cache
def snakemake_server() -> SnakemakeServer:
    """The one of this process."""
    return SnakemakeServer()


def serve(requests: socket.socket) -> None:
    """Fork for each request, up to the end of the process that makes them."""
    import snakemake.cli

    import pvio.cli

    for name in _PLUGINS:
        with contextlib.suppress(ImportError):
            __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the processes between
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            output, errors, status = descriptors
            if pid := os.fork():
                _tell_end(pid, descriptors)
            os.close(status)
            _become(*json.loads(request), output, errors)
            if sys.argv[0] == "pvio":
                pvio.cli.main()
            snakemake.cli.main()
        for descriptor in descriptors:
            os.close(descriptor)


def _tell_end(pid: int, descriptors: list[int]) -> None:
    """Write the number of a child and, when it has ended, its exit code."""
    output, errors, status = descriptors
    os.close(output)
    os.close(errors)
    os.write(status, f"{pid}\n".encode())
    _, code = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def _become(
    command: list[str], folder: str, environment: dict[str, str], output: int, errors: int
) -> None:
    """Take what a new process would have been given."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    sys.path[0] = folder
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        connection.set_inheritable(False)
        serve(connection)
