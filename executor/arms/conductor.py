"""One clock for several loops: each arm's loop runs in a thread of its own, and exactly one of them at a time.

A loop runs until it gives its arm a command for the next control tick; then the next loop runs. When every arm has its
command, the world moves by one tick, and the first loop goes on. Who comes after whom is fixed, so that a run repeats
under its seed; threads only keep each loop's place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from hiervla.representations import JointCommand
from hiervla.worlds.base import ArmsWorld, SnapshotWrapper, World, WorldWrapper

R = TypeVar("R")


class Conductor:
    """Passes the turn from loop to loop, and moves the world when all have said what they want."""

    def __init__(self, world: ArmsWorld) -> None:
        self._world = world
        self._turns = threading.Condition()
        self._turn: str | None = None
        self._active: list[str] = []
        self._commands: dict[str, JointCommand] = {}
        self._broken: BaseException | None = None

    def run(self, loops: Mapping[str, Callable[[], R]]) -> dict[str, R]:
        """Run all loops to their ends; the arm of one that has ended stays where it was told to be.

        Args:
            loops: by arm, in the order in which they take turns.

        Returns:
            What each loop returned.

        Raises:
            BaseException: what a loop raised, the first one's if several did; the others ran to their ends first.
        """
        results: dict[str, R] = {}
        errors: dict[str, BaseException] = {}
        self._active = list(loops)

        def work(arm: str, loop: Callable[[], R]) -> None:
            try:
                self._wait(arm)
                results[arm] = loop()
            except BaseException as error:  # handed to whoever called run
                errors[arm] = error
            finally:
                self._leave(arm)

        threads = [threading.Thread(target=work, args=item, name=f"arm-{item[0]}") for item in loops.items()]
        for thread in threads:
            thread.start()
        self._pass_on()
        for thread in threads:
            thread.join()
        for arm in loops:
            if arm in errors:
                raise errors[arm]
        return {arm: results[arm] for arm in loops}

    def tick(self, arm: str, command: JointCommand) -> None:
        """Say what an arm does in the next tick, and come back when it is over.

        Raises:
            BaseException: what the world raised when it was to move.
        """
        with self._turns:
            self._commands[arm] = command
        self._pass_on()
        self._wait(arm)
        if self._broken is not None:
            raise self._broken

    def _wait(self, arm: str) -> None:
        with self._turns:
            self._turns.wait_for(lambda: self._turn == arm)

    def _leave(self, arm: str) -> None:
        with self._turns:
            self._active.remove(arm)
        self._pass_on()

    def _pass_on(self) -> None:
        """Let the next loop run that has not said yet what it wants; when all have, move the world first."""
        with self._turns:
            waiting = [arm for arm in self._active if arm not in self._commands]
            if not waiting and self._active:
                self._move()
                waiting = self._active
            self._turn = waiting[0] if waiting else None
            self._turns.notify_all()

    def _move(self) -> None:
        commands, self._commands = self._commands, {}
        try:
            self._world.step(commands)
        except BaseException as error:  # every loop has to hear that nothing moves any more
            self._broken = error


class TakingTurns(WorldWrapper):
    """One arm's world, whose ticks wait for the other arms'."""

    def __init__(self, conductor: Conductor, arm: str, world: World) -> None:
        super().__init__(world)
        self._conductor = conductor
        self._arm = arm

    def step(self, command: JointCommand) -> None:
        """See :class:`hiervla.worlds.base.World`; comes back when every arm has moved."""
        self._conductor.tick(self._arm, command)

    def close(self) -> None:
        """Nothing: the world of all arms is closed by whoever built it."""


class TakingTurnsAndSaving(TakingTurns, SnapshotWrapper):
    """The same for a world that can be saved; a snapshot is one of all arms."""
