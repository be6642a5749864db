"""The description and the sample of a video for a model's `prepare`."""

from __future__ import annotations

import torch

from pvio.config.settings import Settings
from pvio.errors import ModelError
from pvio.media.decode.sampling import sample_frames
from pvio.media.decode.watchdog import WatchedReader
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter
from pvio.models.contract import HasPrepare, VideoInfo


def input_converter(index: FrameIndex, settings: Settings) -> FrameConverter:
    """The conversion of decoded frames to the model's input, in uint8."""
    height, width = settings.model.size or (index.height, index.width)
    return FrameConverter(settings.model.channels, height, width, index.orientation)


def prepare_model(
    model: HasPrepare, index: FrameIndex, settings: Settings, isolated: bool = False
) -> str:
    """Call a model's `prepare` for a video.

    PyAV reads the sample with any setting `decoder`, so it is the same on every machine. All reads
    share one budget of timeouts, see `WatchedReader`.

    Args:
        model: with `prepare`.
        index: of the video.
        settings: `model` and `decoder_timeout` matter.
        isolated: whether to decode in a child process, which may crash.

    Returns:
        The reason why frames of the sample were skipped; "" if none were.

    Raises:
        ModelError: when `prepare` raises.
    """
    converter = input_converter(index, settings)
    timeout = settings.decoder_timeout
    reader = WatchedReader(index, "pyav", timeout, converter, isolated)
    try:
        model.prepare(video_info(reader, converter))
    except Exception as error:
        raise ModelError(f"the model's prepare() failed: {error!r}") from error
    reason = reader.skipped_reason
    return f"in the sample for prepare(), {reason}" if reason else ""


def video_info(reader: WatchedReader, converter: FrameConverter) -> VideoInfo:
    """The argument of `prepare`.

    Args:
        reader: of the video; all samples share its budget of timeouts.
        converter: of the reader.
    """
    index = reader.index
    height, width, channels = converter.output_shape

    def sample(n: int) -> torch.Tensor:
        with reader:
            return torch.from_numpy(sample_frames(reader, converter, n)).permute(0, 3, 1, 2)

    return VideoInfo(
        path=index.path,
        n_frames=index.n_frames,
        height=index.height,
        width=index.width,
        input_height=height,
        input_width=width,
        channels=channels,
        rate=float(index.average_rate),
        time_base=index.time_base,
        sample=sample,
    )
