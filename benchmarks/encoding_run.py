"""Writes the frames of a video as another and prints frames per second; for pvio and for its peers.

python encoding_run.py SOURCE TARGET
"""

import sys
import time

import av


def main() -> None:
    from pvio.video_io import write_frames_to_video

    with av.open(sys.argv[1]) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    began = time.perf_counter()
    write_frames_to_video(sys.argv[2], frames, 25.0)
    print(f"RESULT {len(frames) / (time.perf_counter() - began)}")


if __name__ == "__main__":
    main()
