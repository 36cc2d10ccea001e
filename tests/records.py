"""Makes small run records without a simulator, weights or a renderer, for tests of whatever reads or writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.executor.record.manifest import Manifest
from hiervla.executor.record.recorder import Recorder
from hiervla.executor.record.writer import RunRecorder
from hiervla.representations import (
    ActionChunk,
    AffordanceMap,
    Boxes,
    CameraFrame,
    Condition,
    ImageRef,
    JointCommand,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Proprioception,
    Refusal,
    Step,
    Verdict,
    Waypoint2D,
    Waypoints2D,
)
from hiervla.representations import events as ev
from hiervla.representations.artifacts import Artifact, Box

WIDTH, HEIGHT = 64, 48
PERIOD_S = 0.02


def manifest(instruction: str = "put the red mug on the top shelf", seed: int = 3, **changes: Any) -> Manifest:
    """A manifest of a run in the world ``"fake"``."""
    fields: dict[str, Any] = {"world": "fake", "planner": "scripted", "policy": "line", **changes}
    return Manifest.collect(instruction, seed=seed, **fields)


def frame(number: int = 0, name: str = "front", depth: bool = True) -> CameraFrame:
    """A grey frame of a camera 1 m above the table, with noise that depends on ``number``."""
    rng = np.random.default_rng(number)
    T = np.eye(4)
    T[:3, :3] = np.diag([1.0, -1.0, -1.0])
    T[:3, 3] = (0.5, 0.0, 1.0)
    units = rng.integers(9_000, 10_000, (HEIGHT, WIDTH)).astype(np.uint16)
    return CameraFrame(
        name=name,
        rgb=rng.integers(90, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8),
        depth_m=(units * np.float32(1e-4)).astype(np.float32) if depth else None,
        K=np.array([[60.0, 0.0, WIDTH / 2], [0.0, 60.0, HEIGHT / 2], [0.0, 0.0, 1.0]]),
        T_world_camera=T,
        time_s=number * PERIOD_S,
    )


def proprio(tick: int) -> Proprioception:
    """A state that depends on the tick, with digits to lose."""
    T = np.eye(4)
    T[:3, 3] = (0.35 + tick / 3e3, 0.0, 0.42)
    return Proprioception(
        q=np.sin(np.arange(7) + tick / 7),
        dq=np.cos(np.arange(7) + tick / 7) / 3,
        T_world_ee=T,
        gripper_width_m=0.08 / (tick + 1),
        gripper_effort_n=tick / 3,
        time_s=tick * PERIOD_S,
    )


def command(tick: int) -> JointCommand:
    """The command of a tick."""
    return JointCommand(
        q=np.sin(np.arange(7) + tick / 7 + 0.01), dq=np.zeros(7), gripper_width_m=0.04, time_s=tick * PERIOD_S
    )


def observation(tick: int, cameras: tuple[str, ...] = ("front", "wrist")) -> Observation:
    """What the cameras show at a tick."""
    frames = tuple(frame(tick + 1000 * i, name) for i, name in enumerate(cameras))
    return Observation(frames=frames, proprio=proprio(tick), time_s=tick * PERIOD_S)


def image_ref(frame_: CameraFrame) -> ImageRef:
    """The reference to a frame."""
    return ImageRef(
        camera=frame_.name, sha256=frame_.sha256, width=frame_.width, height=frame_.height, time_s=frame_.time_s
    )


def artifacts(frame_: CameraFrame, label: str, u: float = 40.0, v: float = 12.0) -> tuple[Artifact, ...]:
    """An affordance map that peaks at (u, v), a keypoint there, a box around it and a path to it [px]."""
    ref = image_ref(frame_)
    values = np.full((12, 16), 0.001, np.float32)
    values[int(v * 12 / HEIGHT), int(u * 16 / WIDTH)] = 1.0
    values /= values.sum()
    return (
        AffordanceMap(image=ref, label=label, values=values),
        Keypoints(image=ref, points=(Keypoint(label=label, u=u, v=v, confidence=0.97, position_w=(0.5, 0.1, 0.04)),)),
        Boxes(image=ref, boxes=(Box(label=label, u_min=u - 6, v_min=v - 6, u_max=u + 6, v_max=v + 6),)),
        Waypoints2D(image=ref, points=(Waypoint2D(u=8.0, v=40.0, gripper="open"), Waypoint2D(u=u, v=v))),
    )


class Script:
    """Plays a run into a recorder: plan, steps with ticks and chunks, a retry, a changed plan, the end."""

    def __init__(
        self, recorder: Recorder, seed: int = 3, instruction: str = "put the red mug on the top shelf"
    ) -> None:
        self.recorder = recorder
        self.tick = 0
        self.parent: str | None = None
        self.seen = observation(0)
        self.root = recorder.emit(
            ev.RunStarted,
            time_s=0.0,
            instruction=instruction,
            world="fake",
            planner="scripted",
            policy="line",
            seed=seed,
        ).id

    @property
    def now_s(self) -> float:
        return self.tick * PERIOD_S

    def move(self, ticks: int) -> None:
        for _ in range(ticks):
            self.recorder.tick(command(self.tick), proprio(self.tick))
            self.tick += 1

    def look(self, purpose: Any) -> None:
        self.seen = observation(self.tick)
        self.recorder.observation(self.seen, purpose, parent=self.parent or self.root)

    def plan(self, steps: tuple[Step, ...], done: tuple[str, ...] = (), reason: str = "initial") -> Plan:
        self.look("plan")
        plan = Plan(
            goal="the red mug is on the top shelf",
            steps=steps,
            done=done,
            remaining=tuple(s.id for s in steps if s.id not in done),
            scene=artifacts(self.seen.frame("front"), "red mug")[2:3],
        )
        self.recorder.emit(
            ev.PlanProposed, time_s=self.now_s, parent=self.root, plan=plan, reason=reason, wall_latency_s=0.4
        )
        return plan

    def step(self, step: Step, outcome: Any = "succeeded", attempt: int = 0, ticks: int = 6) -> None:
        recorder = self.recorder
        recorder.snapshot(f"state {self.tick}".encode() * 50, f"before {step.id}", self.now_s, parent=self.root)
        begun = self.now_s
        started = recorder.emit(ev.StepStarted, time_s=begun, parent=self.root, step=step, attempt=attempt)
        self.parent = started.id
        found = artifacts(self.seen.frame("front"), step.args.get("object", "spot"))
        recorder.emit(ev.Grounded, time_s=self.now_s, parent=self.parent, step_id=step.id, artifacts=found)
        self.verdict(step, "ready", "reachable", "yes")
        recorder.emit(
            ev.TransitPlanned,
            time_s=self.now_s,
            parent=self.parent,
            step_id=step.id,
            purpose="approach",
            target_position_w=(0.5, 0.1, 0.2),
            method="straight",
            duration_s=ticks * PERIOD_S,
            ticks=ticks,
            wall_latency_s=0.01,
        )
        self.look("act")
        for index in range(2):
            chunk = ActionChunk(
                positions=np.full((4, 3), 0.1 * index),
                yaws=np.zeros(4),
                gripper=np.ones(4),
                rate_hz=10.0,
                observed_at_s=self.now_s,
                done_prob=0.5 * index,
                policy="line",
            )
            recorder.emit(
                ev.ChunkProposed,
                time_s=self.now_s,
                parent=self.parent,
                step_id=step.id,
                index=index,
                chunk=chunk,
                staleness_s=0.1,
                wall_latency_s=0.012 + 0.003 * index,
            )
            self.move(ticks // 2)
        ok = outcome == "succeeded"
        self.look("verify")
        self.verdict(step, "done", "placed" if step.skill == "place" else "grasped", "yes" if ok else "no")
        recorder.emit(
            ev.StepFinished,
            time_s=self.now_s,
            parent=self.parent,
            step_id=step.id,
            attempt=attempt,
            outcome=outcome,
            reason="" if ok else "the fingers closed on nothing",
            duration_s=self.now_s - begun,
        )
        self.parent = None

    def verdict(self, step: Step, phase: Any, name: str, value: Any) -> None:
        self.recorder.emit(
            ev.VerdictGiven,
            time_s=self.now_s,
            parent=self.parent,
            step_id=step.id,
            phase=phase,
            verdict=Verdict(name=name, value=value, confidence=0.93, evidence={"width_m": 0.031}),
        )

    def finish(self, outcome: Any = "succeeded", message: str = "the red mug is on the top shelf") -> None:
        self.recorder.emit(
            ev.RunFinished, time_s=self.now_s, parent=self.root, outcome=outcome, message=message, done=("s1", "s2")
        )


PICK = Step(
    id="s1",
    skill="pick",
    args={"object": "red mug"},
    text="pick up the red mug",
    postconditions=(Condition(predicate="holding", args=("red mug",)),),
)
PLACE = Step(
    id="s2",
    skill="place",
    args={"object": "red mug", "relation": "on", "target": "top shelf"},
    text="put the red mug on the top shelf",
    depends_on=("s1",),
)
BOTTOM = Step(
    id="s3",
    skill="place",
    args={"object": "red mug", "relation": "on", "target": "bottom shelf"},
    text="put the red mug on the bottom shelf",
    depends_on=("s1",),
)


def script(recorder: Recorder, seed: int = 3) -> Script:
    """A whole run: the pick needs two attempts, the place another plan."""
    play = Script(recorder, seed)
    play.plan((PICK, PLACE))
    play.step(PICK, "failed")
    play.step(PICK, attempt=1)
    play.plan((PICK, PLACE), done=("s1",), reason="after s1: succeeded")
    play.step(PLACE, "unreachable")
    play.plan((PICK, BOTTOM), done=("s1",), reason="after s2: unreachable")
    play.recorder.emit(
        ev.EnvelopeFired,
        time_s=play.now_s,
        parent=play.root,
        check="velocity",
        action="limited",
        message="joint 4 asked for 2.31 rad/s, its limit is 2.175",
    )
    play.step(BOTTOM)
    play.finish()
    return play


def make_record(folder: Path, **changes: Any) -> Path:
    """A closed record of :func:`script`."""
    made = manifest(**changes)
    with RunRecorder.create(folder, made, durable=False) as recorder:
        script(recorder, made.seed)
    return folder


def make_refused(folder: Path) -> Path:
    """A closed record of a run that the planner refused."""
    with RunRecorder.create(folder, manifest(), durable=False) as recorder:
        play = Script(recorder)
        play.look("plan")
        refusal = Refusal(
            reason="not_in_scene", message="I see no red mug.", missing=("red mug",), seen=("blue block", "sponge")
        )
        recorder.emit(ev.PlanRefused, time_s=0.0, parent=play.root, refusal=refusal)
        play.finish("refused", "I see no red mug.")
    return folder


def lines_of(folder: Path) -> Iterator[bytes]:
    """The lines of a record's events, with their newlines."""
    yield from (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
