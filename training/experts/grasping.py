"""Experts for picking up and putting down. Stateless: each answer follows from the present state alone."""

from __future__ import annotations

import numpy as np

from hiervla.training.experts.motion import MAX_WIDTH_M, Vector, Waypoint, turn
from hiervla.training.experts.state import State, Task, Thing

LIFT_M = 0.14
"""How far above the keypoint a pick ends [m]."""
RETREAT_M = 0.15
"""How far above the keypoint a place ends [m]."""
_FINGER_TIP = 0.0105
_FALL = 0.14
_OPEN = 1.0


def pick(state: State, task: Task) -> tuple[list[Waypoint], float, bool]:
    """Waypoints to grasp and lift ``task.object``, progress, and whether it is done."""
    thing = state.things[str(task.object)]
    ee, yaw = state.ee, state.yaw
    lifted = float(task.target_w[2]) + LIFT_M
    if state.held == thing.id:
        up = np.array([ee[0], ee[1], lifted])
        done = ee[2] > lifted - 0.012
        share = float(np.clip((ee[2] - (lifted - LIFT_M)) / LIFT_M, 0.0, 1.0))
        return [Waypoint(up, yaw, 0.0)], 0.7 + 0.3 * share, bool(done)
    grasp = thing.position + np.array([0.0, 0.0, thing.grasp_z])
    wanted = grasp_yaw(state, thing)
    clear = thing.top + _FINGER_TIP + 0.014
    above = np.array([grasp[0], grasp[1], clear + 0.012])
    off = float(np.hypot(*(grasp[:2] - ee[:2])))
    twist = abs(turn(wanted, yaw) - yaw)
    width = grasp_width(thing)
    close = Waypoint(grasp, wanted, 0.0, speed=_FALL, dwell_s=max(0.0, state.width - width) / 0.1 + 0.35)
    lift = Waypoint(np.array([grasp[0], grasp[1], lifted]), wanted, 0.0)
    low = ee[2] < clear
    missed = state.width < width - 0.006
    if low and (missed or off > 0.022 or twist > 0.35):
        # Closed on nothing, or came down beside it: rise, open, come again.
        rise = Waypoint(np.array([ee[0], ee[1], clear + 0.02]), yaw, _OPEN, dwell_s=0.1)
        again = Waypoint(above, wanted, _OPEN)
        return [rise, again, Waypoint(grasp, wanted, _OPEN, speed=_FALL), close, lift], 0.1, False
    at_grasp = low and ee[2] < grasp[2] + 0.006 and off < 0.010 and twist < 0.2
    if at_grasp:
        return [close, lift], 0.6, False
    down = Waypoint(grasp, wanted, _OPEN, speed=_FALL)
    if low:
        return [down, close, lift], 0.5, False
    if state.width < 0.9 * MAX_WIDTH_M and ee[2] < clear + 0.03:
        hold = Waypoint(np.array([ee[0], ee[1], max(ee[2], clear + 0.012)]), yaw, _OPEN, dwell_s=0.25)
        return [hold, Waypoint(above, wanted, _OPEN), down, close, lift], 0.2, False
    aligned = off < 0.008 and twist < 0.12
    way = [down, close, lift] if aligned else [Waypoint(above, wanted, _OPEN, through=off > 0.02), down, close, lift]
    nearness = float(np.clip(1.0 - (ee[2] - grasp[2]) / 0.2, 0.0, 1.0))
    return way, 0.1 + 0.4 * nearness * (0.5 if not aligned else 1.0), False


def grasp_width(thing: Thing) -> float:
    """Width of the fingers when they hold it [m]."""
    return {"block": thing.size[1], "sponge": thing.size[1]}.get(thing.category, thing.size[0])


def grasp_yaw(state: State, thing: Thing) -> float:
    """Finger-closing direction: as little turning as the shape allows [rad]."""
    in_drawer = thing.position[2] < 0.03 and thing.position[1] > state.handle[1] + 0.03
    # The hand is wider than the drawer is long, and the cabinet's top is above its fingers.
    now = turn(np.pi / 2, state.yaw) if in_drawer else state.yaw
    if thing.category == "block":
        first = turn(thing.yaw, now, np.pi / 2)
        other = first + np.pi / 2 * (1 if first < now else -1)
        return _roomier(state, thing, [first] if in_drawer else [first, other])
    if thing.category == "sponge":
        return turn(thing.yaw, now)
    wanted = now
    if thing.category == "mug":
        # The handle points along the mug's x; keep it well away from the fingers.
        square = turn(thing.yaw, wanted)
        wanted = square + float(np.clip(turn(wanted, square) - square, -0.5, 0.5))
    return wanted


def _roomier(state: State, thing: Thing, options: list[float]) -> float:
    """The first option for which no tall neighbour stands where the hand comes down."""
    palm = float(thing.position[2]) + thing.grasp_z + 0.035
    tall = [o for o in state.things.values() if o.id not in (thing.id, state.held) and o.top > palm - 0.005]
    for yaw in options:
        axis = np.array([-np.sin(yaw), np.cos(yaw)])
        gaps = [(o.position[:2] - thing.position[:2], 0.5 * max(o.size[:2])) for o in tall]
        if not any(abs(g @ axis) < 0.106 + r and abs(g[0] * axis[1] - g[1] * axis[0]) < 0.04 + r for g, r in gaps):
            return yaw
    return options[0]


