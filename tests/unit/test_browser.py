"""Re-encoded videos in a browser: size, length and the frame that a seek shows."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import REPOSITORY
from encoding import MODELS, reencode, settings_of

from pvio.media.encode.format import display_aspect_ratio
from pvio.media.index.cached import load_index

Clip = Callable[[str], Path]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.xdist_group("browser"),  # all videos are shown in one session
]

REAL = REPOSITORY.parent / "shared/videos"
REAL_CLIPS = sorted(path.name for path in REAL.glob("*.*") if path.suffix != ".md")
MADE_CLIPS = (
    "b_frames.mp4", "variable_rate.mp4", "late_start.mp4", "odd_444.mp4", "audio.mp4",
    "ten_bit.mp4", "full_range.mp4", "hevc_main10.mkv", "h264_422.mp4",
)  # fmt: skip
# Chromium does not count the time before the first frame, and adds to the duration as it seeks.
LATE_CLIPS = {"late_start.mp4", "tc_test_non_zero_start.mp4"}
SIDE = 16  # of the small frames that are compared

PAGE = """<!doctype html><body><script>
async function look(file, time) {
  const video = document.createElement("video");
  const on = name => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, {once: true});
    video.addEventListener("error", () => reject(video.error.message), {once: true});
  });
  video.muted = true;
  const loaded = on("loadeddata");
  video.src = file;
  await loaded;
  const duration = video.duration;
  // Of a video that starts late, Chromium learns only while it seeks how long it is.
  for (let i = 0; i < 20 && Math.abs(video.currentTime - time) > 1e-3; i++) {
    const sought = on("seeked");
    video.currentTime = time;
    await sought;
  }
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const context = canvas.getContext("2d");
  let pixels;
  // Nothing is drawn while the picture is not decoded.
  for (let i = 0; i < 100 && !(pixels && pixels[3]); i++) {
    if (i) await new Promise(resolve => setTimeout(resolve, 50));
    context.drawImage(video, 0, 0);
    pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  }
  const sums = new Array(SIDE * SIDE).fill(0), counts = new Array(SIDE * SIDE).fill(0);
  for (let y = 0; y < canvas.height; y++) for (let x = 0; x < canvas.width; x++) {
    const at = Math.floor(y * SIDE / canvas.height) * SIDE + Math.floor(x * SIDE / canvas.width);
    sums[at] += pixels[4 * (y * canvas.width + x) + 1]; counts[at]++;
  }
  return {width: video.videoWidth, height: video.videoHeight, duration: duration,
          at: video.currentTime, green: sums.map((sum, i) => sum / counts[i])};
}
(async () => {
  for (const [file, time] of FILES) {
    let found;
    try { found = await look(file, time); } catch (error) { found = {error: String(error)}; }
    await fetch("/found", {method: "POST", body: JSON.stringify({file, ...found})});
  }
})();
</script></body>"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, in ranges as browsers ask for to seek, and takes what a page finds."""

    found: queue.SimpleQueue[dict[str, Any]]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.found.put(json.loads(self.rfile.read(length)))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        start, stop = int(wanted[1]), int(wanted[2] or len(data) - 1) + 1
        self.send_response(206)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data[start:stop])))
        self.end_headers()
        self.wfile.write(data[start:stop])

    def log_message(self, *args: Any) -> None:
        pass


def seen_by_chromium(folder: Path, times: dict[str, float]) -> dict[str, dict[str, Any]]:
    """The state of the videos of a folder in Chromium, each at a time in seconds."""
    page = PAGE.replace("SIDE", str(SIDE)).replace("FILES", json.dumps(list(times.items())))
    (folder / "page.html").write_text(page)
    Handler.found = queue.SimpleQueue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", f"--user-data-dir={folder / 'profile'}"),
            f"http://127.0.0.1:{server.server_port}/page.html",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = [Handler.found.get(timeout=60) for _ in times]
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
    return {each["file"]: each for each in found}


