"""The typed intermediates between planner and policy: one discriminated union over ``kind``.

Every artifact that speaks of pixels carries an :class:`ImageRef` that says which image, by content hash, and in
which convention. Inside hiervla there is one pixel convention; adapters for model families translate at the door.
"""

# Without `from __future__ import annotations`: pydantic would compile and evaluate every annotation once more.
from typing import Annotated, Literal, Self, get_args

from pydantic import ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt, TypeAdapter, model_validator

from hiervla.representations._arrays import Array, NDArray
from hiervla.representations._base import SCHEMA_VERSION, Fraction, Quaternion, Sha256, Typed, Vec3


class ImageRef(Typed):
    """Names the exact image that an artifact speaks of, and the convention of its pixel coordinates."""

    camera: str
    sha256: Sha256 = Field(description="content hash of the colour image, CameraFrame.sha256")
    width: PositiveInt = Field(description="[px]")
    height: PositiveInt = Field(description="[px]")
    time_s: FiniteFloat = Field(description="exposure on the world's clock [s]")
    axis_order: Literal["uv"] = Field(default="uv", description="u = column first, then v = row")
    unit: Literal["pixel"] = Field(default="pixel", description="pixels of this very image, not of a resized one")
    origin: Literal["top_left_corner"] = "top_left_corner"


class Provenance(Typed):
    """How an artifact or a plan came to be."""

    model: str = Field(description="model id, or the name of the person or program")
    prompt_sha256: Sha256 | None = None
    sampling: dict[str, float | int | str | bool] = Field(default_factory=dict)
    raw_text: str | None = Field(default=None, description="the model's text before parsing")
    attempts: PositiveInt = Field(default=1, description="parse attempts, the successful one included")
    latency_s: Annotated[float, Field(ge=0)] | None = Field(default=None, description="wall time [s]")


class ArtifactBase(Typed):
    """Fields that every artifact has."""

    version: Literal[1] = SCHEMA_VERSION
    provenance: Provenance | None = None


class Keypoint(Typed):
    """One named point in an image, lifted to the world where depth allowed it."""

    label: str
    u: FiniteFloat = Field(description="column [px]")
    v: FiniteFloat = Field(description="row [px]")
    confidence: Fraction = 1.0
    position_w: Vec3 | None = Field(default=None, description="the point in the world frame [m]")
    normal_w: Vec3 | None = Field(default=None, description="outward surface normal in the world frame")


class SubtaskList(ArtifactBase):
    """Ordered subtasks in words, with dependencies: the coarsest intermediate (SayCan, arXiv 2204.01691)."""

    kind: Literal["subtasks"] = "subtasks"
    subtasks: tuple[str, ...]
    depends_on: tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = Field(
        default=(), description="pairs (later, earlier) of indices"
    )

    @model_validator(mode="after")
    def _indices(self) -> Self:
        n = len(self.subtasks)
        for later, earlier in self.depends_on:
            if not earlier < later < n:
                raise ValueError(f"dependency ({later}, {earlier}) is not (later, earlier) within {n} subtasks")
        return self


