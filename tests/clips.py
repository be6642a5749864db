"""The small clips of the tests: arguments of the FFmpeg command that makes each.

Every clip of `RECIPES` has `N_FRAMES` frames of 96×64, or of 97×65 where its name says `odd`.
"""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
N_FRAMES = 40


def source(rate: str = "25") -> list[str]:
    """FFmpeg's moving test frame: `N_FRAMES` frames, every one different."""
    return ["-f", "lavfi", "-i", f"testsrc2=size=96x64:rate={rate}", "-frames:v", str(N_FRAMES)]


H264 = ["-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv420p"]
B_FRAMES = [*H264, "-bf", "3"]
# In milliseconds: a gap in the middle, and steps of 40, 44, 52, 28 and 36.
UNEVEN = "settb=1/1000,setpts=40*N+4*mod(N*N\\,5)+280*gte(N\\,20)"
# testsrc2 itself makes even sizes only.
ODD = "scale=97:65"
TONE = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1.6:sample_rate=44100"]

RECIPES: dict[str, list[str]] = {
    "plain.mp4": [*source(), *H264, "-bf", "0"],
    "b_frames.mp4": [*source(), *B_FRAMES],
    "open_gop.mkv": [*source(), *B_FRAMES, "-x264-params", "open-gop=1:scenecut=0"],
    "hevc_open_gop.mp4": [
        *(*source(), "-c:v", "libx265", "-pix_fmt", "yuv420p", "-tag:v", "hvc1"),
        *("-x265-params", "keyint=12:min-keyint=12:open-gop=1:bframes=3:log-level=error"),
    ],
    "variable_rate.mp4": [
        *(*source(), *B_FRAMES, "-vf", UNEVEN),
        *("-fps_mode", "passthrough", "-enc_time_base", "1:1000"),
    ],
    "late_start.mp4": [*source(), *B_FRAMES, "-output_ts_offset", "2.5"],
    "late_start.mkv": [*source(), *B_FRAMES, "-output_ts_offset", "2.5"],
    "odd_444.mp4": [*source(), "-vf", ODD, "-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv444p"],
    "odd_420.webm": [
        *(*source(), "-vf", ODD, "-c:v", "libvpx-vp9", "-g", "12", "-pix_fmt", "yuv420p"),
        *("-deadline", "realtime", "-cpu-used", "8"),
    ],
    "audio.mp4": [*TONE, *source(), *B_FRAMES, "-c:a", "aac"],
    "matroska.mkv": [*source(), *B_FRAMES],
    "mpeg4.avi": [*source(), "-c:v", "mpeg4", "-g", "12"],
    "h264.avi": [*source(), *H264, "-bf", "0"],
    "mjpeg.avi": [*TONE, *source(), "-c:v", "mjpeg", "-c:a", "mp2"],
    "b_frames.avi": [*source(), *B_FRAMES],
    "transport.ts": [*source(), *B_FRAMES],
    "program.mpg": [*source(), "-c:v", "mpeg2video", "-g", "12", "-bf", "2"],
    "raw.h264": [*source(), *B_FRAMES],
    "ten_bit.mp4": [*source(), "-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv420p10le"],
    "full_range.mp4": [
        *(*source(), *B_FRAMES, "-vf"),
        "scale=out_range=full:out_color_matrix=bt709,setparams=color_primaries=bt709:"
        "color_trc=bt709",
    ],
    "rgb.mkv": [*source(), "-c:v", "libx264rgb", "-g", "12", "-crf", "0"],
    # A camera of 3000 frames per second in a container that counts milliseconds.
    "repeated_times.mkv": [*source(rate="3000"), *H264, "-bf", "0"],
}

HEVC = ["-c:v", "libx265", "-x265-params", "keyint=12:log-level=error"]
NEGATIVE = ["-output_ts_offset", "-0.5", "-avoid_negative_ts", "disabled"]
SMALL = ["-f", "lavfi", "-i", "testsrc2=size=48x32:rate=10:duration=1.6"]

