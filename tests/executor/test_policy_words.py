"""The part of the network that reads: hashed alike everywhere, without effect until it learned, absent before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.executor.policies.families import FAMILIES, load_policy, policy_class
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.executor.policies.flow import DEFAULT_WEIGHTS, FlowPolicy
from hiervla.executor.policies.network import ChunkNet, NetworkSpec
from hiervla.executor.policies.words import BUCKETS, MOST, SLOTS, hashed, words_of
from hiervla.representations import CheckpointError, Step

SMALL = NetworkSpec(width=16, heads=4, context=32, trunk=32, blocks=1)
RED = "pick up the red block"


def network(family: str = "flow", **options: Any) -> ChunkNet:
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 0.1, (64, 16, 6)).astype(np.float32)
    return policy_class(family).network_class.fresh(NetworkSpec(**{**vars(SMALL), **options}), rows).eval()


def seen(count: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    points = torch.randn(count, 40, 7, generator=g) * 0.05
    return points, torch.ones(count, 40, dtype=torch.bool), torch.rand(count, 12, generator=g), torch.arange(count)


def test_words_are_hashed_alike_everywhere() -> None:
    ids = hashed(RED)
    assert len(ids) == SLOTS and ids[9:] == [0] * (SLOTS - 9), "five words and four pairs"
    # Numbers, so that no platform or version can differ unnoticed: weights would be of no use there.
    assert hashed("red")[0] == 0xFA615F8F % BUCKETS + 1 == 3984
    assert ids[:9] == [3996, 3697, 3559, 3984, 1827, 1592, 1749, 2032, 3294]
    assert hashed("Pick up, the RED block!") == ids
    assert hashed("block red the up pick")[:5] == ids[4::-1] and hashed("block red the up pick")[5:] != ids[5:]
    assert sum(map(bool, hashed("so " * 500))) == SLOTS and hashed("a " * MOST) == hashed("a " * (MOST + 9))
    assert not any(hashed(" ... ")) and any(hashed("赤いブロック")) and any(hashed("\ud800x"))


def test_the_words_of_a_step_are_the_planners() -> None:
    args = {"object": "red block", "target": "top_shelf"}
    assert words_of(Step(id="s1", skill="pick", args=args, text=RED)) == RED
    assert words_of(Step(id="s1", skill="place", args=args)) == "place red block top_shelf"
    assert words_of(Step(id="s1", skill="open_drawer", text="  ")) == ""


def test_the_shipped_weights_lack_the_part_and_their_description_is_as_before() -> None:
    for family in FAMILIES:
        known = json.loads((DEFAULT_WEIGHTS.parent / family / "config.json").read_text())["network"]
        spec = NetworkSpec.from_json(known)
        assert "words" not in known and spec.words == 0
        assert {k: v for k, v in spec.to_json().items() if k in known} == known
    plain = FlowPolicy.load().network
    told = plain.encode(*seen(), plain.read([RED] * 3))
    assert plain.read([RED]).shape == (1, 0) and torch.equal(told, plain.encode(*seen()))
    assert not any("words" in name for name in plain.state_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_gets_the_part_acts_to_the_bit_as_before(family: str) -> None:
    old = network(family)
    new = old.grown(words=BUCKETS)
    assert (new.family, new.spec.words, old.spec.words) == (family, BUCKETS, 0)
    new.words.learn(new.read([RED]))
    for texts in ([RED] * 3, [""] * 3):
        context = new.encode(*seen(), new.read(texts))
        assert torch.equal(context, old.encode(*seen())) and torch.equal(new.guess(context), old.guess(context))
    assert all(torch.equal(v, new.state_dict()[k]) for k, v in old.state_dict().items())
    assert set(new.state_dict()) - set(old.state_dict()) == {f"words.{k}" for k in new.words.state_dict()}


def reading() -> ChunkNet:
    """One that reads, as if it had learned something of the red block."""
    made = network().grown(words=BUCKETS)
    torch.nn.init.normal_(made.words.out.weight)
    made.words.learn(made.read([RED, "blue"]))
    return made.eval()


def test_what_was_never_read_is_as_if_nothing_were_said() -> None:
    made = reading()
    silent = made.encode(*seen())
    for text in ("", "glorp zwibble", "ωμέγα", "?!", "\ud800"):
        assert torch.equal(made.encode(*seen(), made.read([text] * 3)), silent), text
    said = made.encode(*seen(), made.read([RED] * 3))
    assert not torch.allclose(said, silent)
    # Beside known words they are passed over too; the pairs that they break are not there.
    one, two = (made.encode(*seen(), made.read([t] * 3)) for t in ("red", "glorp red zwibble"))
    assert torch.equal(one, two) and not torch.allclose(one, silent)


def test_each_of_a_batch_has_its_own_words() -> None:
    made = reading()
    mixed = made.encode(*seen(), made.read([RED, "", RED]))
    said, silent = made.encode(*seen(), made.read([RED] * 3)), made.encode(*seen())
    assert torch.allclose(mixed[0::2], said[0::2], atol=1e-5) and torch.allclose(mixed[1], silent[1], atol=1e-5)


def test_words_choose_among_the_points_before_they_are_pooled() -> None:
    made = reading()
    points, valid, proprio, skill = (t[:1] for t in seen())
    points[..., 3:6] = torch.tensor([[0.5, -0.5, -0.5], [-0.5, -0.5, 0.5]]).repeat(20, 1)
    found: list[torch.Tensor] = []
    made.words.out.register_forward_pre_hook(lambda _module, given: found.append(given[0]))
    for count in (40, 1):
        for text in ("red", "blue"):
            made.encode(points[:, :count], valid[:, :count], proprio, skill, made.read([text]))
    assert (found[0] - found[1]).abs().max() > 0.01, "other words, other points"
    assert torch.allclose(found[2], found[3], atol=1e-6), "one point leaves nothing to choose"
    # Rows that are no points are never chosen.
    more, real = torch.cat([points, torch.full((1, 8, 7), 9.0)], dim=1), torch.cat([valid, ~valid[:, :8]], dim=1)
    made.encode(more, real, proprio, skill, made.read(["red"]))
    assert torch.allclose(found[4], found[0], atol=1e-6)


def test_a_network_with_the_part_is_kept_with_it(tmp_path: Path) -> None:
    made = reading()
    policy_class("flow")(made, FeatureSpec(points=40), version="reads-1").save(tmp_path)
    read = load_policy(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["network"]["words"] == BUCKETS
    assert all(torch.equal(v, read.network.state_dict()[k]) for k, v in made.state_dict().items())
    rng = np.random.default_rng(0)
    inputs = PolicyInput(rng.normal(0, 0.05, (40, 7)).astype(np.float32), 40, rng.random(12).astype(np.float32))
    rows = {}
    for text in ("", RED, "glorp"):
        read.reset(Step(id="s1", skill="pick"), 7)
        rows[text] = read.infer(inputs, 0, words=text)[0]
    assert np.array_equal(rows[""], rows["glorp"]) and not np.allclose(rows[""], rows[RED])


@pytest.mark.parametrize("value", [True, -1, "4096", 1.5])
def test_a_description_that_is_wrong_is_named(value: object, tmp_path: Path) -> None:
    policy_class("flow")(network(), FeatureSpec(points=40), version="x").save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["words"] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="'words' is"):
        FlowPolicy.load(tmp_path)
