"""Language: two things in view, and the words alone say which is meant; what training keeps, hides and refuses."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hiervla.executor.policies.families import load_policy, policy_class
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.executor.policies.network import ChunkNet, NetworkSpec
from hiervla.training.augment import augment
from hiervla.training.demos import DemoError, DemoSet, DemoWriter, Sample, load_demos
from hiervla.training.improve.learning import AdvantageTrainer, lessons
from hiervla.training.policy import Trainer, TrainingError, TrainSpec, train_policy
from hiervla.training.texts import Texts
from tests.training.improve import tiny

COLOURS = {"red": (0.4, -0.4, -0.4), "blue": (-0.4, -0.4, 0.4)}
VERBS = ("go to", "move over to", "reach for")
POINTS = tiny.FEATURES.points


def sides(folder: Path, episodes: int = 60, seed: int = 0, words: bool = True) -> Path:
    """Two clusters, red and blue, 4 cm to either side of the point; the step says which one to go to."""
    rng, writer = np.random.default_rng(seed), DemoWriter({"seed": seed}, FeatureSpec(points=POINTS))
    for e in range(episodes):
        samples: list[Sample] = []
        side = (-1) ** int(rng.integers(2))
        wanted = ("red", "blue")[e % 2]
        centres = {"red": np.array([0.0, 0.04 * side, 0.0]), "blue": np.array([0.0, -0.04 * side, 0.0])}
        for k in range(6):
            ee = np.array([0.01, -0.01, 0.16 - 0.02 * k]) + rng.normal(0, 0.01, 3)
            points = np.zeros((POINTS, 7), dtype=np.float32)
            for i, (colour, rgb) in enumerate(COLOURS.items()):
                mine = slice(10 * i, 10 * i + 10)
                points[mine, :3] = centres[colour] + rng.normal(0, 0.005, (10, 3))
                points[mine, 3:6] = rgb
            proprio = np.array([*ee, 0.0, 1.0, 0.08, 0.0, 0.02, ee[2] + 0.02, 0, 0, 0], dtype=np.float32)
            share = np.linspace(0, 1, 16)[:, None]
            way = (1 - share) * ee + share * centres[wanted]
            rows = np.concatenate([way, 0 * share, 1 + 0 * share, 1 - share], axis=1)
            samples.append(Sample(PolicyInput(points, 20, proprio), rows.astype(np.float32), k > 4, k / 6))
        text = f"{VERBS[e % 3]} the {wanted} block" if words else ""
        writer.add("place", samples, seed * 1000 + e, words=text)
    writer.write(folder / "a.npz")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sides(tmp_path_factory.mktemp("sides"))


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return load_demos([sides(tmp_path_factory.mktemp("held out"), 20, 7)])


@cache
def small() -> NetworkSpec:
    return NetworkSpec(width=32, heads=8, context=64, trunk=64, blocks=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights from before there were words."""
    torch.manual_seed(0)
    folder, kind = tmp_path_factory.mktemp("weights"), policy_class("flow")
    kind(kind.network_class.fresh(small(), np.zeros((1, 16, 6), np.float32)), FeatureSpec(points=POINTS)).save(folder)
    return folder


def settings(**options: Any) -> TrainSpec:
    given: dict[str, Any] = {"family": "flow", "steps": 9, "batch": 48, "points": 20, "held_out": 0.0, "ema": 0.9}
    return TrainSpec(**{**given, **options})


def trained(data: Path, weights: Path, steps: int = 260, **options: Any) -> Trainer:
    trainer = Trainer(load_demos([data]), settings(lr=2e-2, draws=2, **options), init=weights)
    for k in range(steps):
        trainer.train_step(0.3 if k < 0.7 * steps else 0.85)
    return trainer


@torch.no_grad()
def misses(network: ChunkNet, demos: DemoSet, texts: Iterable[str]) -> np.ndarray[Any, Any]:
    """(N, 2) metres from where the chunks end to the thing that was meant, and to the other one."""
    batch = augment(demos, np.arange(len(demos)), None, POINTS)
    points, valid, proprio, skill, actions, _ = (torch.from_numpy(a) for a in batch)
    chunk = network.eval().guess(network.encode(points, valid, proprio, skill, network.read(list(texts))))
    goal = actions[:, -1, :3]
    other = goal * torch.tensor([1.0, -1.0, 1.0])
    return torch.stack([(chunk[:, -1, :3] - g).norm(dim=-1) for g in (goal, other)], dim=1).numpy()