# Kinds that only the table of test_table.py needs; `{name}` stands for the path of another clip.
MORE_KINDS: dict[str, list[str]] = {
    "limited_709.mp4": [
        *(*source(), *B_FRAMES, "-vf", "scale=out_range=limited:out_color_matrix=bt709"),
    ],
    "full_601.mp4": [
        *(*source(), *B_FRAMES, "-vf", "scale=out_range=full:out_color_matrix=bt601"),
    ],
    "ten_bit_444.mp4": [*source(), "-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv444p10le"],
    "quicktime.mov": [*source(), *B_FRAMES],
    "mjpeg.mov": [*source(), "-c:v", "mjpeg", "-pix_fmt", "yuvj422p"],
    "mpeg4_b_frames.mp4": [*source(), "-c:v", "mpeg4", "-g", "12", "-bf", "2"],
    "hevc_main10.mkv": [*source(), *HEVC, "-pix_fmt", "yuv420p10le"],
    "hevc.ts": [*source(), *HEVC, "-pix_fmt", "yuv420p"],
    "h264_422.mp4": [*source(), "-c:v", "libx264", "-pix_fmt", "yuv422p", "-g", "12"],
    "h264_gray.mp4": [*source(), "-c:v", "libx264", "-pix_fmt", "gray", "-g", "12"],
    "h264_intra.mp4": [*source(), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "1"],
    "vp8.webm": [*source(), "-c:v", "libvpx", "-g", "12", "-deadline", "realtime"],
    "vp9_10_bit.mp4": [
        *(*source(), "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p10le", "-g", "12"),
        *("-deadline", "realtime", "-cpu-used", "8"),
    ],
    "vp9_alt_ref.webm": [
        *(*source(), "-c:v", "libvpx-vp9", "-b:v", "100k", "-auto-alt-ref", "1"),
        *("-lag-in-frames", "16", "-g", "20", "-cpu-used", "5"),
    ],
    "av1.mkv": [*source(), "-c:v", "libsvtav1", "-preset", "12", "-g", "12"],
    "ffv1.mkv": [*source(), "-c:v", "ffv1", "-pix_fmt", "yuv444p"],
    "ffv1_gray16.mkv": [*source(), "-c:v", "ffv1", "-pix_fmt", "gray16le"],
    "rawvideo.avi": [*source(), "-c:v", "rawvideo", "-pix_fmt", "yuv420p"],
    "huffyuv.avi": [*source(), "-c:v", "huffyuv", "-pix_fmt", "yuv422p"],
    "wmv2.wmv": [*source(), "-c:v", "wmv2", "-g", "12"],
    "flash.flv": [*source(), *H264, "-bf", "0"],
    # Wherever decoding starts but at the first frame, frames are wrong for a while.
    "intra_refresh.mp4": [
        *(*source(), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-tune", "zerolatency"),
        *("-x264-params", "intra-refresh=1:keyint=8"),
    ],
    # Keyframes that are no IDR frames, though no frame is shown before one that it follows.
    "open_gop_quiet.mkv": [
        *(*source(), *H264, "-bf", "2"),
        *("-x264-params", "open-gop=1:scenecut=0:b-adapt=0:keyint=13"),
    ],
    # Most packets have no time.
    "program_h264.mpg": [*source(), *B_FRAMES],
    # A chunk of no size stands for a frame that the camera dropped.
    "dropped.avi": [
        *(*source(), "-vf", "select=not(between(n\\,10\\,13))", "-fps_mode", "passthrough"),
        *("-c:v", "mpeg4"),
    ],
    "mpeg4_b_frames.avi": [*source(), "-c:v", "mpeg4", "-g", "12", "-bf", "2"],
    "repeated_times_b.mkv": [*source(rate="3000"), *B_FRAMES],
    "interlaced.mpg": [*source(), "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-g", "12"],
    # What is before 0 is not shown.
    "negative_start.mp4": [*source(), *B_FRAMES, *NEGATIVE],
    # Matroska has no times before 0: FFmpeg finds none for such packets.
    "negative_start.mkv": [*source(), *B_FRAMES, *NEGATIVE],
    "two_streams.mp4": [
        *(*SMALL, *source()[:-2], "-map", "0:v", "-map", "1:v", *H264, "-bf", "0"),
        *("-t", "1.6", "-disposition:v:0", "0", "-disposition:v:1", "default"),
    ],
    "uneven.mkv": [
        *(*source(), *B_FRAMES, "-vf", UNEVEN),
        *("-fps_mode", "passthrough", "-enc_time_base", "1:1000"),
    ],
    "fragmented.mp4": [*source(), *B_FRAMES, "-movflags", "frag_keyframe+empty_moov"],
    # Cutting without encoding leaves frames that an edit list says not to show.
    "edit_list.mp4": ["-ss", "0.6", "-i", "{b_frames.mp4}", "-c", "copy"],
    "edit_list.mov": ["-ss", "0.6", "-i", "{b_frames.mp4}", "-c", "copy"],
    "concatenated.mkv": ["-i", "concat:{transport.ts}|{transport.ts}", "-c", "copy"],
}
