import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from hiervla.representations import CameraError, CameraFrame, MissingDependencyError
from hiervla.worlds.tabletop import rendering
from hiervla.worlds.tabletop.preview import render_scene
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import LookSpec, SceneSpec, SpillSpec, sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld
from tests.worlds.scripted import scene, thing


def project(frame: CameraFrame, point_w: ArrayLike) -> tuple[float, float]:
    point_c = np.linalg.inv(frame.T_world_camera) @ np.append(point_w, 1.0)
    u, v, w = frame.K @ point_c[:3]
    return u / w, v / w


def lift(frame: CameraFrame, i: int, j: int) -> NDArray[np.float64]:
    ray = np.linalg.inv(frame.K) @ (j + 0.5, i + 0.5, 1.0)
    return np.asarray(frame.T_world_camera @ np.append(ray * frame.require_depth()[i, j], 1.0))[:3]


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[TabletopWorld, GroundTruth]]:
    spec = sample_scene(21, n_objects=7, stacks=0, shelf_prob=0.3)
    with TabletopWorld(spec) as world:
        yield world, GroundTruth(world)


def test_images_have_the_promised_form(busy: tuple[TabletopWorld, GroundTruth]) -> None:
    world, _ = busy
    seen = world.observe()
    assert [f.name for f in seen.frames] == ["front", "wrist"]
    for frame in seen.frames:
        assert frame.rgb.shape == (192, 256, 3)
        assert frame.rgb.dtype == np.uint8
        assert frame.require_depth().shape == (192, 256)
        assert frame.require_depth().dtype == np.float32
        assert frame.K[0, 2] == 128.0
    assert [f.name for f in world.observe(["wrist"]).frames] == ["wrist"]


def test_projection_hits_what_the_segmentation_shows(busy: tuple[TabletopWorld, GroundTruth]) -> None:
    """Guards K, T_world_camera, axes and row order together: a flipped axis would miss small things."""
    world, truth = busy
    frame = world.observe(["front"]).frame("front")
    picture = truth.segmentation("front")
    hits = 0
    for name in truth.object_ids:
        mask = picture.mask(name)
        if mask.sum() < 40:
            continue
        spec = truth.spec(name)
        u, v = project(frame, truth.position(name) + (0, 0, spec.size[2] / 2))
        rows, columns = np.nonzero(mask)
        assert abs(columns.mean() + 0.5 - u) < 2.5
        assert abs(rows.mean() + 0.5 - v) < 4.0
        hits += 1
    assert hits >= 4


def test_depth_lifts_to_the_table_plane_and_to_object_tops(busy: tuple[TabletopWorld, GroundTruth]) -> None:
    world, truth = busy
    for camera in ("front", "wrist"):
        frame = world.observe([camera]).frame(camera)
        rows, columns = np.nonzero(truth.segmentation(camera).mask("table"))
        heights = [lift(frame, i, j)[2] for i, j in zip(rows[::97], columns[::97], strict=True)]
        assert np.abs(heights).max() < 2e-3


def test_depth_can_be_absent_for_the_world_or_for_one_camera() -> None:
    with TabletopWorld(scene(), width=64, height=48, depth=False) as world:
        frame = world.observe(["front"]).frame("front")
        assert frame.depth_m is None
        with pytest.raises(CameraError, match="gives no depth"):
            frame.require_depth()
    with TabletopWorld(scene(), width=64, height=48, depth=("wrist",)) as world:
        seen = world.observe()
        assert seen.frame("front").depth_m is None
        assert seen.frame("wrist").depth_m is not None


def test_unknown_cameras_are_named() -> None:
    with pytest.raises(CameraError, match="'side'.*front, wrist"):
        TabletopWorld(scene(), cameras=("side",))
    with TabletopWorld(scene(), cameras=("front",), width=64, height=48) as world:
        with pytest.raises(CameraError, match="'wrist'.*This world has front"):
            world.observe(["wrist"])
        with pytest.raises(CameraError, match="wrist"):
            GroundTruth(world).segmentation("wrist")


