"""Pictures of scenes without running them: fast enough to make training data for planners."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from hiervla.controllers import panda
from hiervla.representations import CameraFrame
from hiervla.worlds.tabletop.furniture import FRONT_CAMERA
from hiervla.worlds.tabletop.labels import Segmentation, label_geoms, label_image
from hiervla.worlds.tabletop.model import build_model, set_initial_state
from hiervla.worlds.tabletop.rendering import OffscreenRenderer
from hiervla.worlds.tabletop.specs import SceneSpec
from hiervla.worlds.tabletop.world import extrinsics, intrinsics


@dataclass(frozen=True, eq=False)
class Preview:
    """A picture of a scene as its recipe says, before gravity acts, with the label of each pixel (privileged)."""

    scene: SceneSpec
    frame: CameraFrame
    segmentation: Segmentation


def render_scene(
    scene: SceneSpec, camera: str = FRONT_CAMERA, width: int = 256, height: int = 192, *, depth: bool = True
) -> Preview:
    """Render a scene at its start, arm at home, without a world and without physics."""
    built = build_model(scene, width, height)
    data = mujoco.MjData(built.mj)
    set_initial_state(built, data, panda.HOME_Q.copy())
    mujoco.mj_kinematics(built.mj, data)
    mujoco.mj_camlight(built.mj, data)
    camera_id = int(built.mj.camera(camera).id)
    renderer = OffscreenRenderer(built.mj, width, height)
    try:
        rgb, metres = renderer.render(data, camera_id, depth=depth)
        geoms = renderer.geom_ids(data, camera_id)
    finally:
        renderer.close()
    labels, names = label_geoms(built.mj, scene)
    frame = CameraFrame(
        name=camera,
        rgb=rgb,
        depth_m=metres,
        K=intrinsics(float(built.mj.cam_fovy[camera_id]), width, height),
        T_world_camera=extrinsics(data, camera_id),
        time_s=0.0,
    )
    return Preview(scene, frame, Segmentation(np.asarray(label_image(geoms, labels)), names))