@pytest.fixture(scope="module")
def reads(data: Path, weights: Path) -> ChunkNet:
    return trained(data, weights, words=True, drop_words=0.1).average


def test_words_say_which_thing_is_meant(reads: ChunkNet, held_out: DemoSet) -> None:
    said = misses(reads, held_out, held_out.words)
    assert said[:, 0].mean() < 0.012 and said[:, 1].mean() > 0.06
    assert (said[:, 0] < said[:, 1]).mean() > 0.98
    swapped = [w.replace("red", "?").replace("blue", "red").replace("?", "blue") for w in held_out.words]
    other = misses(reads, held_out, swapped)
    assert other[:, 1].mean() < 0.012 and other[:, 0].mean() > 0.06, "the same sight, other words, the other thing"


def test_without_words_nobody_can_tell(data: Path, weights: Path, held_out: DemoSet) -> None:
    network = trained(data, weights).average
    assert network.spec.words == 0
    error = misses(network, held_out, held_out.words)
    assert error[:, 0].mean() > 0.03, "between the two, or at either by chance"
    assert abs(error[:, 0].mean() - error[:, 1].mean()) < 0.02


def test_missing_and_unknown_words_do_not_break_it(reads: ChunkNet, held_out: DemoSet) -> None:
    silent = misses(reads, held_out, [""] * len(held_out))
    assert np.isfinite(silent).all() and silent.min(axis=1).mean() < 0.07, "near the things, though not at the one"
    assert np.array_equal(misses(reads, held_out, ["glorp zwibble"] * len(held_out)), silent)
    # Unknown verbs and politeness around a known colour leave it known.
    polite = [f"kindly amble towards the {w.split(' the ')[1]}" for w in held_out.words]
    said = misses(reads, held_out, polite)
    assert (said[:, 0] < said[:, 1]).mean() > 0.95


def test_training_with_words_is_deterministic_and_resumes(data: Path, weights: Path, tmp_path: Path) -> None:
    def made() -> Trainer:
        return Trainer(load_demos([data]), settings(words=True, drop_words=0.3, drop_point=0.2), init=weights)

    through = made()
    for _ in range(4):
        through.train_step(0.5)
    stopped = made()
    for _ in range(2):
        stopped.train_step(0.5)
    stopped.save(tmp_path / "c.pt")
    torch.rand(3)
    resumed = made()
    resumed.resume(tmp_path / "c.pt")
    for _ in range(2):
        resumed.train_step(0.5)
    assert through.network.words.out.weight.abs().max() > 0.0
    for name, value in through.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_words_that_nobody_asked_for_change_no_training(data: Path, weights: Path, tmp_path: Path) -> None:
    sides(tmp_path / "mute", words=False)
    one, two = (trained(d, weights, 3) for d in (data, tmp_path / "mute"))
    assert all(torch.equal(v, two.network.state_dict()[k]) for k, v in one.network.state_dict().items())
    assert one._identity() == two._identity() and "words" not in one._identity()


def test_weights_that_read_are_gone_on_from(data: Path, weights: Path, tmp_path: Path) -> None:
    train_policy([data], tmp_path / "reads", settings(words=True, steps=2), init=weights)
    sides(tmp_path / "more", 6, 3)
    again = Trainer(load_demos([tmp_path / "more"]), settings(), init=tmp_path / "reads").network
    assert again.spec.words and torch.equal(
        again.words.embedding.weight, load_policy(tmp_path / "reads").network.words.embedding.weight
    )
    known = load_policy(tmp_path / "reads").network.words.known
    assert 0 < known.sum() <= again.words.known.sum()
    # The reading is part of the encoder: other families take it along, and it can be frozen with the rest.
    other = TrainSpec(family="tokens", steps=2, batch=8, points=40, freeze_encoder=True, copies=1, words=True)
    train_policy([data], tmp_path / "tokens", other, init=tmp_path / "reads", bank=tmp_path / "bank.npz")
    taken = load_policy(tmp_path / "tokens").network
    assert taken.family == "tokens" and torch.equal(taken.words.known, known)
    assert torch.equal(taken.words.out.weight, load_policy(tmp_path / "reads").network.words.out.weight)