class Seen:
    """A source, when its frames are shown, and what the browser shows of its new encoding."""

    def __init__(self, source: Path, times: list[Fraction], ffmpeg: Any):
        self.source, self.times, self._ffmpeg = source, times, ffmpeg
        self.number = len(times) // 2
        after = times[self.number + 1]
        self.asked = float((times[self.number] + after) / 2)
        self.found: dict[str, Any] = {}
        self.source_found: dict[str, Any] | None = None

    def expected_green(self, stream: str) -> np.ndarray:
        """The frame asked for, as FFmpeg shows the source, in `SIDE`×`SIDE` means."""
        chosen = ("-vf", f"select=eq(n\\,{self.number}),scale=in_range=auto:out_range=full")
        raw = self._ffmpeg.run(
            *("-v", "error", "-i", self.source, "-map", stream, *chosen, "-frames:v", "1"),
            *("-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
        ).stdout
        index = load_index(self.source)
        size = (index.height, index.width)
        green = np.frombuffer(raw, np.uint8).reshape(*size, 3)[..., 1]
        rows, columns = (np.arange(each) * SIDE // each for each in size)
        sums, counts = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
        np.add.at(sums, (rows[:, None], columns[None, :]), green)
        np.add.at(counts, (rows[:, None], columns[None, :]), 1)
        return sums / counts


@pytest.fixture(scope="module")
def browser(clip: Clip, ffmpeg: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "models.py").write_text(MODELS)
    settings = settings_of(folder / "models.py", crf=10, preset="ultrafast")
    seen = {}
    for name in (*MADE_CLIPS, *REAL_CLIPS):
        source = REAL / name if name in REAL_CLIPS else clip(name)
        stream = "0:v:1" if name == "tc_nasa_13013.mp4" else "0:v:0"
        seen[name] = Seen(source, sorted(ffmpeg.times(source, stream)), ffmpeg)
        reencode(source, settings, folder / f"{name}.new.mp4", length=100)
    times = {f"{name}.new.mp4": each.asked for name, each in seen.items()}
    for name in LATE_CLIPS & seen.keys():
        shutil.copy(seen[name].source, folder / f"{name}.source.mp4")
        times[f"{name}.source.mp4"] = seen[name].asked
    found = seen_by_chromium(folder, times)
    for name, each in seen.items():
        each.found = found[f"{name}.new.mp4"]
        each.source_found = found.get(f"{name}.source.mp4")
    return seen


@pytest.mark.parametrize("name", [*MADE_CLIPS, *REAL_CLIPS])
def test_chromium_plays_and_seeks(browser: dict[str, Seen], name: str):
    seen = browser[name]
    assert "error" not in seen.found
    assert seen.found["at"] == pytest.approx(seen.asked, abs=1e-3)
    # From 0 to the end of the last frame; the audio may be longer, by less than a frame of it.
    frame = float(seen.times[-1] - seen.times[0]) / (len(seen.times) - 1)
    expected = float(seen.times[-1]) + frame
    if seen.source_found is not None:
        expected = seen.source_found["duration"]
    assert seen.found["duration"] == pytest.approx(expected, abs=2 * frame)
    # Chromium makes pixels that are no squares square by stretching one side.
    index = load_index(seen.source)
    shape = index.width * display_aspect_ratio(index) / index.height
    assert seen.found["width"] / seen.found["height"] == pytest.approx(float(shape), rel=0.02)
    assert min(seen.found["width"] - index.width, seen.found["height"] - index.height) == 0
    stream = "0:v:1" if name == "tc_nasa_13013.mp4" else "0:v:0"
    found = np.reshape(seen.found["green"], (SIDE, SIDE))
    # Correlated, since browsers and FFmpeg guess another matrix where a source is not tagged.
    assert np.corrcoef(found.ravel(), seen.expected_green(stream).ravel())[0, 1] > 0.97
