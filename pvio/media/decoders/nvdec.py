"""Reading with the decoder of a CUDA device (NVDEC), and with PyAV for other streams."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import av
from av.codec.hwaccel import HWAccel

from pvio.media.decoders.frame import DecodedFrame
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.log import capture_log
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.planes import planes_as_arrays

logger = logging.getLogger(__name__)

# Decoded on the device: codecs whose standards define every bit of the frames, in formats that
# are returned with the same samples. By FFmpeg's pixel format: that of the device's frames in main
# memory. AV1 is not among them: on an H200, FFmpeg 8.0's own decoder fails at the first packet of
# every AV1 stream ("Get current frame error"), after the device was opened, which takes seconds.
_CODECS = ("h264", "hevc", "vp9")
_FORMATS = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}


class _Refused(Exception):
    """The device does not decode this stream, or failed at a packet."""


@functools.cache
def device_error(number: int) -> str:
    """The reason why a CUDA device cannot be opened for decoding; "" when it can.

    Args:
        number: of the device, as CUDA counts those that are visible.
    """
    with capture_log() as messages:
        try:
            context = av.CodecContext.create("h264", "r", hwaccel=_on_device(number))
        except av.error.FFmpegError as error:
            errors = [text.strip() for level, _, text in messages if level <= av.logging.ERROR]
            return errors[0] if errors else str(error)
    return "" if context.is_hwaccel else "PyAV's FFmpeg is built without CUDA"


def open_cuda(index: FrameIndex, number: int) -> NvdecReader | PyAVReader:
    """A reader that decodes on a device, or PyAV's reader if the device cannot be opened.

    Args:
        index: of a video file.
        number: of the device.
    """
    if reason := device_error(number):
        _warn(f"decoder: cuda: device {number} cannot be opened ({reason}); PyAV decodes instead")
        return PyAVReader(index)
    return NvdecReader(index, number)


class NvdecReader:
    """Decodes on a CUDA device; frames are copied to main memory, packets are read as by PyAV.

    The device decodes damaged data to any frame and reports nothing. Damage is seen only in
    packets, time stamps and the bytes of H.264 and HEVC units. PyAV decodes the frames from
    the first one on that is not `ok`, or at which the device fails, and determines their status.

    Some streams are decoded to other samples without an error, such as H.264 without chroma. So
    the first frame of a segment is decoded by PyAV as well: where the samples differ, PyAV decodes
    the rest. This costs little compared with opening the device.

    Args:
        index: of a video file.
        number: of the device.
    """

    def __init__(self, index: FrameIndex, number: int):
        self.index = index
        self._on_device: PyAVReader | None = None
        self._in_software = PyAVReader(index)
        if index.codec in _CODECS and index.pix_fmt in _FORMATS:
            self._on_device = _DeviceReader(index, number)
        else:
            kind = f"{index.codec} in {index.pix_fmt}"
            self._warn(f"{kind} is not decoded on CUDA devices; PyAV decodes instead")

    def frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        """See `FrameReader.frames`.

        Raises:
            UnreadableVideo: when PyAV cannot read the file, either.
        """
        expected = start
        if self._on_device is not None:
            try:
                for decoded in self._on_device.frames(start, stop):
                    if decoded.number == start and self._is_decoded_differently(decoded):
                        raise _Refused("the CUDA device decodes this stream differently")
                    if decoded.status != "ok":
                        self._warn("some frames are damaged; PyAV decodes from there on")
                        break
                    yield decoded
                    expected = decoded.number + 1
            except _Refused as refused:
                self._warn(f"{refused}; PyAV decodes instead")
                self._on_device.close()
                self._on_device = None
        if expected < stop:
            yield from self._in_software.frames(expected, stop)

    def _is_decoded_differently(self, decoded: DecodedFrame) -> bool:
        """Whether PyAV decodes a frame without errors, and the device returns other samples."""
        expected = next(self._in_software.frames(decoded.number, decoded.number + 1))
        return expected.status == "ok" and (
            decoded.status != "ok" or _samples(decoded.pixels) != _samples(expected.pixels)
        )

    def close(self) -> None:
        """Close both readers."""
        self._in_software.close()
        if self._on_device is not None:
            self._on_device.close()

    def _warn(self, what: str) -> None:
        _warn(f"{self.index.path}: {what}")


class _DeviceReader(PyAVReader):
    """A `PyAVReader` with frames from a CUDA device, in NV12 or P010.

    Raises:
        _Refused: by `frames`, when the device does not decode the stream, or fails.
    """

    def __init__(self, index: FrameIndex, number: int):
        super().__init__(index)
        self._number_of_device = number

    def _open(self) -> Any:
        try:
            device = _on_device(self._number_of_device)
            return open_container(self.index.decode_path, hwaccel=device)
        except av.error.FFmpegError as error:
            raise _Refused(f"decoding on the CUDA device failed ({error})") from error

    def _decoder_for(self, stream: Any) -> Any:
        return stream.codec_context  # the only one that knows the device

    def _decode(self, packet: Any) -> list[av.VideoFrame]:
        try:
            frames = super()._decode(packet)
        except av.error.FFmpegError as error:
            raise _Refused(f"decoding on the CUDA device failed ({error})") from error
        # FFmpeg decodes on the CPU what a device cannot decode.
        if any(frame.format.name != _FORMATS[self.index.pix_fmt] for frame in frames):
            raise _Refused(f"this {self.index.codec} stream is not decoded by the CUDA device")
        return frames


def _on_device(number: int) -> HWAccel:
    return HWAccel("cuda", device=number, allow_software_fallback=True)


def _samples(frame: Any) -> bytes:
    """Luma and chroma of a 4:2:0 frame, whether its chroma is in planes or interleaved."""
    planar = "yuv420p10le" if "10" in frame.format.name else "yuv420p"
    if frame.format.name in _FORMATS.values():
        frame = frame.reformat(format=planar)
    return b"".join(plane.tobytes() for plane in planes_as_arrays(frame, range(3)))


@functools.cache
def _warn(message: str) -> None:
    """Warn, once in a process: readers are opened for every segment."""
    logger.warning(message)