class Keypoints(ArtifactBase):
    """Named points in one image (RoboPoint, arXiv 2406.10721; MOKA, arXiv 2403.03174)."""

    kind: Literal["keypoints"] = "keypoints"
    image: ImageRef
    points: tuple[Keypoint, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for p in self.points:
            _check_inside(self.image, p.u, p.v, f"keypoint '{p.label}'")
        return self


class Box(Typed):
    """An axis-aligned box in an image."""

    label: str
    u_min: FiniteFloat
    v_min: FiniteFloat
    u_max: FiniteFloat
    v_max: FiniteFloat
    confidence: Fraction = 1.0


class Boxes(ArtifactBase):
    """Named boxes in one image: what the planner says that it sees."""

    kind: Literal["boxes"] = "boxes"
    image: ImageRef
    boxes: tuple[Box, ...]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for b in self.boxes:
            if not (b.u_min < b.u_max and b.v_min < b.v_max):
                raise ValueError(f"box '{b.label}' is empty or has its corners swapped")
            _check_inside(self.image, b.u_min, b.v_min, f"box '{b.label}'")
            _check_inside(self.image, b.u_max, b.v_max, f"box '{b.label}'")
        return self


class AffordanceMap(ArtifactBase):
    """Where an action may happen: a distribution over the cells of a grid laid over one image.

    ``values[i, j]`` belongs to the image rectangle from ``(j * width / w, i * height / h)``; the sum is 1.
    """

    kind: Literal["affordance_map"] = "affordance_map"
    image: ImageRef
    label: str
    values: Annotated[NDArray, Array("float32", "h", "w")]

    @model_validator(mode="after")
    def _distribution(self) -> Self:
        if self.values.size == 0 or (self.values < 0).any() or abs(float(self.values.sum()) - 1.0) > 1e-3:
            raise ValueError("values are no distribution: negative, or the sum is not 1")
        return self


class Waypoint2D(Typed):
    """One point of an image path, with what the gripper does from there on."""

    u: FiniteFloat
    v: FiniteFloat
    gripper: Literal["open", "close", "keep"] = "keep"


class Waypoints2D(ArtifactBase):
    """A path of the end effector drawn in one image with gripper tokens (HAMSTER, arXiv 2502.05485)."""

    kind: Literal["waypoints_2d"] = "waypoints_2d"
    image: ImageRef
    points: tuple[Waypoint2D, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for i, p in enumerate(self.points):
            _check_inside(self.image, p.u, p.v, f"waypoint {i}")
        return self


class Waypoint3D(Typed):
    """One end-effector pose in the world frame."""

    position_w: Vec3 = Field(description="[m]")
    quaternion_wxyz: Quaternion | None = Field(default=None, description="unit quaternion; None keeps the orientation")
    gripper: Literal["open", "close", "keep"] = "keep"

    @model_validator(mode="after")
    def _unit(self) -> Self:
        if self.quaternion_wxyz is not None and abs(sum(c * c for c in self.quaternion_wxyz) - 1.0) > 1e-3:
            raise ValueError("quaternion_wxyz is not a unit quaternion")
        return self


class Waypoints3D(ArtifactBase):
    """A path of end-effector poses in the world frame."""

    kind: Literal["waypoints_3d"] = "waypoints_3d"
    frame: Literal["world"] = "world"
    points: tuple[Waypoint3D, ...] = Field(min_length=1)


class LanguageMotion(ArtifactBase):
    """A motion in words (RT-H, arXiv 2403.01823), with its reading as a displacement where there is one."""

    kind: Literal["language_motion"] = "language_motion"
    text: str = Field(min_length=1)
    frame: Literal["world", "end_effector"] = "world"
    translation_m: Vec3 | None = None
    rotation_rad: FiniteFloat | None = Field(default=None, description="about the vertical axis of the frame")
    gripper: Literal["open", "close", "keep"] = "keep"


class ValueMap(ArtifactBase):
    """Cost or value on a voxel grid (VoxPoser, arXiv 2307.05973).

    The centre of voxel ``[i, j, k]`` is ``origin_w + resolution_m * (i + 0.5, j + 0.5, k + 0.5)``.
    """

    kind: Literal["value_map"] = "value_map"
    frame: Literal["world"] = "world"
    label: str
    origin_w: Vec3 = Field(description="corner of the grid [m]")
    resolution_m: Annotated[float, Field(gt=0)]
    values: Annotated[NDArray, Array("float32", "X", "Y", "Z")] = Field(description="higher is better")


class Constraint(Typed):
    """One relation between what moves and a keypoint that stays: data, never code that would have to be trusted.

    Its cost in metres, with ``s`` where the subject is, ``k`` the keypoint and ``d`` the distance: ``at`` is
    ``|s - k|``, ``above`` is ``|s - (k + d up)|``, ``higher`` is ``max(0, k_z + d - s_z)``, ``apart`` is
    ``max(0, d - |s - k|)``. It is satisfied when that is at most the tolerance.
    """

    stage: NonNegativeInt
    during: Literal["path", "subgoal"] = Field(description="all the way of the stage, or at its end")
    relation: Literal["at", "above", "higher", "apart"]
    subject: Literal["end_effector", "held"] = Field(
        default="end_effector", description="tool centre point, or the lowest point of what is held"
    )
    keypoint: NonNegativeInt = Field(description="index of the keypoint")
    distance_m: FiniteFloat = 0.0
    tolerance_m: Annotated[float, Field(ge=0)] = 0.005

    def __str__(self) -> str:
        """``end effector above k0 by 0.12 m``."""
        by = "" if self.relation == "at" else f" by {self.distance_m:g} m"
        return f"{self.subject.replace('_', ' ')} {self.relation} k{self.keypoint}{by}"


class Constraints(ArtifactBase):
    """Relational keypoint constraints by stage (after ReKep, arXiv 2409.01652, whose relations are generated code)."""

    kind: Literal["constraints"] = "constraints"
    keypoints: tuple[Keypoint, ...]
    constraints: tuple[Constraint, ...] = Field(min_length=1)
    grippers: tuple[Literal["open", "close", "keep"], ...] = Field(
        default=(), description="what the gripper does at the end of each stage; 'keep' for what is missing"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        for c in self.constraints:
            if c.keypoint >= len(self.keypoints):
                raise ValueError(f"constraint '{c}' speaks of none of the {len(self.keypoints)} keypoints")
        ended = {c.stage for c in self.constraints if c.during == "subgoal"}
        stages = range(max(c.stage for c in self.constraints) + 1)
        if len(self.grippers) > len(stages) or not ended.issuperset(stages):
            raise ValueError("every stage needs a subgoal, and there are no grippers beyond the last stage")
        return self


class Program(ArtifactBase):
    """A small program over the skill library (Code as Policies, arXiv 2209.07753)."""

    kind: Literal["program"] = "program"
    language: Literal["python"] = "python"
    source: str = Field(min_length=1)


Artifact = Annotated[
    SubtaskList
    | Keypoints
    | Boxes
    | AffordanceMap
    | Waypoints2D
    | Waypoints3D
    | LanguageMotion
    | ValueMap
    | Constraints
    | Program,
    Field(discriminator="kind"),
]
"""Any intermediate; ``kind`` says which."""

ArtifactKind = Literal[
    "subtasks",
    "keypoints",
    "boxes",
    "affordance_map",
    "waypoints_2d",
    "waypoints_3d",
    "language_motion",
    "value_map",
    "constraints",
    "program",
]
"""The values of ``kind``."""

ARTIFACT_KINDS: tuple[ArtifactKind, ...] = get_args(ArtifactKind)

ARTIFACT_ADAPTER: TypeAdapter[Artifact] = TypeAdapter(Artifact, config=ConfigDict(defer_build=True))
"""Parses any artifact: ``ARTIFACT_ADAPTER.validate_json(text)``."""


def _check_inside(image: ImageRef, u: float, v: float, what: str) -> None:
    if not (0.0 <= u <= image.width and 0.0 <= v <= image.height):
        raise ValueError(
            f"{what} at (u={u:g}, v={v:g}) is outside image '{image.camera}' of {image.width} x {image.height} px"
        )