def test_looking_twice_gives_the_same_image_and_so_does_another_thread(busy: tuple[TabletopWorld, GroundTruth]) -> None:
    world, _ = busy
    first = world.observe(["front"]).frame("front")
    others = []
    thread = threading.Thread(target=lambda: others.append(world.observe(["front"]).frame("front")))
    thread.start()
    thread.join()
    assert others[0].sha256 == first.sha256 == world.observe(["front"]).frame("front").sha256
    assert np.array_equal(others[0].require_depth(), first.require_depth())


def test_everything_stands_inside_the_front_image() -> None:
    for seed in range(8):
        spec = sample_scene(seed, gripper=True, spill=True, shelf_prob=0.5, drawer_open=True)
        preview = render_scene(spec)
        visible = preview.segmentation.visible(min_pixels=12)
        assert {"top_shelf", "bottom_shelf", "cabinet", "drawer", "bin", "spill_0", "robot"} <= set(visible)
        height, width = preview.segmentation.ids.shape
        for place in ("top_shelf", "bottom_shelf", "bin"):
            rows, columns = np.nonzero(preview.segmentation.mask(place))
            assert rows.min() > 0 and rows.max() < height - 1
            assert columns.min() > 0 and columns.max() < width - 1
        bare = [o for o in spec.objects if not spec.carried_by(o.id) and o.support not in ("bin", "drawer")]
        assert all(o.id in visible for o in bare)


def test_the_eight_colours_look_different() -> None:
    def seen(colour: str) -> NDArray[np.float64]:
        preview = render_scene(scene(thing("block", colour=colour)))
        return np.asarray(preview.frame.rgb[preview.segmentation.mask("block_0")].mean(axis=0))

    colours = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black")
    means = {c: seen(c) for c in colours}
    for a in colours:
        for b in colours:
            assert a == b or np.linalg.norm(means[a] - means[b]) > 40, (a, b)


def test_looks_change_the_picture_and_camera_errors_the_calibration() -> None:
    plain = scene(thing("mug"))
    other = plain.replace(
        look=LookSpec(table_texture="checker", light=0.5, camera_shift=(0.02, 0.0, 0.0), fovy_deg=50.0)
    )
    one, two = render_scene(plain).frame, render_scene(other).frame
    assert one.sha256 != two.sha256
    assert two.K[0, 0] < one.K[0, 0]
    assert two.T_world_camera[0, 3] == pytest.approx(one.T_world_camera[0, 3] + 0.02)


def test_a_preview_equals_the_world_at_its_start() -> None:
    spec = scene(thing("mug"), spill=SpillSpec(centre=(0.45, 0.08), radius=0.03))
    with TabletopWorld(spec) as world:
        truth = GroundTruth(world)
        settled = truth.segmentation("front")
    preview = render_scene(spec)
    assert preview.segmentation.names == settled.names
    assert (preview.segmentation.ids != settled.ids).mean() < 0.01


def test_closing_twice_is_fine_and_a_closed_world_can_look_again() -> None:
    world = TabletopWorld(scene(), width=64, height=48)
    first = world.observe(["front"]).frame("front").sha256
    world.close()
    world.close()
    assert world.observe(["front"]).frame("front").sha256 == first
    world.close()


def test_headless_linux_gets_egl_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "x")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert rendering.choose_backend() == "egl"
    assert os.environ["MUJOCO_GL"] == "egl"


def test_missing_egl_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "choose_backend", lambda: "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    with pytest.raises(MissingDependencyError, match="libegl1 libgl1-mesa-dri"):
        rendering._make_gl_context()


def test_a_bare_environment_renders_in_a_fresh_process() -> None:
    code = (
        "from hiervla.worlds.tabletop.preview import render_scene\n"
        "from hiervla.worlds.tabletop.scene import sample_scene\n"
        "print(render_scene(sample_scene(0)).frame.rgb.std() > 10)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "PYOPENGL_PLATFORM")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "True", done.stderr
    assert "Error" not in done.stderr


def test_scene_descriptions_need_no_simulator() -> None:
    code = "import sys, hiervla.worlds.tabletop.scene; print('mujoco' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_scene_without_objects_renders() -> None:
    assert isinstance(render_scene(scene(), width=64, height=48).scene, SceneSpec)
