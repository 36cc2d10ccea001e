"""Policies by name: the built-in ones, those registered by hand, and those that packages offer as entry points.

An entry point of the group ``hiervla.policies`` has the policy's name and names its factory::

    [project.entry-points."hiervla.policies"]
    my-diffusion = "my_package.policy:load"

A package is imported when its policy is asked for and not before, so that a broken or slow one costs nobody else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.families import FAMILIES, shipped
from hiervla.representations.errors import HiervlaError, UnknownNameError
from hiervla.skills.policy import Policy
from hiervla.skills.registry import Origin

ENTRY_POINT_GROUP = "hiervla.policies"

Factory = Callable[..., Policy]


class DuplicatePolicyError(HiervlaError, ValueError):
    """Two policies want the same name.

    Attributes:
        name: that name.
        owners: who wants it, where that is known.
    """

    def __init__(self, name: str, owners: Iterable[str] = ()) -> None:
        self.name = name
        self.owners = tuple(owners)
        if self.owners:
            text = f"policy '{name}' is offered by {' and by '.join(self.owners)}. Uninstall one, or have it renamed."
        else:
            text = f"a policy named '{name}' is registered already. Choose another name."
        super().__init__(text)


class PolicyError(HiervlaError):
    """A policy that cannot be made.

    Attributes:
        name: of the policy.
        origin: who offers it.
        problem: what happened.
    """

    def __init__(self, name: str, origin: str, problem: str, remedy: str) -> None:
        super().__init__(f"policy '{name}' of {origin}: {problem}. {remedy}.")
        self.name = name
        self.origin = origin
        self.problem = problem


_FACTORIES: dict[str, Factory] = {}
_SCHEMES: dict[str, Factory] = {}


def register(name: str, factory: Factory) -> None:
    """Make a policy available under `name`.

    Args:
        name: what ``--policy`` takes.
        factory: called with the options of :func:`create`; heavy imports belong inside it.

    Raises:
        DuplicatePolicyError: the name is taken.
    """
    if name in _FACTORIES:
        raise DuplicatePolicyError(name)
    _FACTORIES[name] = factory


def register_scheme(scheme: str, factory: Factory) -> None:
    """Make all policies named ``scheme:ADDRESS`` available.

    Args:
        scheme: what stands before the colon.
        factory: called with the address, and the options of :func:`create`; heavy imports belong inside it.

    Raises:
        DuplicatePolicyError: the scheme is taken.
    """
    if scheme in _SCHEMES:
        raise DuplicatePolicyError(scheme)
    _SCHEMES[scheme] = factory


def names() -> tuple[str, ...]:
    """Names that :func:`create` knows, sorted; nothing is imported for it."""
    return tuple(sorted({*_FACTORIES, *_offers()}))


def unfit(name: str, skill: str) -> tuple[str, str] | None:
    """Why the policy of that name cannot run a skill, and what to do; None when nothing speaks against it.

    The package that offers the policy is imported for it, but no policy is made.
    """
    if name in FAMILIES and name in _FACTORIES and skill not in SKILLS:
        remedy = "Return waypoints, give the skill a policy of its own, or offer one under hiervla.policies"
        return f"the built-in policy '{name}' knows {', '.join(SKILLS)} only", remedy
    scheme, colon, _ = name.partition(":")
    if name in _FACTORIES or (colon and scheme in _SCHEMES):
        return None
    points = _offers().get(name)
    if points is None:
        near = get_close_matches(name, names(), n=1, cutoff=0.6)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        return f"no policy '{name}' is registered", f"{hint}Offer it as an entry point of the group hiervla.policies"
    try:
        _factory(name, points)
    except (DuplicatePolicyError, PolicyError) as error:
        text = str(error).rstrip(".")
        problem, _, remedy = text.rpartition(". ")
        return problem, remedy
    return None


def origin(name: str) -> str:
    """Who offers a policy, in words; empty for one of hiervla or of this process."""
    return " and ".join(str(Origin.of(point)) for point in _offers().get(name, ()))


def create(name: str, **options: Any) -> Policy:
    """Build a policy.

    Raises:
        UnknownNameError: nothing is registered under that name; the message suggests the nearest.
        DuplicatePolicyError: two packages offer it.
        PolicyError: the package that offers it fails to load, or gives something else than a policy.
        CheckpointError: its weights cannot be read.
        RemotePolicyError: it is a server's, which cannot be reached.
    """
    if name in _FACTORIES:
        return _FACTORIES[name](**options)
    scheme, colon, address = name.partition(":")
    if colon and scheme in _SCHEMES:
        return _SCHEMES[scheme](address, **options)
    points = _offers().get(name)
    if points is None:
        raise UnknownNameError("policy", name, names())
    factory, origin = _factory(name, points), str(Origin.of(points[0]))
    try:
        policy = factory(**options)
    except HiervlaError:
        raise
    except Exception as error:
        problem = f"its factory failed with {type(error).__name__}: {error}"
        raise PolicyError(name, origin, problem, "Repair that package, or choose another policy") from error
    return made(name, origin, policy)


def made(name: str, origin: str, policy: object) -> Policy:
    """What a factory gave, if it is a policy.

    Raises:
        PolicyError: it has no ``id``, ``reset`` and ``act``.
    """
    if not isinstance(policy, Policy):
        raise PolicyError(name, origin, f"its factory gave {policy!r}", "A policy has id, reset and act")
    return policy


def _offers() -> dict[str, list[EntryPoint]]:
    offers = defaultdict(list)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: (p.name, p.value)):
        offers[point.name].append(point)
    return offers


def _factory(name: str, points: list[EntryPoint]) -> Factory:
    owners = [str(Origin.of(point)) for point in points]
    if name in _FACTORIES:
        raise DuplicatePolicyError(name, ["this process, or hiervla itself", *owners])
    if len(points) > 1:
        raise DuplicatePolicyError(name, owners)
    try:
        factory: Factory = points[0].load()
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything when it is imported
        problem = f"its package cannot be imported ({type(error).__name__}: {error})"
        raise PolicyError(name, owners[0], problem, "Repair or uninstall that package") from error
    if not callable(factory):
        problem = f"its entry point names {factory!r}, which cannot be called"
        raise PolicyError(name, owners[0], problem, "Let it name a function that returns the policy")
    return factory


def _family(name: str) -> Factory:
    def load(path: str | Path | None = None, **options: Any) -> Policy:
        from hiervla.executor.policies.families import load_policy, policy_class

        # A folder says itself which family it holds.
        return policy_class(name).load(**options) if path is None else load_policy(path, **options)

    return load


def _follow(**options: Any) -> Policy:
    from hiervla.executor.policies.follow import FollowPolicy

    return FollowPolicy(**options)


def _openpi(address: str, **options: Any) -> Policy:
    from hiervla.executor.policies.remote.policy import load

    return load(address, **options)


def _groot(address: str, **options: Any) -> Policy:
    from hiervla.executor.policies.remote.groot.policy import load

    return load(address, **options)


for _name in shipped():
    register(_name, _family(_name))
register("follow", _follow)
register_scheme("openpi", _openpi)
register_scheme("groot", _groot)
