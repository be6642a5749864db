"""Speed compared with peers and limits, measured in one run on the same files: ratios, not times.

python -m benchmarks [--small] [--rounds N] [reading] [loader] [probe] [encoding] [workflow]
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import encoding, loader, probe, reading, workflow
from benchmarks.measure import CORES, HEADER, REAL_CLIPS, Setting

GROUPS = {
    "reading": reading,
    "loader": loader,
    "probe": probe,
    "encoding": encoding,
    "workflow": workflow,
}
PEERS = ("0.1.3", "0.1.9")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all when none is given")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each")
    parser.add_argument("--small", action="store_true", help="a few frames: does it run?")
    parser.add_argument("--no-peers", action="store_true", help="do not install parallel-video-io")
    arguments = parser.parse_args()
    unknown = set(arguments.groups) - set(GROUPS)
    if unknown:
        parser.error(f"unknown group {', '.join(sorted(unknown))}")
    if hasattr(os, "sched_setaffinity"):  # for all processes that are started from here
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory(prefix="pvio-benchmarks-") as folder:
        peers = {} if arguments.no_peers else install_peers(Path(folder))
        setting = Setting(Path(folder), arguments.rounds, arguments.small, peers)
        print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
        if not REAL_CLIPS.is_dir():
            print("The real recordings are not next to the repository: made clips replace them.")
        print(HEADER)
        for name, group in GROUPS.items():
            if not arguments.groups or name in arguments.groups:
                for row in group.rows(setting):
                    print(row, flush=True)


def install_peers(folder: Path) -> dict[str, Path]:
    """Releases of parallel-video-io, each in a folder of its own."""
    found = {}
    for version in PEERS:
        target = folder / f"peer-{version}"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        # Their imports that pvio does not need as well.
        command += ["--target", str(target), f"parallel-video-io=={version}", "tqdm"]
        command += ["joblib", "cloudpickle", "loky"]
        if subprocess.run(command, capture_output=True).returncode == 0:
            found[version] = target
        else:
            print(f"parallel-video-io {version} cannot be installed: its rows are left out")
    return found


if __name__ == "__main__":
    main()
