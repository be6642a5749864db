"""Runs a loader over files and prints frames a second; the same for pvio and for its peers.

python loader_run.py BATCH_SIZE WORKERS JSON_OPTIONS FILE ...
"""

import importlib.util
import json
import sys
import time


def main() -> None:
    batch_size, n_workers, options = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    how = {"batch_size": batch_size, "num_workers": n_workers}
    if importlib.util.find_spec("pvio.torch_tools"):  # 0.1.9 has other names
        from pvio.torch_tools import SimpleVideoCollectionLoader

        loader = SimpleVideoCollectionLoader(sys.argv[4:], **how)
    else:
        from pvio.torch import VideoCollectionDataLoader, VideoCollectionDataset

        loader = VideoCollectionDataLoader(VideoCollectionDataset(sys.argv[4:], **options), **how)
    began = time.perf_counter()
    n = 0
    for batch in loader:
        n += len(batch["frames"])
        float(batch["frames"][0, 0, 0, 0])
    print(f"{n} frames, shape {tuple(batch['frames'].shape)}, {batch['frames'].dtype}")
    print(f"RESULT {n / (time.perf_counter() - began)}")


if __name__ == "__main__":
    main()
