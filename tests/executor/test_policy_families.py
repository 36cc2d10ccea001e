"""The families beside flow: tokens and back, sampling, ensembling, inpainting, folders that say what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.executor.agent import policies
from hiervla.executor.policies import MissingTargetError, Policy
from hiervla.executor.policies.act import ActNet, ActPolicy
from hiervla.executor.policies.action_tokens import PAD, fit_bins, fit_fast, make_tokeniser
from hiervla.executor.policies.base import HOVER_M, SKILLS
from hiervla.executor.policies.chunks import ChunkPolicy, Past
from hiervla.executor.policies.diffusion import DiffusionNet, signal_shares
from hiervla.executor.policies.families import FAMILIES, load_policy, policy_class
from hiervla.executor.policies.flow import FlowPolicy, sureness
from hiervla.executor.policies.network import ChunkNet, FlowNet, Known, NetworkSpec
from hiervla.executor.policies.tokens import BinTokenNet, FastTokenNet, TokenNet
from hiervla.representations import (
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
from hiervla.skills import SkillContext, SkillLibrary

TARGET = (0.45, 0.05, 0.03)
SMALL = NetworkSpec(width=16, heads=4, context=32, trunk=32, blocks=1)


def chunks(n: int = 200, seed: int = 0) -> np.ndarray[Any, Any]:
    """Smooth reaches from one place to another, with a hand that closes on the way: (n, 16, 6)."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-0.05, 0.05, (2, n, 1, 6)).astype(np.float32)
    share = (1 - np.cos(np.linspace(0, np.pi, 16))) / 2
    out = a + share[None, :, None] * (b - a)
    out[..., 5] = np.arange(16) < rng.integers(0, 17, (n, 1))
    return np.asarray(out, dtype=np.float32)


def observation(box: float = 0.04) -> Observation:
    """Two cameras that look straight down on a red box at the target."""
    K = np.array([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1.0]])
    pose = np.eye(4)
    pose[:3, :3] = [[0, -1, 0], [-1, 0, 0], [0, 0, -1]]
    pose[:3, 3] = (0.45, 0.05, 0.8)
    depth = np.full((48, 64), 0.8, dtype=np.float32)
    depth[20:28, 28:36] -= box
    rgb = np.full((48, 64, 3), 120, dtype=np.uint8)
    frames = tuple(
        CameraFrame(name=n, rgb=rgb, depth_m=depth, K=K, T_world_camera=pose, time_s=1.0) for n in ("front", "wrist")
    )
    hand = np.eye(4)
    hand[:3, :3] = np.diag([1.0, -1.0, -1.0])
    hand[:3, 3] = (0.46, 0.04, 0.16)
    proprio = Proprioception(q=np.zeros(7), dq=np.zeros(7), T_world_ee=hand, gripper_width_m=0.08, time_s=1.0)
    return Observation(frames=frames, proprio=proprio, time_s=1.0)


def step(position: tuple[float, float, float] | None = TARGET) -> Step:
    image = ImageRef(camera="front", sha256="0" * 64, width=64, height=48, time_s=1.0)
    points = Keypoints(image=image, points=(Keypoint(label="box", u=32.0, v=24.0, position_w=position),))
    return Step(id="s1", skill="place", args={}, artifacts=(points,))


