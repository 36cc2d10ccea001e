"""RGB, depth and segmentation images from MuJoCo in software or hardware OpenGL, without a window."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from hiervla.representations.errors import MissingDependencyError

_MAX_GEOMS = 2000


def choose_backend() -> str:
    """The value of MUJOCO_GL to use; sets it to `egl` on Linux when nothing is set and there is no display."""
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if not chosen and sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        chosen = os.environ["MUJOCO_GL"] = "egl"
    return chosen


class _SharedGl:
    """The process's one OpenGL context, made at the first image and kept until the process ends.

    Software drivers spend 150 ms on compiling shaders for every new context. Between images it is current in
    no thread, so that any thread may render next.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._context: Any = None
        self._owner = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        with self._lock:
            # A context does not survive a fork; the child makes its own.
            if self._context is None or self._owner != os.getpid():
                self._context, self._owner = _make_gl_context(), os.getpid()
                atexit.register(self._free)
            self._context.make_current()
            try:
                yield
            finally:
                _release()

    def _free(self) -> None:
        if self._context is not None and self._owner == os.getpid():
            self._context.free()
            self._context = None


_GL = _SharedGl()


def _make_gl_context() -> Any:
    backend = choose_backend()
    try:
        # Named modules, because mujoco.GLContext was settled by the environment at mujoco's first import.
        if backend == "egl":
            from mujoco.egl import GLContext
        elif backend == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            from mujoco import GLContext
        # Images are drawn into framebuffers of their own; the context's own surface is never used.
        return GLContext(16, 16)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise MissingDependencyError(
            f"OpenGL without a window (MUJOCO_GL={backend or 'unset'}: {error})",
            "rendering camera images",
            "On Debian or Ubuntu install libegl1 and libgl1-mesa-dri (apt-get install libegl1 libgl1-mesa-dri), "
            "then set MUJOCO_GL=egl",
        ) from error


def _release() -> None:
    if choose_backend() == "egl":
        from mujoco import egl
        from OpenGL import EGL

        EGL.eglMakeCurrent(egl.EGL_DISPLAY, EGL.EGL_NO_SURFACE, EGL.EGL_NO_SURFACE, EGL.EGL_NO_CONTEXT)


class OffscreenRenderer:
    """Renders cameras of one model into arrays; holds its GPU-side data until `close()`."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._scene.flags[:] = 0
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rect = mujoco.MjrRect(0, 0, width, height)
        with _GL.current():
            self._context: Any = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)

    def render(
        self, data: mujoco.MjData, camera_id: int, *, depth: bool = True
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """One image, top row first.

        Args:
            data: body and camera poses must be up to date (`mj_kinematics`, `mj_camlight`).
            camera_id: which camera of the model.
            depth: also read the depth buffer.

        Returns:
            rgb (H, W, 3) and the distance along the optical axis (H, W) [m], 0 where nothing was hit.
        """
        raw = np.empty((self.height, self.width), dtype=np.float32) if depth else None
        rgb = self._draw(data, camera_id, raw)
        return np.ascontiguousarray(rgb[::-1]), None if raw is None else self._metres(raw[::-1])

    def geom_ids(self, data: mujoco.MjData, camera_id: int) -> NDArray[np.int32]:
        """(H, W) id of the geom that each pixel shows, -1 for none."""
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        try:
            codes = self._draw(data, camera_id, None)
        finally:
            flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        wide = codes.astype(np.int32)
        segment = wide[..., 0] + (wide[..., 1] << 8) + (wide[..., 2] << 16)
        table = np.full(self._scene.ngeom + 1, -1, dtype=np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = geom.objid
        return np.ascontiguousarray(table[segment][::-1])

    def close(self) -> None:
        """Free what the driver holds for this model; may be called twice."""
        if self._context is not None:
            with _GL.current():
                self._context.free()
            self._context = None

    def _draw(self, data: mujoco.MjData, camera_id: int, raw: NDArray[np.float32] | None) -> NDArray[np.uint8]:
        """Draw and read colours, and the depth buffer into `raw`; bottom row first."""
        if self._context is None:
            raise RuntimeError("the renderer is closed")
        pixels = np.empty((self.height, self.width, 3), dtype=np.uint8)
        self._camera.fixedcamid = camera_id
        every = mujoco.mjtCatBit.mjCAT_ALL
        with _GL.current():
            mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, every, self._scene)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            mujoco.mjr_render(self._rect, self._scene, self._context)
            mujoco.mjr_readPixels(pixels, raw, self._rect, self._context)
        return pixels

    def _metres(self, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        # Window depth runs from 0 at the near plane to 1 at the far plane, or the other way round.
        if self._context.readDepthMap == mujoco.mjtDepthMap.mjDEPTH_ZERONEAR:
            flipped = buffer.astype(np.float64)
        else:
            flipped = 1.0 - buffer.astype(np.float64)
        metres = near / (1.0 - flipped * (1.0 - near / far))
        metres[metres > 0.99 * far] = 0.0
        return np.ascontiguousarray(metres, dtype=np.float32)
