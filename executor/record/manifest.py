"""``manifest.json``: what has to be known about a run before its first event is read."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

import hiervla
from hiervla.executor.record.errors import CorruptRecordError, NotARecordError, RecordVersionError
from hiervla.representations._base import SCHEMA_VERSION, Typed

FORMAT: Final = "hiervla-run"
FORMAT_VERSION: Final = 2
"""Version of the folder's layout and of the line format; the events' is ``schema_version``.

Version 1 names images by the hash of their files, and its events do not tell what recorded parts were told.
"""
_READ_VERSIONS: Final = (1, FORMAT_VERSION)

MANIFEST_FILE = "manifest.json"

# What decides or moves: a change in one of these may change a run.
_PACKAGES = (
    "hiervla",
    "numpy",
    "scipy",
    "pydantic",
    "torch",
    "transformers",
    "mujoco",
    "mink",
    "daqp",
    "ruckig",
    "ompl",
    "llguidance",
    "pillow",
    "mcap",
)


class ForkOf(Typed):
    """Where a run left another one.

    Attributes:
        run_id: the parent's run id.
        event: id of the parent's event that did not happen any more: the start of a step.
        path: where the parent's record was.
    """

    run_id: str
    event: str
    path: str = ""


class Manifest(Typed):
    """The first file of a run record; written once, and hashed into the first event."""

    format: Literal["hiervla-run"] = FORMAT
    format_version: Literal[1, 2] = FORMAT_VERSION
    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    created: str = Field(description="UTC, ISO 8601")
    instruction: str
    world: str
    world_config: dict[str, Any] = Field(
        default_factory=dict, description="all that rebuilds the world: scene, cameras, image size"
    )
    seed: int
    planner: str
    policy: str
    config: dict[str, Any] = Field(default_factory=dict, description="settings of the agent")
    parent: ForkOf | None = Field(default=None, description="the run that this one was forked from")
    packages: dict[str, str] = Field(description="installed versions")
    git_revision: str | None = Field(default=None, description="of hiervla's checkout, '-dirty' when changed")
    python: str
    platform: str

    @classmethod
    def collect(
        cls,
        instruction: str,
        *,
        world: str,
        seed: int,
        planner: str,
        policy: str,
        world_config: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        run_id: str | None = None,
        parent: ForkOf | None = None,
    ) -> Manifest:
        """A manifest for a run that starts now on this computer."""
        import platform

        now = datetime.now(UTC)
        return cls(
            run_id=run_id or new_run_id(instruction, seed, now),
            created=now.isoformat(timespec="milliseconds"),
            instruction=instruction,
            world=world,
            world_config=_plain(world_config or {}),
            seed=seed,
            planner=planner,
            policy=policy,
            config=_plain(config or {}),
            parent=parent,
            packages=package_versions(),
            git_revision=git_revision(),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        )

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of a whole run of several arms, each with a record in this one's folder; else none."""
        return () if "arm" in self.world_config else tuple(self.world_config.get("arms", ()))

    @property
    def arm(self) -> str | None:
        """The arm that the record is of, where it is a part of a run of several arms."""
        name = self.world_config.get("arm")
        return None if name is None else str(name)

    def to_file(self) -> bytes:
        """The file's bytes: indented JSON, for people who look inside."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """The manifest of a record and the file's bytes; the versions are checked before the rest is looked at.

    Raises:
        NotARecordError: there is no manifest, or it is another program's.
        RecordVersionError: it has a version that is not read here.
        CorruptRecordError: it is not a manifest any more.
    """
    path = folder / MANIFEST_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        problem = f"it has no {MANIFEST_FILE}" if folder.is_dir() else "there is no such folder"
        raise NotARecordError(folder, problem) from None
    except OSError as error:
        raise NotARecordError(folder, error.strerror or str(error)) from None
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise CorruptRecordError(folder, MANIFEST_FILE, None, f"not JSON ({error})") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise NotARecordError(folder, f"its {MANIFEST_FILE} does not say format '{FORMAT}'")
    packages = raw.get("packages")
    writer = packages.get("hiervla") if isinstance(packages, dict) else None
    if raw.get("format_version") not in _READ_VERSIONS:
        raise RecordVersionError(folder, "record format", raw.get("format_version"), FORMAT_VERSION, writer)
    if raw.get("schema_version") != SCHEMA_VERSION:
        raise RecordVersionError(folder, "schemas", raw.get("schema_version"), SCHEMA_VERSION, writer)
    try:
        return Manifest.model_validate_json(data), data
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorruptRecordError(folder, MANIFEST_FILE, None, f"{where}: {first['msg']}") from None


def new_run_id(instruction: str, seed: int, now: datetime | None = None) -> str:
    """A name that sorts by time and says what was asked: ``20261123-101500-clear-the-dining-table-s3``."""
    now = now or datetime.now(UTC)
    words = re.sub(r"[^a-z0-9]+", "-", instruction.lower()).strip("-")
    slug = words[:40].rsplit("-", 1)[0] if len(words) > 40 else words
    return f"{now:%Y%m%d-%H%M%S}-{slug or 'run'}-s{seed}"


def new_run_folder(parent: Path | str, run_id: str) -> Path:
    """A path in ``parent`` that is still free: the run id, numbered when two runs start in one second."""
    folder = Path(parent) / run_id
    number = 2
    while folder.exists():
        folder = Path(parent) / f"{run_id}-{number}"
        number += 1
    return folder


def package_versions() -> dict[str, str]:
    """Installed versions of what decides or moves."""
    from importlib import metadata

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """Revision of the checkout that hiervla runs from, or None when it was installed from a wheel."""
    import subprocess

    root = Path(hiervla.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Through JSON and back, so that what is in memory is what a reader will see."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
