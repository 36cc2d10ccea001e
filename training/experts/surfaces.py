"""Experts for the drawer and for wiping. Stateless: each answer follows from the present state alone."""

from __future__ import annotations

import numpy as np

from hiervla.training.experts.motion import Vector, Waypoint, turn
from hiervla.training.experts.state import State, Task

TRAVEL_M = 0.15
CLEAR_M = 0.12
"""How far above the keypoint these skills end [m]."""
_HALF_OPEN = 0.5
_SLOT_WIDTH = 0.012

# Relative to the spill's middle. Two lanes far enough apart that the place on the table tells how far the wiping is.
_LANES = np.array([[-0.04, -0.03], [0.04, -0.03], [0.04, 0.03], [-0.04, 0.03]])


def open_drawer(state: State, task: Task) -> tuple[list[Waypoint], float, bool]:
    """Waypoints to grasp the handle, pull, let go and rise; progress; whether it is done."""
    ee, handle = state.ee, state.handle
    yaw = turn(0.0, state.yaw)
    high = float(task.target_w[2]) + CLEAR_M
    pulled = float(np.clip(state.drawer_open / (TRAVEL_M - 0.01), 0.0, 1.0))
    up = Waypoint(np.array([ee[0], ee[1], high]), yaw, _HALF_OPEN)
    if state.drawer_open > TRAVEL_M - 0.022:
        done = ee[2] > high - 0.015
        if ee[2] < handle[2] + 0.02 and state.width < 0.026:
            return [Waypoint(ee, yaw, _HALF_OPEN, dwell_s=0.25), up], 0.85, False
        return [up], 0.9 + 0.1 * float(done), bool(done)
    around = abs(ee[1] - handle[1]) < 0.010 and abs(ee[2] - handle[2]) < 0.010 and abs(ee[0] - handle[0]) < 0.03
    rest = TRAVEL_M - 0.006 - state.drawer_open
    pull = Waypoint(np.array([ee[0], ee[1] - rest, ee[2]]), yaw, 0.0, speed=0.16)
    if around:
        part = 0.85 * pulled
        if state.width < _SLOT_WIDTH + 0.006:
            let_go = Waypoint(pull.position, yaw, _HALF_OPEN, dwell_s=0.25)
            return [pull, let_go, Waypoint(let_go.position + (0, 0, CLEAR_M), yaw, _HALF_OPEN)], 0.3 + 0.6 * part, False
        wait = max(0.0, state.width - _SLOT_WIDTH) / 0.1 + 0.2
        return [Waypoint(ee, yaw, 0.0, dwell_s=wait), pull], 0.3, False
    above = np.array([handle[0], handle[1], handle[2] + 0.045])
    down = Waypoint(np.array(handle), yaw, _HALF_OPEN, speed=0.15)
    grip = Waypoint(np.array(handle), yaw, 0.0, dwell_s=0.45)
    then = [down, grip, Waypoint(handle - (0.0, rest, 0.0), yaw, 0.0, speed=0.16)]
    off = float(np.hypot(*(handle[:2] - ee[:2])))
    if ee[2] < handle[2] + 0.03 and (off > 0.014 or state.width < 0.028):
        rise = Waypoint(np.array([ee[0], ee[1], handle[2] + 0.05]), yaw, _HALF_OPEN, dwell_s=0.1)
        return [rise, Waypoint(above, yaw, _HALF_OPEN), *then], 0.05, False
    if off < 0.008 and abs(turn(yaw, state.yaw) - state.yaw) < 0.1:
        return then, 0.2, False
    return [Waypoint(above, yaw, _HALF_OPEN), *then], 0.1, False


