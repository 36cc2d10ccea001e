"""What each convention's numbers mean for our arm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from hiervla.controllers import panda
from hiervla.controllers.kinematics import Kinematics, tool_yaw
from hiervla.executor.policies.remote.convert import Converter
from hiervla.executor.policies.remote.encode import request, resize_with_pad
from hiervla.executor.policies.remote.errors import PolicyAnswerError
from hiervla.executor.policies.remote.presets import parse_spec, preset, presets
from hiervla.executor.policies.remote.spec import RemoteSpec, Statistics
from hiervla.executor.testing import KinematicWorld, step_at
from hiervla.representations import ActionChunk, ConventionError, Observation, UnknownNameError

STEP = step_at("s1", "pick", (0.5, 0.0, 0.02), object="red mug").replace(text="pick up the red mug")


def seen() -> Observation:
    return KinematicWorld().observe()


def chunk(spec: RemoteSpec, actions: Any, **more: Any) -> ActionChunk:
    return Converter(spec, "ws://test").chunk({"actions": np.asarray(actions), **more}, seen(), "p")


def changed(name: str, **actions: Any) -> RemoteSpec:
    spec = preset(name)
    return spec.replace(actions=spec.actions.replace(**actions))


def test_droid_velocities_are_shares_of_a_fifth_of_a_radian_a_row() -> None:
    rows = np.zeros((10, 8), dtype=np.float32)
    rows[:, 0] = 0.5
    rows[4:, 7] = 0.51
    got = chunk(preset("droid"), rows)
    q = panda.HOME_Q + np.array([0.1 * 3, 0, 0, 0, 0, 0, 0])
    pose = Kinematics().forward(q)
    assert np.allclose(got.positions[2], pose[:3, 3], atol=1e-6)
    assert got.yaws[2] == pytest.approx(tool_yaw(pose), abs=1e-6)
    assert got.rate_hz == 15.0 and got.horizon == 10 and got.observed_at_s == 0.0
    assert got.gripper.tolist() == [1.0] * 4 + [0.0] * 6, "DROID's 1 is closed"
    assert got.done_prob is None and got.policy == "p"


def test_droid_velocities_above_one_are_slowed_together() -> None:
    fast, slow = np.zeros((1, 8)), np.zeros((1, 8))
    fast[0, [0, 3]], slow[0, [0, 3]] = (2.0, 1.0), (1.0, 0.5)
    assert np.allclose(chunk(preset("droid"), fast).positions, chunk(preset("droid"), slow).positions)


def test_joint_positions_are_where_the_joints_go_and_stay_in_their_limits() -> None:
    q = panda.HOME_Q + 0.05
    got = chunk(preset("droid-position"), [[*q, 0.0]])
    assert np.allclose(got.positions[0], Kinematics().forward(q)[:3, 3])
    turned = panda.HOME_Q.copy()
    turned[6] = 99.0
    limit = turned.copy()
    limit[6] = panda.Q_MAX[6]
    far = chunk(preset("droid-position"), [[*turned, 0.0]])
    assert far.yaws[0] == pytest.approx(chunk(preset("droid-position"), [[*limit, 0.0]]).yaws[0])


def test_joint_deltas_from_the_observation_do_not_add_up() -> None:
    rows = np.zeros((3, 8))
    rows[:, 0] = 0.1
    here = chunk(changed("droid-position", space="joint_delta", relative_to="observation"), rows)
    summed = chunk(changed("droid-position", space="joint_delta"), rows)
    assert np.allclose(here.positions, here.positions[0])
    assert np.allclose(summed.positions[0], here.positions[0])
    assert not np.allclose(summed.positions[2], here.positions[2])


def test_libero_deltas_add_up_in_robosuites_units() -> None:
    start = seen().proprio
    rows = np.zeros((4, 7))
    rows[:, 0], rows[:, 5], rows[2:, 6] = 1.0, 0.2, 1.0
    rows[:2, 6] = -1.0
    got = chunk(preset("libero"), rows)
    assert np.allclose(got.positions[:, 0] - start.ee_position[0], [0.05, 0.1, 0.15, 0.2])
    assert np.allclose(got.positions[:, 1:], start.ee_position[1:])
    assert np.allclose(got.yaws - tool_yaw(start.T_world_ee), [0.1, 0.2, 0.3, 0.4])
    assert got.gripper.tolist() == [1.0, 1.0, 0.0, 0.0] and got.rate_hz == 20.0
    over = chunk(preset("libero"), rows * 3.0)
    assert over.positions[0, 0] - start.ee_position[0] == pytest.approx(0.05), "robosuite clips at one"


def test_a_tool_that_tips_over_is_refused_and_a_small_tilt_is_dropped() -> None:
    rows = np.zeros((20, 7))
    rows[:, 3] = 0.1
    assert chunk(preset("libero"), rows[:5]).horizon == 5
    spec = changed("libero", max_tilt_rad=0.62)
    with pytest.raises(PolicyAnswerError, match="row 12 of its chunk tilts the tool by 37 degrees.*straight down"):
        chunk(spec, rows)


@pytest.mark.parametrize("rotation", ["rotvec", "euler_xyz", "quat_xyzw", "quat_wxyz"])
def test_absolute_poses_in_every_rotation_mean_the_same(rotation: str) -> None:
    turn = Rotation.from_matrix([[np.cos(0.3), np.sin(0.3), 0], [np.sin(0.3), -np.cos(0.3), 0], [0, 0, -1]])
    numbers = {
        "rotvec": turn.as_rotvec(),
        "euler_xyz": turn.as_euler("xyz"),
        "quat_xyzw": turn.as_quat(),
        "quat_wxyz": turn.as_quat()[[3, 0, 1, 2]],
    }[rotation]
    spec = changed("libero", space="ee_pose", rotation=rotation, scale_m=1.0, scale_rad=1.0, limit=None)
    spec = spec.replace(origin_w=(0.1, 0.0, -0.9))
    got = chunk(spec, [[0.4, 0.1, 1.1, *numbers, 1.0]])
    assert np.allclose(got.positions, [[0.5, 0.1, 0.2]]) and got.yaws[0] == pytest.approx(0.3)


def test_states_and_poses_use_the_same_frames() -> None:
    spec = changed("libero", space="ee_pose", scale_m=1.0, scale_rad=1.0, limit=None)
    spec = spec.replace(origin_w=(-0.6, 0.1, -0.9), tool_turn_rad=-0.7)
    state = request(seen(), STEP, spec)["observation/state"]
    got = chunk(spec, [[*state[:6], -1.0]])
    start = seen().proprio
    assert np.allclose(got.positions[0], start.ee_position, atol=1e-6)
    assert got.yaws[0] == pytest.approx(tool_yaw(start.T_world_ee), abs=1e-5)


@pytest.mark.parametrize(
    ("sign", "value", "opening"),
    [
        ("open_0_to_1", 0.2, 0.2),
        ("closed_0_to_1", 0.2, 0.8),
        ("open_-1_to_1", -0.5, 0.25),
        ("closed_-1_to_1", -0.5, 0.75),
        ("width_m", 0.02, 0.25),
        ("width_m", 0.5, 1.0),
    ],
)
def test_gripper_signs(sign: str, value: float, opening: float) -> None:
    got = chunk(changed("libero", gripper=sign, binary=False), [[0, 0, 0, 0, 0, 0, value]])
    assert got.gripper[0] == pytest.approx(opening)


def test_statistics_undo_what_training_did() -> None:
    x = np.array([[0.3, -2.0]])
    openpi = Statistics(kind="quantiles", first=(0.0, -4.0), second=(1.0, 0.0))
    assert np.allclose(openpi.restore(np.array([[-1.0, 1.0]])), [[0.0, 0.0]], atol=1e-5)
    for kind in ("mean_std", "quantiles", "min_max"):
        stats = Statistics(kind=kind, first=(0.1, -4.0), second=(1.0, 2.0))
        assert np.allclose(stats.restore(stats.normalise(x)), x)
    flat = Statistics(kind="min_max", first=(2.0, 0.0), second=(2.0, 1.0))
    assert flat.normalise(np.array([[2.0, 1.0]])).tolist() == [[0.0, 1.0]]
    with pytest.raises(ConventionError, match=r"spread is negative"):
        parse_spec(
            preset("droid")
            .to_json()
            .replace('"statistics":null,"max', '"statistics":{"kind":"min_max","first":[1],"second":[0]},"max'),
            "test",
        )
    raw = Statistics(kind="mean_std", first=(0.1,) * 7, second=(0.5,) * 7)
    got = chunk(changed("libero", statistics=raw, limit=None), np.full((1, 7), -0.2 + 1e-6))
    assert np.allclose(got.positions[0], seen().proprio.ee_position, atol=1e-6), "-0.2 of 0.5 around 0.1 is nothing"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({}, "has no 'actions', but nothing"),
        ({"action": 1}, "has no 'actions', but action"),
        ({"actions": [[0.0] * 8]}, "no array of numbers"),
        ({"actions": np.zeros((10, 7))}, r"shape \(10, 7\), where spec 'droid' has \(H, 8\)"),
        ({"actions": np.zeros((1, 10, 8))}, r"shape \(1, 10, 8\)"),
        ({"actions": np.zeros((0, 8))}, r"shape \(0, 8\)"),
        ({"actions": np.full((2, 8), np.nan)}, "row 0 .* has nan in column 0.*not moved"),
        ({"actions": np.full((2, 8), np.inf)}, "has inf"),
        ({"actions": np.array([["a"] * 8])}, "no array of numbers"),
        ({"actions": np.zeros((2, 8)), "done_prob": 1.5}, "'done_prob' is 1.5"),
        ({"actions": np.zeros((2, 8)), "done_prob": np.nan}, "'done_prob' is nan"),
        ({"actions": np.zeros((2, 8)), "rate_hz": "fast"}, "'rate_hz' is fast"),
    ],
)
def test_unusable_answers_are_named(answer: dict[str, Any], problem: str) -> None:
    with pytest.raises(PolicyAnswerError, match=problem) as caught:
        Converter(preset("droid"), "ws://test").chunk(answer, seen(), "p")
    assert caught.value.server == "ws://test" and "ws://test" in str(caught.value)


def test_a_fixed_number_of_rows_is_held_to() -> None:
    with pytest.raises(PolicyAnswerError, match="9 rows, where spec 'droid' has 10"):
        chunk(changed("droid", rows=10), np.zeros((9, 8)))


def test_requests_have_the_keys_shapes_and_types_of_their_preset() -> None:
    asked = request(seen(), STEP, preset("droid"))
    assert {k: (v.shape, str(v.dtype)) for k, v in asked.items() if isinstance(v, np.ndarray)} == {
        "observation/exterior_image_1_left": ((224, 224, 3), "uint8"),
        "observation/wrist_image_left": ((224, 224, 3), "uint8"),
        "observation/joint_position": ((7,), "float32"),
        "observation/gripper_position": ((1,), "float32"),
    }
    assert asked["prompt"] == "pick up the red mug"
    assert asked["observation/gripper_position"] == [0.0], "an open gripper is DROID's 0"
    state = request(seen(), STEP, preset("libero"))["observation/state"]
    assert state.shape == (8,) and np.allclose(state[6:], [0.04, -0.04])
    assert np.linalg.norm(state[3:6]) == pytest.approx(np.pi, abs=1e-3), "the tool points down"


def test_images_keep_their_proportions_and_may_be_turned() -> None:
    wide = np.full((90, 160, 3), 200, np.uint8)
    wide[:, :80] = 50
    small = resize_with_pad(wide, 224, 224)
    assert small.shape == (224, 224, 3) and not small[:48].any() and not small[-48:].any()
    assert (small[60, 5] == 50).all() and (small[60, -5] == 200).all()
    want = np.asarray(Image.fromarray(wide).resize((224, 126), Image.Resampling.BILINEAR))
    assert np.array_equal(small[49:175], want)
    spec = preset("libero")
    turned = spec.replace(images=tuple(i.replace(turned=True, height=None, width=None) for i in spec.images))
    front = seen().frame("front").rgb
    assert np.array_equal(request(seen(), STEP, turned)["observation/image"], front[::-1, ::-1])


def test_specs_go_through_json_and_their_mistakes_are_named() -> None:
    for spec in presets().values():
        assert parse_spec(spec.to_json(), "test") == spec
    with pytest.raises(ConventionError, match="a file is no description of a policy server: actions: Field required"):
        parse_spec('{"name": "x", "full": true}', "a file")
    with pytest.raises(UnknownNameError, match="Did you mean 'droid'"):
        preset("doid")
