"""Sampling-based search in joint space: OMPL's RRT-Connect, made a pure function of its arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ompl import base as ob
from ompl import geometric as og
from ompl import util as ou

from hiervla.controllers.limits import Array, JointLimits


def connect(
    start: Array,
    goal: Array,
    free: Callable[[Array], bool],
    limits: JointLimits,
    *,
    budget: int,
    seed: int,
    step_rad: float,
) -> Array | None:
    """Find and shorten a free polyline between two free postures.

    The search ends after a number of checks, never after a time, and the generator is seeded anew for every call:
    equal arguments give equal paths, on a slow machine too.

    Args:
        start: (J,) posture [rad].
        goal: (J,) posture [rad].
        free: whether a posture is free.
        limits: bounds of the search.
        budget: number of postures that may be checked.
        seed: seed of the random numbers.
        step_rad: spacing of the checks along a line [rad].

    Returns:
        (N, J) corners from start to goal, or None if the budget ran out.
    """
    ou.setLogLevel(ou.LogLevel.LOG_NONE)
    ou.RNG.setSeed(seed)
    dofs = limits.dofs
    space = ob.RealVectorStateSpace(dofs)
    bounds = ob.RealVectorBounds(dofs)
    for joint in range(dofs):
        bounds.setLow(joint, float(limits.lower[joint]) - 1e-6)
        bounds.setHigh(joint, float(limits.upper[joint]) + 1e-6)
    space.setBounds(bounds)
    info = ob.SpaceInformation(space)
    spent = 0

    def valid(state: ob.State) -> bool:
        nonlocal spent
        spent += 1
        return free(np.array([state[j] for j in range(dofs)]))

    info.setStateValidityChecker(valid)
    info.setStateValidityCheckingResolution(step_rad / info.getMaximumExtent())
    info.setup()
    ends = [info.allocState(), info.allocState()]
    for state, values in zip(ends, (start, goal), strict=True):
        for joint in range(dofs):
            state[joint] = float(values[joint])
    problem = ob.ProblemDefinition(info)
    problem.setStartAndGoalStates(*ends)
    planner = og.RRTConnect(info)
    planner.setRange(0.6)
    planner.setProblemDefinition(problem)
    planner.setup()
    planner.solve(ob.PlannerTerminationCondition(lambda: spent > budget))
    if not problem.hasExactSolution():
        return None
    path = problem.getSolutionPath()
    # Fixed numbers of attempts: simplify() by time would make the answer depend on the machine.
    simplifier = og.PathSimplifier(info)
    simplifier.reduceVertices(path, 40, 20)
    simplifier.partialShortcutPath(path, 60, 30)
    simplifier.reduceVertices(path, 40, 20)
    corners = [[path.getState(i)[j] for j in range(dofs)] for i in range(path.getStateCount())]
    return np.array(corners)
