"""Runs a loader over files and prints frames per second; the same for pvio and for its peers.

python loader_run.py BATCH_SIZE WORKERS SECONDS JSON_OPTIONS FILE ...
"""

import importlib.util
import json
import sys
import time


def main() -> None:
    how = {"batch_size": int(sys.argv[1]), "num_workers": int(sys.argv[2])}
    limit, options, files = float(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5:]
    if importlib.util.find_spec("pvio.torch_tools"):  # 0.1.9 has other names
        from pvio.torch_tools import SimpleVideoCollectionLoader

        loader = SimpleVideoCollectionLoader(files, **how)
    else:
        from pvio.torch import VideoCollectionDataLoader, VideoCollectionDataset

        loader = VideoCollectionDataLoader(VideoCollectionDataset(files, **options), **how)
    began = time.perf_counter()
    n = 0
    for number, batch in enumerate(loader, 1):
        n += len(batch["frames"])
        float(batch["frames"][0, 0, 0, 0])
        # Workers that take long for a batch deliver at about the same time: count one of each.
        if time.perf_counter() - began > limit and number % how["num_workers"] == 0:
            break
    elapsed = time.perf_counter() - began
    print(f"{n} frames, shape {tuple(batch['frames'].shape)}, {batch['frames'].dtype}")
    print(f"RESULT {n / elapsed}")


if __name__ == "__main__":
    main()
