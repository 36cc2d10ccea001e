"""The whole chain on the embedded world: transit, chunks, grasp, transit with the object, all behind the envelope."""

from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.collision import Box, HeldObject, Obstacles
from hiervla.controllers.envelope import EnvelopeEvent, guard
from hiervla.controllers.gripper import GripState
from hiervla.controllers.tracker import ChunkTracker
from hiervla.controllers.transit import TransitPlanner
from hiervla.representations.actions import ActionChunk
from hiervla.worlds.tabletop.sampling import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld


@pytest.fixture
def scene_world() -> TabletopWorld:
    scene = sample_scene(5, n_objects=1, require=[("block", None, "table")], spill=False, stacks=0)
    return TabletopWorld(scene, cameras=())


def test_a_block_is_fetched_behind_the_envelope(scene_world: TabletopWorld) -> None:
    events: list[EnvelopeEvent] = []
    world = guard(scene_world, on_event=events.append)
    block = scene_world._built.scene.objects[0]
    x, y = block.position[:2]
    height = block.size[2]
    solid = Box("block", (x, y, height / 2), (height / 2, height / 2, height / 2), block.yaw)
    planner, tracker = TransitPlanner(), ChunkTracker()

    hover = planner.to_hover(world.reference[0], [x, y, height + 0.12], block.yaw, Obstacles(boxes=(solid,)))
    for command in hover.trajectory.commands(0.08, world.time_s):
        world.step(command)
    assert np.abs(world.proprio().q - hover.goal_q).max() < 0.01

    tracker.reset(*world.reference, gripper_width_m=0.08)
    top, grasp = world.proprio().ee_position, np.array([x, y, max(0.016, height - 0.03)])
    begin = world.time_s
    for tick in range(130):
        if tick % 20 == 0:
            due = np.clip((world.time_s - begin + np.arange(1, 17) / 10.0) / 1.4, 0.0, 1.2)
            share = np.minimum(due, 1.0)[:, None]
            chunk = ActionChunk(
                positions=top + share * share * (3 - 2 * share) * (grasp - top),
                yaws=np.full(16, block.yaw),
                gripper=(due < 1.1).astype(np.float64),
                rate_hz=10.0,
                observed_at_s=world.time_s,
            )
            assert tracker.accept(chunk, world.time_s).usable
        world.step(tracker.step(world.time_s))
        state = tracker.gripper.update(world.proprio())
    assert state is GripState.HOLDING
    np.testing.assert_allclose(world.proprio().ee_position, grasp, atol=2e-3)

    held = HeldObject((height / 2,) * 3, below_m=float(grasp[2]) - height / 2)
    carry = planner.to_joints(world.reference[0], panda.HOME_Q, Obstacles(), held=held)
    for command in carry.trajectory.commands(tracker.gripper.width_m, world.time_s):
        world.step(command)
        state = tracker.gripper.update(world.proprio())
    assert state is GripState.HOLDING
    assert carry.escaped, "the block stands on the table, so the way starts with a lift"
    np.testing.assert_allclose(world.proprio().q, panda.HOME_Q, atol=0.01)
    assert events == [], "nothing in an ordinary fetch may trouble the envelope"
