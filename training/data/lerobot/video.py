"""MP4 files with the images of several episodes, one after the other (H.264, yuv420p, PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.training.data.errors import DatasetError, EpisodeError, need
from hiervla.training.data.images import Image
from hiervla.training.data.lerobot.layout import VIDEO, following

GOP = 2
"""Frames from one key frame to the next: policies jump about in a video."""
_WHAT = "reading and writing videos"


class VideoWriter:
    """The videos of one camera, with roll-over between episodes."""

    def __init__(self, root: Path, key: str, fps: float, limit_mb: float, crf: int) -> None:
        self._root, self._key, self._fps, self._limit, self._crf = root, key, fps, limit_mb * 2**20, crf
        self._chunk, self._file, self._frames = 0, 0, 0
        self._first = 0
        self._bytes = 0
        self._container: Any = None
        self._stream: Any = None

    def begin(self, frames: int, shape: tuple[int, ...]) -> None:
        """Start an episode of so many frames.

        Raises:
            DatasetError: an odd height or width, which the codec cannot store.
        """
        if shape[0] % 2 or shape[1] % 2:
            problem = f"camera '{self._key}' has images of {shape[1]}x{shape[0]}, and H.264 wants even numbers"
            raise DatasetError(self._root.name, problem, "Store images instead of videos (--images-as png)")
        if self._container is not None and self._frames:
            if self._bytes * (1 + frames / self._frames) >= self._limit:
                self.close()
                self._chunk, self._file = following(self._chunk, self._file)
        if self._container is None:
            self._open(shape)
        self._first = self._frames

    def _open(self, shape: tuple[int, ...]) -> None:
        av = need("av", _WHAT)
        where = VIDEO.format(video_key=self._key, chunk_index=self._chunk, file_index=self._file)
        path = self._root / where
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        options = {"crf": str(self._crf), "g": str(GOP), "preset": "fast", "bf": "0", "threads": "1"}
        self._stream = self._container.add_stream("libx264", rate=Fraction(self._fps).limit_denominator(1001))
        self._stream.height, self._stream.width = shape[:2]
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = options
        self._frames = self._bytes = 0

    def add(self, image: Image) -> None:
        """One more frame."""
        av = need("av", _WHAT)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self._frames
        frame.time_base = 1 / Fraction(self._fps).limit_denominator(1001)
        packets = self._stream.encode(frame)
        # The file's size on the disk lags behind: the container buffers.
        self._bytes += sum(p.size for p in packets)
        self._container.mux(packets)
        self._frames += 1

    def end(self) -> dict[str, Any]:
        """The episode's columns in `meta/episodes`."""
        head = f"videos/{self._key}/"
        return {
            f"{head}chunk_index": self._chunk,
            f"{head}file_index": self._file,
            f"{head}from_timestamp": self._first / self._fps,
            f"{head}to_timestamp": self._frames / self._fps,
        }

    def close(self) -> None:
        """Finish the file; may be called twice."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = self._stream = None


class VideoImages:
    """The images of one episode in a video that holds several."""

    def __init__(self, path: Path, start_s: float, frames: int, fps: float, shape: tuple[int, ...]) -> None:
        self.path, self.start_s, self.frames, self.fps = path, start_s, frames, fps
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        return self._shape

    def __len__(self) -> int:
        return self.frames

    def check(self) -> None:
        """Decode all of it once.

        Raises:
            EpisodeError: a frame is missing, damaged or of another shape.
        """
        for _ in self._decoded():
            pass

    def __iter__(self) -> Iterator[Image]:
        for frame in self._decoded():
            yield frame.to_ndarray(format="rgb24")

    def _decoded(self) -> Iterator[Any]:
        av = need("av", _WHAT)
        given = 0
        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                container.seek(round(self.start_s / stream.time_base), stream=stream)
                for frame in container.decode(stream):
                    # Half a frame of tolerance: time bases of other encoders round.
                    if (float(frame.pts * stream.time_base) - self.start_s) * self.fps < given - 0.5:
                        continue
                    if (frame.height, frame.width) != self._shape[:2]:
                        found = f"{frame.width}x{frame.height}"
                        raise EpisodeError(self.path, f"frame {given} is {found}, not of shape {self._shape}")
                    yield frame
                    given += 1
                    if given == self.frames:
                        return
        except (OSError, ValueError, IndexError, av.FFmpegError) as error:
            if isinstance(error, EpisodeError):
                raise
            problem = f"the video cannot be decoded from {self.start_s:.2f} s on ({error})"
            raise EpisodeError(self.path, problem) from error
        raise EpisodeError(self.path, f"the video ends after {given} of {self.frames} frames from {self.start_s:.2f} s")
