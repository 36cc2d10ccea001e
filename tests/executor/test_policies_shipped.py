"""The weights that ship: they load, are small, and do each skill once in a scene that training never drew."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from hiervla.executor.policies import SKILLS, create
from hiervla.executor.policies.families import FAMILIES, shipped
from hiervla.executor.policies.flow import DEFAULT_WEIGHTS, FlowPolicy
from hiervla.training.trials import run_trial


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_shipped_weights_are_small_and_described() -> None:
    assert (DEFAULT_WEIGHTS / "model.safetensors").stat().st_size < 8e6
    assert (DEFAULT_WEIGHTS / "README.md").read_text().startswith("# ")
    config = json.loads((DEFAULT_WEIGHTS / "config.json").read_text())
    assert config["network"]["skills"] == list(SKILLS)
    policy = create("flow")
    assert isinstance(policy, FlowPolicy)
    assert sum(p.numel() for p in policy.network.parameters()) < 2e6


@pytest.mark.parametrize("skill", SKILLS)
def test_the_shipped_policy_does_every_skill(skill: str) -> None:
    episode = run_trial(FlowPolicy.load(), skill, 501)
    assert episode.success, episode.reason


def test_the_shipped_policy_needs_its_artifact() -> None:
    """With the planner's point hidden it goes for the middle of the table, and the handle is not there."""
    episode = run_trial(FlowPolicy.load(blank_artifact=True), "open_drawer", 501, timeout_s=4.0)
    assert not episode.success


@pytest.mark.parametrize("family", shipped())
def test_whatever_ships_is_small_described_and_made_by_its_name(family: str) -> None:
    folder = DEFAULT_WEIGHTS.parent / family
    assert (folder / "model.safetensors").stat().st_size < 8e6
    policy = create(family)
    assert policy.id.startswith(f"{family}-")
    assert (folder / "README.md").read_text().startswith(f"# {policy.id}:")
    assert create("flow", path=folder).id == policy.id


def test_every_family_ships() -> None:
    assert shipped() == FAMILIES


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "flow"])
def test_the_other_shipped_policies_place(family: str) -> None:
    episode = run_trial(create(family), "place", 501)
    assert episode.success, episode.reason
