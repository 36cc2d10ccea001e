"""Geometric verdicts and contracts, on observations made by hand; each verdict is seen in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hiervla.representations import (
    CameraFrame,
    ImageRef,
    Keypoint,
    Keypoints,
    Observation,
    Proprioception,
    Step,
)
from hiervla.skills import Belief, MissingTargetError, SkillContext, SkillLibrary
from hiervla.skills.checks import appeared, gone, holding, reachable, released, slid, stain, strayed, wiped

SIZE = 100
SCALE = 200.0  # px a metre at the table


def observation(
    *, boxes: tuple[tuple[float, float, float, float], ...] = (), stain_px: int = 0, width_m: float = 0.08,
    effort_n: float = 0.0,
) -> Observation:  # fmt: skip
    """A camera 1 m above (0.5, 0): image right is +x, image up is +y; boxes are (x, y, half size, height)."""
    T = np.eye(4)
    T[:3, :3] = np.diag([1.0, -1, -1])
    T[:3, 3] = (0.5, 0.0, 1.0)
    depth = np.ones((SIZE, SIZE), np.float32)
    rgb = np.full((SIZE, SIZE, 3), 180, np.uint8)
    for x, y, half, height in boxes:
        u, v, h = (x - 0.5) * SCALE + SIZE / 2, -y * SCALE + SIZE / 2, half * SCALE
        depth[int(v - h) : int(v + h), int(u - h) : int(u + h)] = 1.0 - height
    if stain_px:
        c = SIZE // 2
        rgb[c - stain_px : c + stain_px, c - stain_px : c + stain_px] = (90, 20, 120)
    frame = CameraFrame(
        name="front",
        rgb=rgb,
        depth_m=depth,
        K=np.array([[SCALE, 0, SIZE / 2], [0, SCALE, SIZE / 2], [0, 0, 1]]),
        T_world_camera=T,
        time_s=0.0,
    )
    hand = Proprioception(
        q=np.zeros(7), dq=np.zeros(7), T_world_ee=np.eye(4), gripper_width_m=width_m, gripper_effort_n=effort_n,
        time_s=0.0,
    )  # fmt: skip
    return Observation(frames=(frame,), proprio=hand, time_s=0.0)


def context(skill: str = "pick", target: Any = (0.5, 0.0, 0.0), **changes: Any) -> SkillContext:
    image = ImageRef(camera="front", sha256="0" * 64, width=SIZE, height=SIZE, time_s=0.0)
    keypoints = Keypoints(image=image, points=(Keypoint(label="t", u=50, v=50, position_w=target),))
    step = Step(id="s1", skill=skill, args={"object": "green sponge"}, artifacts=(keypoints,))
    seen = observation()
    return SkillContext(**{"step": step, "before": seen, "proprio": seen.proprio, **changes})


HELD = observation(width_m=0.04, effort_n=20.0).proprio


def test_holding_needs_width_and_force() -> None:
    assert holding(HELD).yes
    assert not holding(observation(width_m=0.04, effort_n=0.0).proprio).yes
    assert not holding(observation(width_m=0.001, effort_n=20.0).proprio).yes
    assert released(observation(width_m=0.078).proprio).yes
    assert not released(HELD).yes


def test_verdicts_are_less_sure_near_their_limits() -> None:
    for check in (released, holding):
        sure, unsure = (check(observation(width_m=w, effort_n=20.0).proprio).confidence for w in (0.03, 0.0765))
        assert 0.5 <= unsure < sure <= 1.0
    near, far, beyond = (reachable(np.array([x, 0.0, 0.05])) for x in (0.795, 0.5, 1.2))
    assert (near.value, far.value, beyond.value) == ("yes", "yes", "no")
    assert near.confidence < 0.6 < far.confidence <= beyond.confidence == 1.0


def test_appeared_sees_a_new_thing_and_not_an_old_one() -> None:
    spot = np.array([0.5, 0.0, 0.0])
    with_block = observation(boxes=((0.5, 0.0, 0.02, 0.04),))
    assert appeared(observation(), with_block, spot).yes
    assert not appeared(with_block, with_block, spot).yes
    assert not appeared(observation(), observation(boxes=((0.6, 0.1, 0.02, 0.04),)), spot).yes


def test_appeared_is_not_fooled_by_the_arm_that_hangs_above() -> None:
    spot = np.array([0.5, 0.0, 0.0])
    hand = (0.515, 0.0, 0.012, 0.40)
    block = (0.495, 0.0, 0.018, 0.04)
    assert appeared(observation(boxes=(hand,)), observation(boxes=(block, hand)), spot).yes
    assert not appeared(observation(boxes=(hand,)), observation(boxes=(hand,)), spot).yes


def test_appeared_is_unsure_out_of_view() -> None:
    assert appeared(observation(), observation(), np.array([3.0, 0.0, 0.0])).value == "unsure"


def test_strayed_sees_what_fell_aside_and_nothing_else() -> None:
    bin_w = np.array([0.35, 0.15, 0.0])
    wall = (0.35, 0.15, 0.05, 0.10)
    before = observation(boxes=(wall,))
    assert strayed(before, observation(boxes=((0.35, 0.15, 0.05, 0.15),)), bin_w).yes, "it rose where it belongs"
    aside = strayed(before, observation(boxes=(wall, (0.6, -0.1, 0.03, 0.04))), bin_w)
    assert (aside.value, aside.confidence) == ("no", 1.0)
    old = observation(boxes=(wall, (0.6, -0.1, 0.03, 0.04)))
    assert strayed(old, old, bin_w).yes, "what stood there before did not fall"
    crumb = observation(boxes=(wall, (0.6, -0.1, 0.006, 0.04)))
    assert strayed(before, crumb, bin_w).yes, "a few pixels are no thing"
    assert strayed(before, None, bin_w).value == "unsure"


def test_slid_follows_the_handle() -> None:
    handle = np.array([0.5, 0.1, 0.08])
    shut = observation(boxes=((0.5, 0.1, 0.02, 0.08),))
    drawn = observation(boxes=((0.5, -0.05, 0.02, 0.08),))
    assert slid(shut, drawn, handle, (0.0, -0.15, 0.0)).yes
    assert not slid(shut, shut, handle, (0.0, -0.15, 0.0)).yes
    assert slid(observation(), drawn, handle, (0.0, -0.15, 0.0)).value == "unsure"


def test_gone_sees_a_thing_leave_and_not_the_table() -> None:
    top = np.array([0.5, 0.1, 0.05])
    there = observation(boxes=((0.5, 0.1, 0.02, 0.05),))
    moved = observation(boxes=((0.6, 0.1, 0.02, 0.05),))
    assert gone(there, moved, top).yes
    assert gone(there, there, top).value == "no"
    assert gone(moved, there, top).value == "unsure", "there was nothing to leave"


def test_without_a_second_picture_everything_that_compares_is_unsure() -> None:
    seen, spot = observation(boxes=((0.5, 0.0, 0.02, 0.05),)), np.array([0.5, 0.0, 0.05])
    verdicts = (
        appeared(seen, None, spot),
        gone(seen, None, spot),
        slid(seen, None, spot, (0.0, -0.15, 0.0)),
        wiped(seen, None, spot),
    )
    assert [(v.name, v.value) for v in verdicts] == [(n, "unsure") for n in ("appeared", "gone", "slid", "wiped")]


def test_wiped_compares_the_stain() -> None:
    centre = np.array([0.5, 0.0, 0.0])
    dirty, clean = observation(stain_px=8), observation()
    assert stain(dirty.frame("front"), centre) > 0.3
    assert wiped(dirty, clean, centre).yes
    assert wiped(dirty, dirty, centre).value == "no"
    assert wiped(clean, clean, centre).value == "unsure"


@pytest.mark.parametrize(
    ("skill", "changes", "ready"),
    [
        ("pick", {}, True),
        ("pick", {"proprio": HELD}, False),
        ("pick", {"target": (2.0, 0.0, 0.0)}, False),
        ("place", {"proprio": HELD}, True),
        ("place", {}, False),
        ("throw_away", {"proprio": HELD}, True),
        ("throw_away", {}, False),
        ("open_drawer", {}, True),
        ("open_drawer", {"proprio": HELD}, False),
        ("close_drawer", {}, True),
        ("wipe", {"proprio": HELD, "belief": Belief(held="green sponge")}, True),
        ("wipe", {"proprio": HELD, "belief": Belief(held="red mug")}, False),
        ("wipe", {"belief": Belief(held="green sponge")}, False),
    ],
)
def test_readiness(skill: str, changes: dict[str, Any], ready: bool) -> None:
    assert SkillLibrary.load().get(skill).ready(context(skill, **changes)).yes is ready


def test_effects_follow_the_hand() -> None:
    library = SkillLibrary.load()
    assert library.get("pick").effect(context()).held == "green sponge"
    held = context(belief=Belief(held="green sponge"))
    assert library.get("place").effect(held).held is None
    assert library.get("wipe").effect(held).held == "green sponge"


def test_place_is_done_when_open_and_seen() -> None:
    place = SkillLibrary.load().get("place")
    before, after = observation(width_m=0.04, effort_n=9.0), observation(boxes=((0.5, 0.0, 0.02, 0.04),))
    assert place.done(context("place", before=before, after=after)).yes
    assert not place.done(context("place", before=before, after=observation())).yes
    assert not place.done(context("place", before=before, after=after, proprio=HELD)).yes


def test_a_step_without_keypoint_is_named() -> None:
    with pytest.raises(MissingTargetError, match=r"step s9 \(pick\): .* the step carries nothing"):
        _ = context(step=Step(id="s9", skill="pick")).target_w