def close_drawer(state: State, task: Task) -> tuple[list[Waypoint], float, bool]:
    """Waypoints to come down in front of the handle, push it home and rise; progress; whether it is done."""
    ee, handle = state.ee, state.handle
    yaw = turn(0.0, state.yaw)
    high = float(task.target_w[2]) + CLEAR_M
    pushed = float(np.clip(1.0 - state.drawer_open / (TRAVEL_M - 0.01), 0.0, 1.0))
    if state.drawer_open < 0.008:
        done = ee[2] > high - 0.015
        return [Waypoint(np.array([ee[0], ee[1], high]), yaw, 0.0)], 0.9 + 0.1 * float(done), bool(done)
    height = float(handle[2]) - 0.006
    home = float(handle[1]) + state.drawer_open
    push = Waypoint(np.array([handle[0], home - 0.006, height]), yaw, 0.0, speed=0.18, dwell_s=0.1)
    up = Waypoint(np.array([handle[0], home - 0.02, high]), yaw, 0.0)
    low = ee[2] < handle[2] + 0.012
    if low and ee[1] < handle[1] - 0.012 and abs(ee[0] - handle[0]) < 0.05:
        return [push, up], 0.3 + 0.6 * pushed, False
    front = np.array([handle[0], handle[1] - 0.045, height])
    over = front + (0.0, 0.0, 0.05)
    if low:
        rise = Waypoint(np.array([ee[0], ee[1], handle[2] + 0.05]), yaw, 0.0)
        return [rise, Waypoint(over, yaw, 0.0), Waypoint(front, yaw, 0.0, speed=0.18), push], 0.05, False
    way = [Waypoint(front, yaw, 0.0, speed=0.18), push, up]
    if abs(ee[1] - front[1]) > 0.012 or abs(ee[0] - front[0]) > 0.03:
        way.insert(0, Waypoint(over, yaw, 0.0, through=True))
    return way, 0.15, False


def wipe(state: State, task: Task) -> tuple[list[Waypoint], float, bool]:
    """Waypoints to rub the spill with the held sponge and lift; progress; whether it is done."""
    sponge = state.things[str(task.object)]
    ee, yaw = state.ee, state.yaw
    square = turn(0.0, yaw)
    high = float(task.target_w[2]) + CLEAR_M
    hang = float(ee[2] - sponge.position[2])
    # Just off the table: a spill goes when the sponge comes near it, and fingers that scrape get stuck.
    press = max(hang + 0.003, 0.0165)
    clean = state.spill_left < 0.04
    centre = task.target_w[:2]
    low = sponge.position[2] < 0.012
    if clean and (not low or along(ee[:2] - centre) > 0.9):
        done = ee[2] > high - 0.015
        return [Waypoint(np.array([ee[0], ee[1], high]), square, 0.0)], 0.9 + 0.1 * float(done), bool(done)
    lanes = [Waypoint(np.array([*(centre + p), press]), square, 0.0, speed=0.16) for p in _LANES]
    lift = Waypoint(np.array([*(centre + _LANES[-1]), high]), square, 0.0)
    if low:
        share = along(ee[:2] - centre)
        if share > 0.93 and not clean:
            # Some is left: rub over the middle of it, coming from where the sponge is.
            rest = state.spill_points.mean(axis=0)
            return [Waypoint(np.array([*rest, press]), square, 0.0, speed=0.16), lift], 0.8, False
        start = 1 + int(share * 0.999 * _TOTAL > _STARTS[1]) + int(share * 0.999 * _TOTAL > _STARTS[2])
        return [*lanes[start:], lift], 0.2 + 0.65 * share, False
    begin = np.array([*(centre + _LANES[0]), press])
    above = begin + (0.0, 0.0, 0.03)
    way = [*lanes, lift]
    if float(np.hypot(*(begin[:2] - ee[:2]))) > 0.012:
        way.insert(0, Waypoint(above, square, 0.0, through=True))
    return way, 0.1, False


_LENGTHS = np.linalg.norm(np.diff(_LANES, axis=0), axis=1)
_STARTS = np.concatenate([[0.0], np.cumsum(_LENGTHS)])
_TOTAL = float(_STARTS[-1])


def along(point: Vector) -> float:
    """How far along the lanes a place relative to the spill's middle is, 0..1."""
    best, share = np.inf, 0.0
    for a, b, length, start in zip(_LANES[:-1], _LANES[1:], _LENGTHS, _STARTS[:-1], strict=True):
        s = float(np.clip((point - a) @ (b - a) / length**2, 0.0, 1.0))
        distance = float(np.linalg.norm(a + s * (b - a) - point))
        if distance < best:
            best, share = distance, float(start + s * length) / _TOTAL
    return share