def made(family: str, **options: Any) -> ChunkPolicy[Any]:
    torch.manual_seed(1)
    kind = policy_class(family)
    return kind(kind.network_class.fresh(SMALL, chunks()), **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_a_policy_and_survives_its_folder(family: str, tmp_path: Path) -> None:
    policy = made(family)
    assert isinstance(policy, Policy) and policy.network.family == family
    policy.save(tmp_path, note="kept")
    again = load_policy(tmp_path)
    assert type(again) is type(policy)
    given = []
    for p in (policy, policy, again):
        p.reset(step(), 4)
        given.append(p.act(observation(), step()))
    assert given[0].horizon == 16 and given[0].done_prob is not None and given[0].progress is not None
    assert np.array_equal(given[0].positions, given[1].positions), "the same seed gives the same chunk"
    assert np.allclose(given[0].positions, given[2].positions, atol=1e-6)
    assert json.loads((tmp_path / "config.json").read_text())["note"] == "kept"
    assert policies(str(tmp_path))("flow").id == policy.id, "a folder takes the default policy's place"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_acts_on_the_artifact(family: str) -> None:
    policy = made(family)
    there = []
    for where in (TARGET, (0.40, 0.0, 0.03)):
        policy.reset(step(where), 0)
        there.append(policy.act(observation(), step(where)).positions.mean(axis=0))
    assert not np.allclose(there[0], there[1], atol=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_the_step_where_it_learned_to(family: str) -> None:
    policy, there = made(family), []
    policy.network = policy.network.grown(words=64).eval()
    policy.network.words.learn(policy.network.read(["red"]))
    torch.nn.init.normal_(policy.network.words.out.weight)
    for text in ("", "the red one", "the blue one"):
        policy.reset(step(), 0)
        there.append(policy.act(observation(), step().replace(text=text)).positions)
    assert not np.allclose(there[0], there[1], atol=1e-3), "what it read"
    assert np.array_equal(there[0], there[2]), "what it never learned"


def test_a_folder_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    made("act").save(tmp_path)
    with pytest.raises(CheckpointError, match="family 'act' and not 'flow'"):
        FlowPolicy.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "family": "rnn"}))
    with pytest.raises(CheckpointError, match="names the family 'rnn', and this version knows flow, act"):
        load_policy(tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'diffusion'"):
        policy_class("difusion")


@pytest.mark.parametrize("damage", ["kind", "low", "merges"])
def test_a_broken_tokeniser_is_a_checkpoint_error(damage: str, tmp_path: Path) -> None:
    made("fast").save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    if damage == "kind":
        config["head"]["kind"] = "words"
    else:
        del config["head"][damage]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="does not describe a fast policy"):
        load_policy(tmp_path)


def test_a_step_without_a_point_is_refused_or_done_under_the_tool() -> None:
    with pytest.raises(MissingTargetError):
        made("flow").act(observation(), step(None))
    policy = made("flow", without_point="hover")
    policy.reset(step(None), 0)
    blind = policy.act(observation(), step(None))
    under = (0.46, 0.04, 0.16 - HOVER_M["place"])
    policy.reset(step(under), 0)
    assert np.allclose(blind.positions, policy.act(observation(), step(under)).positions)


def test_the_hover_of_each_skill_is_that_of_its_transit() -> None:
    library, seen = SkillLibrary.load(), observation()
    context = SkillContext(step(), seen, seen.proprio)
    for skill in SKILLS:
        assert library.get(skill).approach(context).height_m == HOVER_M[skill]


def test_bins_come_back_within_half_a_bin_and_clip_what_is_outside() -> None:
    data = chunks()
    head = fit_bins(data)
    bins = make_tokeniser(head)
    ids = bins.encode(data)
    assert ids.shape == (200, 48) and ids.min() >= 0 and ids.max() < 256 == bins.vocabulary
    width = (np.array(head["high"]) - np.array(head["low"])) / 256
    back = np.array([bins.decode(row) for row in ids.tolist()])
    assert (np.abs(back[:, ::2] - data[:, ::2]) <= width / 2 + 1e-6).all()
    assert np.allclose(back[:, 1:14:2], (back[:, 0:13:2] + back[:, 2:15:2]) / 2), "in between, straight lines"
    far = bins.decode(bins.encode(data[:1] + 10.0)[0].tolist())
    assert np.allclose(far, np.array(head["high"]) - width / 2)


def test_fast_tokens_are_few_and_come_back_close() -> None:
    data = chunks()
    fast = make_tokeniser(json.loads(json.dumps(fit_fast(data, vocabulary=600))))
    fresh = chunks(50, seed=9)
    ids = fast.encode(fresh)
    real = ids != PAD
    assert (np.where(real, fast.covers[ids.clip(0)], 0).sum(axis=1) == fast.values).all()
    assert real.sum(axis=1).mean() < 0.5 * fast.values, "byte pairs and rounding compress"
    back = np.array([fast.decode(row) for row in ids.tolist()])
    assert np.abs(back - fresh)[..., :3].max() < 0.01 and np.abs(back - fresh)[..., :3].mean() < 0.003
    wild = np.random.default_rng(0).normal(0, 5, (20, 16, 6))
    assert np.isfinite([fast.decode(row) for row in fast.encode(wild).tolist()]).all(), "any values have tokens"


