"""The flow policy: what it reads, what it refuses, and that it cannot see more than an observation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hiervla.executor.policies import (
    DuplicatePolicyError,
    MissingTargetError,
    Policy,
    create,
    names,
    register,
    target_point,
)
from hiervla.executor.policies.features import (
    FeatureSpec,
    PolicyInput,
    from_frame,
    grasp_frame,
    in_frame,
    observe_features,
    on_arm,
    proprio_features,
    rotate,
    thin,
    to_frame,
)
from hiervla.executor.policies.flow import FlowPolicy
from hiervla.executor.policies.network import FlowNet, NetworkSpec
from hiervla.representations import (
    CameraError,
    CameraFrame,
    CheckpointError,
    ImageRef,
    Keypoint,
    Keypoints,
    Observation,
    Proprioception,
    Step,
    UnknownNameError,
)

TARGET = (0.45, 0.05, 0.03)


def topdown(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    pose = np.eye(4)
    pose[:3, :3] = [[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]]
    pose[:3, 3] = (x, y, z)
    return pose


def proprio(x: float = 0.45, y: float = 0.05, z: float = 0.2, yaw: float = 0.0, width: float = 0.08) -> Proprioception:
    return Proprioception(
        q=np.zeros(7), dq=np.zeros(7), T_world_ee=topdown(x, y, z, yaw), gripper_width_m=width, time_s=1.0
    )


def frame(name: str, depth: bool = True, box: float = 0.0) -> CameraFrame:
    """A camera that looks straight down on the table from 0.8 m, with a box of that height on the target."""
    height, width, focal = 48, 64, 60.0
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    pose = np.eye(4)
    pose[:3, :3] = [[0, -1, 0], [-1, 0, 0], [0, 0, -1]]
    pose[:3, 3] = (0.45, 0.05, 0.8)
    metres = np.full((height, width), 0.8, dtype=np.float32)
    metres[20:28, 28:36] -= box
    rgb = np.full((height, width, 3), 120, dtype=np.uint8)
    rgb[20:28, 28:36] = (200, 30, 30)
    return CameraFrame(name=name, rgb=rgb, depth_m=metres if depth else None, K=K, T_world_camera=pose, time_s=1.0)


def observation(depth: bool = True, box: float = 0.04, width: float = 0.08) -> Observation:
    frames = (frame("front", depth, box), frame("wrist", depth, box))
    return Observation(frames=frames, proprio=proprio(width=width), time_s=1.0)


def step(skill: str = "pick", position: tuple[float, float, float] | None = TARGET) -> Step:
    image = ImageRef(camera="front", sha256="0" * 64, width=64, height=48, time_s=1.0)
    points = Keypoints(image=image, points=(Keypoint(label="red block", u=32.0, v=24.0, position_w=position),))
    return Step(id="s1", skill=skill, args={"object": "red block"}, artifacts=(points,))


@pytest.fixture(scope="module")
def policy() -> FlowPolicy:
    torch.manual_seed(0)
    return FlowPolicy(FlowNet(NetworkSpec()))


def test_act_gives_a_chunk_in_the_world_frame(policy: FlowPolicy) -> None:
    assert isinstance(policy, Policy)
    policy.reset(step(), 3)
    chunk = policy.act(observation(), step())
    assert chunk.horizon == 16 and chunk.frame == "world" and chunk.observed_at_s == 1.0
    assert np.linalg.norm(chunk.positions.mean(axis=0) - TARGET) < 0.5
    assert ((chunk.gripper >= 0) & (chunk.gripper <= 1)).all()
    assert chunk.done_prob is not None and chunk.policy == policy.id


def test_same_seed_same_chunk_other_seed_other_chunk(policy: FlowPolicy) -> None:
    def first(seed: int) -> np.ndarray:
        policy.reset(step(), seed)
        return policy.act(observation(), step()).positions

    assert np.array_equal(first(5), first(5))
    assert not np.array_equal(first(5), first(6))


def test_the_policy_depends_on_the_artifact_unless_it_is_blanked(policy: FlowPolicy) -> None:
    blank = FlowPolicy(policy.network, blank_artifact=True)
    moved = step(position=(0.40, -0.05, 0.03))
    chunks = {}
    for who, name in ((policy, "full"), (blank, "blank")):
        for s, where in ((step(), "here"), (moved, "there")):
            who.reset(s, 1)
            chunks[name, where] = who.act(observation(), s).positions
    assert not np.allclose(chunks["full", "here"], chunks["full", "there"])
    assert np.array_equal(chunks["blank", "here"], chunks["blank", "there"])
    assert blank.id.endswith("-blank")


def test_missing_target_is_a_typed_error(policy: FlowPolicy) -> None:
    with pytest.raises(MissingTargetError, match="s1 .pick.*carries keypoints.*Ground") as caught:
        policy.act(observation(), step(position=None))
    assert caught.value.found == ("keypoints",)
    with pytest.raises(MissingTargetError, match="nothing"):
        target_point(Step(id="s9", skill="pick"))
    assert np.allclose(target_point(step()), TARGET)


def test_camera_without_depth_is_a_camera_error(policy: FlowPolicy) -> None:
    with pytest.raises(CameraError, match="front.*depth"):
        policy.act(observation(depth=False), step())


def test_missing_camera_is_a_camera_error(policy: FlowPolicy) -> None:
    alone = Observation(frames=(frame("front"),), proprio=proprio(), time_s=1.0)
    with pytest.raises(CameraError, match="wrist"):
        policy.act(alone, step())


def test_unknown_skill(policy: FlowPolicy) -> None:
    with pytest.raises(UnknownNameError, match="juggle"):
        policy.reset(step("juggle"), 0)


def test_features_are_relative_to_the_keypoint_and_deterministic() -> None:
    target = np.array(TARGET)
    a = observe_features(observation(box=0.04), target)
    b = observe_features(observation(box=0.04), target)
    assert np.array_equal(a.points, b.points) and a.count == b.count > 20
    cloud = a.points[: a.count]
    top = cloud[np.abs(cloud[:, 2] - (0.04 - TARGET[2])) < 1e-3]
    assert len(top) > 5 and np.abs(top[:, :2]).max() < 0.06
    assert (top[:, 3] > 0.2).all(), "the box is red"
    assert np.abs(cloud[:, :2]).max() <= FeatureSpec().half_xy_m
    assert not a.points[a.count :].any()


def test_proprio_features_know_no_difference_between_the_two_sides_of_the_gripper() -> None:
    target = np.array(TARGET)
    assert np.allclose(
        proprio_features(proprio(yaw=0.3), target), proprio_features(proprio(yaw=0.3 + np.pi), target), atol=1e-6
    )


def test_the_arm_is_cut_out_but_what_it_holds_is_not() -> None:
    hand = proprio(0.45, 0.05, 0.2, width=0.05)
    points = np.array(
        [
            [0.45, 0.05, 0.2],  # between the pads
            [0.45, 0.05 + 0.030, 0.2],  # on a finger
            [0.45, 0.05, 0.26],  # in the hand
            [0.45, 0.05, 0.5],  # in the arm
            [0.45, 0.05, 0.1],  # under it
        ]
    )
    assert on_arm(points, hand).tolist() == [False, True, True, True, False]


def test_thinning_gives_each_camera_and_the_table_their_share() -> None:
    rng = np.random.default_rng(0)
    spec = FeatureSpec(points=100)
    cloud = np.zeros((9000, 7), dtype=np.float32)
    cloud[:, :2] = rng.uniform(-0.1, 0.1, (9000, 2))
    cloud[:4000, 2] = -0.03
    cloud[4000:, 2] = rng.uniform(0.0, 0.1, 5000)
    cloud[5000:, 6] = 1.0
    kept = thin(cloud, 0.03, spec)
    table = np.abs(kept[:, 2] + 0.03) < 0.004
    front = ~table & (kept[:, 6] == 0)
    assert (len(kept), table.sum(), front.sum()) == (100, 25, 42)
    assert len(thin(cloud[:0], 0.03, spec)) == 0


def test_save_and_load_round_trip(policy: FlowPolicy, tmp_path: Path) -> None:
    policy.save(tmp_path, note="x")
    again = FlowPolicy.load(tmp_path)
    for p in (policy, again):
        p.reset(step(), 2)
    assert np.array_equal(policy.act(observation(), step()).positions, again.act(observation(), step()).positions)
    assert json.loads((tmp_path / "config.json").read_text())["note"] == "x"


@pytest.mark.parametrize("damage", ["no folder", "no weights", "truncated", "other sizes", "other format", "no json"])
def test_bad_weights_are_a_checkpoint_error(policy: FlowPolicy, tmp_path: Path, damage: str) -> None:
    policy.save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "no weights":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "no json":
        config.write_text("{")
    else:
        values = json.loads(config.read_text())
        if damage == "other sizes":
            values["network"]["width"] = 48
        if damage == "other format":
            values["format"] = 99
        config.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="checkpoint"):
        FlowPolicy.load(tmp_path / "nowhere" if damage == "no folder" else tmp_path)


def test_registry_suggests_and_refuses_duplicates(policy: FlowPolicy) -> None:
    assert "flow" in names()
    with pytest.raises(UnknownNameError, match="Did you mean 'flow'"):
        create("flo")
    with pytest.raises(DuplicatePolicyError, match="flow"):
        register("flow", lambda: policy)
    register("test-own-policy", lambda: policy)
    assert create("test-own-policy") is policy


def test_the_flow_reaches_the_chunk_that_the_network_believes_in(policy: FlowPolicy) -> None:
    net = policy.network
    context = torch.zeros(2, net.spec.context)
    noise = torch.randn(2, 16, 6)
    exact = torch.linspace(-1, 1, 2 * 16 * 6).view(2, 16, 6)
    net.predict = lambda noisy, modulations: exact  # type: ignore[method-assign]
    try:
        assert torch.allclose(net.sample(context, noise, 7), net.denormalise(exact), atol=1e-5)
    finally:
        del net.predict


def cloud_of_a_sponge(yaw: float, at: tuple[float, float], keypoint: tuple[float, float]) -> PolicyInput:
    """A sponge's top and sides as points on the table, seen from a keypoint that somebody set off its middle."""
    rng = np.random.default_rng(3)
    local = rng.uniform(-1, 1, (240, 3)) * (0.045, 0.030, 0.0175) + (0, 0, 0.0175)
    points = np.zeros((320, 7), dtype=np.float32)
    points[:240, :2] = rotate(local[:, :2], yaw) + np.array(at) - np.array(keypoint)
    points[:240, 2] = local[:, 2] - 0.03
    gaze = proprio_features(proprio(keypoint[0], keypoint[1] + 0.01, 0.16, yaw=0.05), np.array([*keypoint, 0.03]))
    return PolicyInput(points, 240, gaze)