@pytest.mark.parametrize(
    ("options", "mute", "says"),
    [
        ({"freeze_encoder": True}, False, "--freeze-encoder keeps the encoder from learning to read --words"),
        ({}, True, "--words finds no words in these demonstrations"),
    ],
)
def test_settings_that_do_not_go_together(
    options: dict[str, Any], mute: bool, says: str, weights: Path, tmp_path: Path
) -> None:
    demos = load_demos([sides(tmp_path, 4, words=not mute)])
    with pytest.raises(TrainingError, match=says):
        Trainer(demos, settings(words=True, **options), init=weights)


def test_a_share_of_the_words_is_hidden_and_colours_stay_where_they_are_read(data: Path, weights: Path) -> None:
    demos = load_demos([data])
    trainer = Trainer(demos, settings(words=True, drop_words=0.25, batch=8), init=weights)
    rng = np.random.default_rng(0)
    batches = [trainer._changed(np.arange(len(demos)), rng) for _ in range(5)]
    shares = [float((~b[6].any(axis=1)).mean()) for b in batches]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.03)
    # Red points come first in every cloud; with channels swapped they would be green or blue at times.
    cloud, words = batches[0][0], batches[0][6]
    told: list[bool] = np.asarray(words.any(axis=1)).tolist()
    reddest = [
        {int(c) for c in cloud[k][cloud[k, :, 3:6].max(axis=1) > 0.2][:, 3:6].argmax(axis=1)} for k in range(len(cloud))
    ]
    assert all(r <= {0, 2} for r, t in zip(reddest, told, strict=True) if t)
    assert any(1 in r for r, t in zip(reddest, told, strict=True) if not t)


def test_shards_keep_words_and_older_ones_have_none(tmp_path: Path) -> None:
    sides(tmp_path / "new", 4)
    sides(tmp_path / "old", 4, 1, words=False)
    with np.load(tmp_path / "old" / "a.npz") as old:
        assert "words" not in old.files
    both = load_demos([tmp_path / "new", tmp_path / "old"])
    assert len(both.words) == len(both) and both.worded
    assert set(both.words[:24]) == {f"{VERBS[e % 3]} the {('red', 'blue')[e % 2]} block" for e in range(4)}
    assert not (both.words[24:] != "").any()
    few = both.some(3, 0)
    assert len(few.words) == len(few) and not load_demos([tmp_path / "old"]).worded
    with np.load(tmp_path / "new" / "a.npz") as new:
        arrays = dict(new)
    for wrong in (arrays["words"][:-1], np.zeros(24)):
        np.savez(tmp_path / "new" / "a.npz", **arrays | {"words": wrong})
        with pytest.raises(DemoError, match="no text for each of 24 samples"):
            load_demos([tmp_path / "new"])


def test_improvement_keeps_the_words(weights: Path, tmp_path: Path) -> None:
    from hiervla.training.improve.experience import gather, merged, read, write

    trails = [tiny.trail(n, 1, 0.03) for n in range(4)]
    trails[0].words = "put the red block down"
    experience = gather(trails, tiny.FEATURES)
    write(experience, tmp_path / "x.experience.npz", {})
    again = merged([read(tmp_path / "x.experience.npz")[0]])
    assert again.demos.words.tolist() == experience.demos.words.tolist()
    assert set(again.demos.words) == {"put the red block down", ""}
    experts = load_demos([sides(tmp_path / "sides", 4)])
    both = lessons(experts, again, np.zeros(len(again), np.int8), 0.5).demos
    assert both.words.tolist() == [*experts.words.tolist(), *again.demos.words.tolist()]
    # A policy that reads is improved as one that reads.
    network = tiny.network().grown(words=64)
    policy_class("flow")(network, tiny.FEATURES, version="reads-1").save(tmp_path / "w")
    spec = TrainSpec(steps=1, batch=8, points=16, freeze_encoder=True, copies=1, held_out=0.0)
    data = lessons(None, again, np.zeros(len(again), np.int8), 0.5)
    trainer = AdvantageTrainer(data, spec, tmp_path / "w")
    trainer.train_step(0.1)
    assert trainer.network.spec.words == 64 and trainer.network.spec.advantage
    assert Texts.of_demos(again.demos, trainer.network).batch(np.arange(6)).any(axis=1).all()