@pytest.mark.parametrize("kind", [BinTokenNet, FastTokenNet])
def test_writing_token_by_token_agrees_with_reading_all_at_once(kind: type[TokenNet]) -> None:
    torch.manual_seed(0)
    net = kind.fresh(SMALL, chunks()).eval()
    context = torch.randn(3, SMALL.context)
    with torch.no_grad():
        rows = net.write(context).numpy()
        caches: list[Any] = [None] * len(net.layers)
        ids = torch.randint(0, net.tokeniser.vocabulary, (3, 5))
        place = torch.tensor([[0, 1, 2, 3, 4, 5]]).expand(3, -1)
        at_once = net._logits(context, ids, place)
        h = net.begin(context)[:, None]
        for t in range(6):
            h = h + net.place(place[:, t : t + 1])
            for i, layer in enumerate(net.stack):
                h, caches[i] = layer(h, layer.modulation(context), caches[i])
            assert torch.allclose(net.out(net.norm(h))[:, 0], at_once[:, t], atol=1e-4)
            h = net.token(ids[:, min(t, 4)])[:, None]
    assert rows.shape == (3, 16, 6) and np.isfinite(rows).all()


def test_chance_at_a_temperature_follows_the_seed() -> None:
    policy = made("tokens", temperature=1.0)
    given = []
    for seed in (1, 1, 2):
        policy.reset(step(), seed)
        given.append(policy.act(observation(), step()).positions)
    assert np.array_equal(given[0], given[1]) and not np.array_equal(given[0], given[2])


def test_ensembling_averages_what_chunks_say_of_the_same_moment() -> None:
    policy = ActPolicy(ActNet(SMALL), ensemble=0.5)
    early, late = np.zeros((16, 6)), np.ones((16, 6))
    policy.history.append(Past(0.0, early))
    rows = policy.settle(late, 0.8)
    new = np.exp(-0.5) / (1.0 + np.exp(-0.5))
    assert np.allclose(rows[:8], new), "eight rows overlap, the older counts more"
    assert np.allclose(rows[8:], 1.0)
    policy.ensemble = None
    assert policy.settle(late, 0.8) is late


def test_a_past_chunk_is_read_between_its_rows_and_not_beyond() -> None:
    past = Past(1.0, np.arange(16.0)[:, None] * np.ones(6))
    assert past.at(1.05, 10.0) is None and past.at(2.61, 10.0) is None
    first, between, last = (past.at(t, 10.0) for t in (1.1, 1.35, 2.6))
    assert first is not None and between is not None and last is not None
    assert [first[0], between[0], last[0]] == pytest.approx([0.0, 2.5, 15.0])


def test_denoising_ends_at_the_chunk_that_the_network_believes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    net = DiffusionNet(SMALL)
    exact = torch.linspace(-1, 1, 2 * 16 * 6).view(2, 16, 6)
    monkeypatch.setattr(net, "predict", lambda noisy, modulations: exact)
    context = torch.zeros(2, SMALL.context)
    assert torch.allclose(net.sample(context, torch.randn(2, 16, 6), 7), net.denormalise(exact), atol=1e-5)
    shares = signal_shares()
    assert (shares.diff() < 0).all() and shares[0] > 0.99 and 0.0 < shares[-1] < 0.01


def test_known_rows_pull_a_chunk_where_they_are_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    net = FlowNet(SMALL)
    monkeypatch.setattr(net, "predict", lambda noisy, modulations: noisy)
    noise, context = torch.zeros(1, 16, 6), torch.zeros(1, SMALL.context)
    known = Known(net.denormalise(torch.ones(16, 6)), sureness(16, 8, 2))
    out = net.normalise(net.sample(context, noise, 5, known))[0, :, 0]
    assert (out[:2] - 1.0).abs().max() < 0.15, "rows that are under way are kept"
    assert (out[2:8].diff() < 0).all() and out[8:].abs().max() < 1e-6, "the end is free"


def test_sureness_falls_from_the_delay_to_the_end_of_what_is_known() -> None:
    sure = sureness(16, 8, 2)
    assert (sure[:2] == 1.0).all() and (sure[8:] == 0.0).all()
    assert (sure[1:9].diff() < 0).all()


def test_inpainting_keeps_a_chunk_near_the_one_before() -> None:
    gaps = {}
    for inpaint in (False, True):
        policy = made("flow", inpaint=inpaint, noise=1.0)
        policy.reset(step(), 0)
        first = policy.act(observation(), step())
        later = observation().replace(time_s=1.8)
        second = policy.act(later, step())
        gaps[inpaint] = np.linalg.norm(second.positions[:2] - first.positions[8:10], axis=1).mean()
    assert gaps[True] < gaps[False]


def test_the_shared_part_has_the_same_names_in_every_family() -> None:
    common = None
    for family in FAMILIES:
        net: ChunkNet = policy_class(family).network_class.fresh(SMALL, chunks())
        names = {k for k in net.state_dict() if k.split(".")[0] in net.common()}
        assert common is None or names == common
        common = names