def test_a_pick_is_seen_in_the_frame_of_the_thing() -> None:
    inputs = cloud_of_a_sponge(0.4, (0.45, 0.0), (0.47, 0.015))
    frame = grasp_frame(inputs)
    assert np.allclose(frame.middle, (-0.02, -0.015), atol=0.004)
    assert frame.yaw == pytest.approx(0.4, abs=0.1)
    inside = in_frame(inputs, frame)
    assert np.abs(inside.points[:240, 0]).max() < 0.05 and np.abs(inside.points[:240, 1]).max() < 0.036
    assert inside.proprio[3] == pytest.approx(np.sin(2 * (0.05 - frame.yaw)), abs=1e-5)


def test_the_frame_of_a_thing_does_not_depend_on_where_it_was_pointed_at() -> None:
    one = grasp_frame(cloud_of_a_sponge(-0.3, (0.45, 0.0), (0.45, 0.0)))
    two = grasp_frame(cloud_of_a_sponge(-0.3, (0.45, 0.0), (0.43, 0.01)))
    assert np.allclose(one.middle, two.middle + (-0.02, 0.01), atol=1e-5)
    assert one.yaw == pytest.approx(two.yaw)


def test_without_anything_solid_the_frame_is_the_keypoints_own() -> None:
    empty = PolicyInput(np.zeros((320, 7), dtype=np.float32), 0, proprio_features(proprio(yaw=0.2), np.array(TARGET)))
    frame = grasp_frame(empty)
    assert not frame.middle.any() and frame.yaw == pytest.approx(0.2, abs=1e-6)


def test_actions_leave_a_frame_as_they_entered_it() -> None:
    frame = grasp_frame(cloud_of_a_sponge(0.4, (0.45, 0.0), (0.47, 0.015)))
    rows = np.random.default_rng(0).normal(size=(16, 6))
    assert np.allclose(from_frame(to_frame(rows, frame), frame), rows)
    yaw = 0.3
    row = np.array([0.0, 0.0, 0.1, np.sin(2 * yaw), np.cos(2 * yaw), 1.0])
    turned = from_frame(row, frame)
    assert 0.5 * np.arctan2(turned[3], turned[4]) == pytest.approx(yaw + frame.yaw)
    assert np.allclose(turned[:2], frame.middle)
