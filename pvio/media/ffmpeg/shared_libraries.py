"""FFmpeg's shared libraries for torchcodec, from PyAV's wheel where the system has none.

torchcodec loads FFmpeg's libraries by their plain names (libavcodec.so.62). PyAV's wheel contains
the same libraries under other names. A folder of links with the plain names, listed before the
wheel's folder in LD_LIBRARY_PATH, makes them known to the dynamic loader. The loader reads that
variable when a process starts.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import re
import sys
from pathlib import Path

import platformdirs

from pvio.cache.digest import hash_key

_LIBRARIES = ("avcodec", "avutil", "avformat", "avfilter", "avdevice", "swscale", "swresample")
_MARK = "PVIO_FFMPEG_LINKS"


def system_has_ffmpeg() -> bool:
    """Whether the dynamic loader finds a shared libavcodec without help."""
    return ctypes.util.find_library("avcodec") is not None


def bundled_folder() -> Path | None:
    """The folder with FFmpeg's libraries in PyAV's wheel; None if PyAV was built from source."""
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent.parent / "av.libs"
    return folder if folder.is_dir() else None


def environment_for_torchcodec() -> dict[str, str] | None:
    """Environment variables with which torchcodec finds FFmpeg in a new process.

    Returns:
        None if the present ones need no change: the system has FFmpeg, or they are set already,
        or PyAV's wheel contains no libraries.
    """
    bundled = bundled_folder()
    if not sys.platform.startswith("linux") or bundled is None:
        return None
    if os.environ.get(_MARK) == str(bundled) or system_has_ffmpeg():
        return None
    links = _make_links(bundled)
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    path = ":".join(part for part in (str(links), str(bundled), inherited) if part)
    return {**os.environ, "LD_LIBRARY_PATH": path, _MARK: str(bundled)}


def _make_links(bundled: Path) -> Path:
    """Make links with plain names; several jobs may do so at the same time."""
    key = hash_key(libraries=str(bundled), python=sys.executable)
    folder = platformdirs.user_cache_path("pvio") / f"ffmpeg-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    for library in bundled.iterdir():
        match = re.fullmatch(r"lib(\w+?)-[0-9a-f]{8}\.so\.(\d+)[\d.]*", library.name)
        if match and match[1] in _LIBRARIES:
            _link(folder / f"lib{match[1]}.so.{match[2]}", library)
            if match[1] == "avutil" and not _has_shared_python():
                # torchcodec's wheel asks for libpython by name. In a Python without one, such as
                # Debian's, the program itself has all its symbols: any library will do.
                version = f"{sys.version_info.major}.{sys.version_info.minor}"
                _link(folder / f"libpython{version}.so.1.0", library)
    return folder


def _has_shared_python() -> bool:
    """Whether this process runs on a shared libpython, or the loader would find one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    loaded = Path("/proc/self/maps").read_text(errors="replace")
    return f"lib{version}.so" in loaded or ctypes.util.find_library(version) is not None


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)
