"""A small real Slurm on this host, in a folder of its own: munge, slurmctld and some slurmd.

Without systemd and cgroups. With accounting, by slurmdbd and MariaDB, if these are installed. Needs
root, Debian's slurm-wlm and munge, and that no other Slurm is configured in /etc/slurm: a job step
finds its cluster through that path only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
# Debian: slurmdbd, mariadb-server-core, mariadb-client-core.
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db")
_LINK = Path("/etc/slurm/slurm.conf")
_SECONDS_TO_START = 30.0
# A file that marks the folder of such a cluster.
_MARK = "small-slurm"

_CONFIGURATION = """
ClusterName=small
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
MpiDefault=none
{accounting}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory,CR_LLN
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=5
GresTypes=gpu
# squeue tells of finished jobs for so long.
MinJobAge=3600
KillWait=3
SlurmctldTimeout=30
SlurmdTimeout=15
ReturnToService=2
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
{nodes}
PartitionName=cpu Nodes=ALL Default=YES DefaultTime=10 MaxTime=600 State=UP
PartitionName=gpu Nodes=ALL DefaultTime=10 MaxTime=600 State=UP
"""


_DATABASE = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""
_USERS = """CREATE DATABASE slurm;
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm.* TO slurm@'127.0.0.1';
"""


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs.

    Attributes:
        folder: of its configuration and logs.
        nodes: their names.
        has_accounting: whether `sacct` works.
    """

    folder: Path
    nodes: tuple[str, ...]
    has_accounting: bool

    def start_node(self, name: str) -> None:
        configuration = str(self.folder / "slurm.conf")
        subprocess.run(["slurmd", "-N", name, "-f", configuration], check=True)

    def lose_node(self, name: str) -> None:
        """End the daemon of a node and all of its jobs at once, as when it loses its power."""
        steps = [f"slurmstepd: [{job}.".encode() for job in self.jobs(f"-w{name}", "-o%A")]
        os.kill(_pid(self.folder / f"slurmd-{name}.pid"), signal.SIGKILL)
        processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        # The daemons of the jobs first: they would report that a job was killed.
        for is_lost in (
            lambda entry: (entry / "cmdline").read_bytes().startswith(tuple(steps)),
            lambda entry: (
                f"SLURMD_NODENAME={name}".encode() in (entry / "environ").read_bytes().split(b"\0")
            ),
        ):
            for entry in processes:
                with contextlib.suppress(OSError):
                    if is_lost(entry):
                        os.kill(int(entry.name), signal.SIGKILL)

    def jobs(self, *options: str) -> list[str]:
        """Lines of `squeue`."""
        done = subprocess.run(
            ["squeue", "--noheader", *options], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()


def why_not() -> str:
    """Why no cluster can be started here; "" when one can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    if _LINK.exists() and _is_running(_pid(_LINK.resolve().parent / "slurmctld.pid")):
        return f"{_LINK} belongs to a Slurm that runs"
    if _LINK.exists() and not (_LINK.is_symlink() and (_LINK.resolve().parent / _MARK).exists()):
        return f"{_LINK} belongs to another Slurm"
    return ""


@contextlib.contextmanager
def small_slurm(folder: Path, n_nodes: int = 2, cpus: int = 8, gpus: int = 2) -> Iterator[Slurm]:
    """Start a cluster and stop it at the end.

    Args:
        folder: new, for all of its files.
        n_nodes: all of them on this host.
        cpus, gpus: of each node, whatever the host has; the devices are none.
    """
    folder.mkdir(parents=True)
    (folder / _MARK).touch()
    names = tuple(f"n{k}" for k in range(1, n_nodes + 1))
    host = socket.gethostname().partition(".")[0]
    controller_port, database_port, accounting_port, *ports = _free_ports(3 + n_nodes)
    has_accounting = all(shutil.which(program) for program in ACCOUNTING_PROGRAMS)
    lines = []
    for name, port in zip(names, ports, strict=True):
        lines.append(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
            f"RealMemory=32000 Gres=gpu:{gpus} State=UNKNOWN"
        )
    devices = [folder / f"gpu{k}" for k in range(gpus)]
    for device in devices:
        os.mknod(device, 0o20666, os.makedev(1, 3))
    (folder / "gres.conf").write_text(
        f"NodeName={','.join(names)} Name=gpu File={folder}/gpu[0-{gpus - 1}]\n"
    )
    for each in ("state", *(f"spool-{name}" for name in names)):
        (folder / each).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            host=host,
            folder=folder,
            controller_port=controller_port,
            nodes="\n".join(lines),
            accounting=_accounting(folder, accounting_port)
            if has_accounting
            else "AccountingStorageType=accounting_storage/none",
        )
    )
    _LINK.parent.mkdir(exist_ok=True)
    _LINK.unlink(missing_ok=True)
    _LINK.symlink_to(configuration)
    cluster = Slurm(folder, names, has_accounting)
    try:
        _start_munge(folder)
        if has_accounting:
            _start_accounting(folder, accounting_port, database_port)
        subprocess.run(["slurmctld", "-c", "-f", str(configuration)], check=True)
        for name in names:
            cluster.start_node(name)
        _wait_until_idle(n_nodes, folder)
        yield cluster
    finally:
        _stop(folder)
        if _LINK.is_symlink() and os.readlink(_LINK) == str(configuration):
            _LINK.unlink()


def _start_munge(folder: Path) -> None:
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(128))
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid",
             "log-file": "munged.log", "seed-file": "munged.seed"}  # fmt: skip
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    # Others must not be able to reach into the folder of the socket, or else it is refused.
    subprocess.run(["munged", "--force", *options], check=True)


def _accounting(folder: Path, port: int) -> str:
    """The lines of slurm.conf for a database daemon at a port."""
    return (
        "AccountingStorageType=accounting_storage/slurmdbd\n"
        "AccountingStorageHost=127.0.0.1\n"
        f"AccountingStoragePort={port}\n"
        f"AccountingStoragePass={folder}/munge.socket\n"
        "AccountingStoreFlags=job_comment"
    )


def _start_accounting(folder: Path, port: int, database_port: int) -> None:
    """Start MariaDB and slurmdbd; both end with the cluster."""
    tables = f"--datadir={folder}/database"
    install = ["mariadb-install-db", "--no-defaults", "--user=root", tables, "--skip-test-db"]
    subprocess.run(install, check=True, capture_output=True)
    (folder / "users.sql").write_text(_USERS)
    with open(folder / "database.log", "wb") as log:
        subprocess.Popen(
            [
                *("mariadbd", "--no-defaults", "--user=root", tables, "--bind-address=127.0.0.1"),
                *(f"--port={database_port}", f"--socket={folder}/database.socket"),
                *(f"--pid-file={folder}/database.pid", f"--init-file={folder}/users.sql"),
                *("--skip-name-resolve", "--innodb-lock-wait-timeout=900"),
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    configuration = folder / "slurmdbd.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        _DATABASE.format(folder=folder, port=port, database_port=database_port)
    )
    _wait_for_port(database_port)
    variables = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run(
        ["slurmdbd"], check=True, env=variables
    )  # it reads slurmdbd.conf next to slurm.conf
    _wait_for_port(port)
    for what in (["cluster", "small"], ["account", "lab"], ["user", "root", "account=lab"]):
        subprocess.run(["sacctmgr", "--immediate", "add", *what], check=True, capture_output=True)


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at port {port}")


def _wait_until_idle(n_nodes: int, folder: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "cpu", "-t", "idle", "-o", "%N"],
            capture_output=True, text=True,
        )  # fmt: skip
        if len(done.stdout.split()) == n_nodes:
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
    raise TimeoutError(f"the nodes did not come up:\n{logs}")


def _stop(folder: Path) -> None:
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        subprocess.run(["scancel", "-u", "root"], timeout=10, capture_output=True)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            left = subprocess.run(["squeue", "-h", "-t", "R,CG"], timeout=5, capture_output=True)
            if not left.stdout.strip():
                break
            time.sleep(0.2)
    pids = [pid for path in folder.glob("*.pid") if (pid := _pid(path))]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 10
        while any(_is_running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)


def _pid(file: Path) -> int:
    """What a daemon noted; 0 when it is not there."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
