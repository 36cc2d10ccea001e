"""Rollouts in the simulator: judged by ground truth, helped by an expert, in scenes that nothing is measured in."""

from __future__ import annotations

import numpy as np

from hiervla.executor.policies.features import FeatureSpec
from hiervla.representations import ActionChunk, Observation, Step
from hiervla.training.improve.rollouts import Exploration
from hiervla.training.improve.situations import Situation
from hiervla.training.reliability import measured_pick

FEATURES = FeatureSpec(points=64)


class Still:
    """Stays where it is."""

    id = "still"

    def reset(self, step: Step, seed: int) -> None:
        pass

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        here = observation.proprio
        return ActionChunk(
            positions=np.tile(here.ee_position, (16, 1)), yaws=np.full(16, here.ee_yaw), gripper=np.ones(16),
            rate_hz=10.0, observed_at_s=observation.time_s, done_prob=0.0, progress=0.0, policy=self.id,
        )  # fmt: skip


def test_the_expert_takes_over_from_a_policy_that_does_nothing() -> None:
    situation = Situation("pick", "block", "table")
    helped = [situation.roll_out(seed, Still(), Exploration(takeovers=1.0), FEATURES) for seed in range(2)]
    trail = next(t for t in helped if t is not None and t.success)
    mine = [m for m in trail.moments if not m.human]
    expert = [m for m in trail.moments if m.human]
    assert {m.outcome for m in expert} == {1} and {m.outcome for m in mine} in ({0}, {-1})
    assert max(m.time_s for m in mine) < min(m.time_s for m in expert) <= trail.seconds
    # The expert's chunks close the hand; those of the policy, moved a little, did not.
    assert min(m.sample.actions[:, 5].min() for m in expert) == 0.0
    assert all(m.sample.actions[:, 5].min() == 1.0 for m in mine)
    assert trail.number < 0 and ("block" in trail.words or "cube" in trail.words)


def test_without_help_it_fails_and_the_same_seed_gives_the_same() -> None:
    situation = Situation("pick", "block", "table")
    first, again = (situation.roll_out(3, Still(), Exploration(takeovers=0.0), FEATURES) for _ in range(2))
    assert first is not None and again is not None
    assert not first.success and {m.outcome for m in first.moments} == {0}
    np.testing.assert_array_equal(first.moments[-1].sample.actions, again.moments[-1].sample.actions)


def test_scenes_to_learn_in_are_none_to_be_measured_in() -> None:
    for seed in range(20):
        measured, learned = (
            measured_pick("block", "drawer", seed),
            measured_pick("block", "drawer", seed, training=True),
        )
        assert measured is not None and learned is not None
        assert measured[0].seed % 2 == 1 and learned[0].seed % 2 == 0