def place(state: State, task: Task) -> tuple[list[Waypoint], float, bool]:
    """Waypoints to put ``task.object`` down at the keypoint and retreat, progress, and whether it is done."""
    thing = state.things[str(task.object)]
    ee, yaw = state.ee, state.yaw
    spot = landing(state, task, thing)
    retreat = float(task.target_w[2]) + RETREAT_M
    if state.held != thing.id:
        # Rising over the middle of what was put down; beside it, sideways motion would drag it along.
        middle = thing.position[:2] if ee[2] > thing.top + 0.02 else ee[:2]
        up = np.array([*middle, retreat])
        done = ee[2] > retreat - 0.012 and state.width > 0.07
        share = float(np.clip((ee[2] - spot[2]) / RETREAT_M, 0.0, 1.0))
        clear = grasp_width(thing) + 0.014
        if state.width < min(clear, 0.076) and ee[2] < thing.top + 0.02:
            part = min(1.0, (grasp_width(thing) + 0.022) / MAX_WIDTH_M)
            return [Waypoint(ee, yaw, part, dwell_s=0.2), Waypoint(up, yaw, _OPEN)], 0.75, False
        return [Waypoint(up, yaw, _OPEN)], 0.8 + 0.2 * share, bool(done)
    hang = float(ee[2] - thing.position[2])
    drop = 0.006
    floor = float(spot[2])
    if task.place == "drawer":
        # The hand is wider than the drawer is long: let go above the cabinet's top and let it fall.
        floor = max(floor, 0.079 - hang - drop)
    goal = np.array([*(ee[:2] + spot[:2] - thing.position[:2]), floor + hang + drop])
    off = float(np.hypot(*(goal[:2] - ee[:2])))
    part = min(1.0, (grasp_width(thing) + 0.022) / MAX_WIDTH_M)
    release = Waypoint(goal, yaw, part, dwell_s=0.35)
    away = Waypoint(np.array([goal[0], goal[1], retreat]), yaw, _OPEN)
    tolerance = 0.006 if task.onto is not None else 0.008
    if off < tolerance + 0.004 and ee[2] < goal[2] + 0.005:
        return [release, away], 0.7, False
    lower = Waypoint(goal, yaw, 0.0, speed=_FALL * 0.8)
    nearness = float(np.clip(1.0 - (ee[2] - goal[2]) / 0.15, 0.0, 1.0))
    if off < tolerance:
        return [lower, release, away], 0.3 + 0.4 * nearness, False
    over = np.array([goal[0], goal[1], max(goal[2] + 0.035, min(ee[2], goal[2] + 0.06))])
    return [Waypoint(over, yaw, 0.0), lower, release, away], 0.1 + 0.2 * nearness, False


def landing(state: State, task: Task, thing: Thing) -> Vector:
    """Where the object's bottom centre should go, (3,) [m]: the keypoint, drawn to the middle of what receives it."""
    spot = np.array(task.target_w)
    if task.onto is not None:
        base = state.things[task.onto]
        offset = spot[:2] - base.position[:2]
        slack = {"block": 0.0, "bowl": 0.0, "plate": 0.35 * base.size[0] / 2}[base.category]
        length = float(np.hypot(*offset))
        spot[:2] = base.position[:2] + offset * min(1.0, slack / max(length, 1e-9))
        spot[2] = base.position[2] + {"bowl": 0.006, "plate": 0.006}.get(base.category, base.size[2])
    return spot


def throw_away(state: State, task: Task) -> tuple[list[Waypoint], float, bool]:
    """Waypoints to let ``task.object`` fall into the bin below the keypoint, progress, and whether it is done."""
    thing = state.things[str(task.object)]
    ee, yaw = state.ee, state.yaw
    rim = float(task.target_w[2]) + 0.095
    if state.held != thing.id:
        done = state.width > 0.07
        stay = np.array([ee[0], ee[1], max(ee[2], rim + 0.10)])
        return [Waypoint(stay, yaw, _OPEN)], 1.0 if done else 0.9, bool(done)
    hang = float(ee[2] - thing.position[2])
    goal = np.array([task.target_w[0], task.target_w[1], rim + 0.025 + max(hang, 0.03)])
    off = float(np.hypot(*(goal[:2] - ee[:2])))
    release = Waypoint(goal, yaw, _OPEN, dwell_s=0.3)
    rest = Waypoint(np.array([goal[0], goal[1], max(goal[2], rim + 0.10)]), yaw, _OPEN)
    if off < 0.02 and ee[2] < goal[2] + 0.012:
        return [release, rest], 0.7, False
    lower = Waypoint(goal, yaw, 0.0)
    nearness = float(np.clip(1.0 - off / 0.05, 0.0, 1.0))
    if ee[2] < goal[2] - 0.015:
        rise = Waypoint(np.array([ee[0], ee[1], goal[2]]), yaw, 0.0)
        return [rise, lower, release, rest], 0.1, False
    return [lower, release, rest], 0.2 + 0.4 * nearness, False
