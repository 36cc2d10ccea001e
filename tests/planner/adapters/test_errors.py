"""Each way in which an answer can be wrong has its sentence: the family, the place, the problem and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from hiervla.planner.adapters import AdapterError, ImageSize, MokaAdapter, get_adapter
from hiervla.planner.adapters.base import MAX_CHARS, MAX_ITEMS, MAX_NESTING
from hiervla.representations import HiervlaError, Keypoint, Keypoints, LanguageMotion, Waypoint2D, Waypoints2D
from tests.planner.adapters.common import frame, image, ref_of

SENT: dict[str, Any] = {"sent": ImageSize(644, 476)}
OTHER = "Check that the adapter is the one of this model, or ask again."
SIZE = "Give sent=ImageSize(width, height) as the model's image processor made it."

MESSAGES: list[tuple[str, str, dict[str, Any], str]] = [
    ("hamster", "Pick it up.", {}, "the whole answer: there is no <ans>. Ask for the path between <ans> and </ans>."),
    (
        "hamster",
        "<ans>[(0.1, 0.2), (0.3, 1.2)]</ans>",
        {},
        f"point 2 at character 18: y = 1.2 is outside of 0 to 1. {OTHER}",
    ),
    (
        "hamster",
        "<ans>[(0.1, 0.2), <action>Jump</action>]</ans>",
        {},
        f"character 18: the action 'jump' is neither 'Open Gripper' nor 'Close Gripper'. {OTHER}",
    ),
    (
        "hamster",
        "<ans>[(0.1, 0.2), (0.3,",
        {},
        "character 23: the text ends before ')'. Let the model write more tokens.",
    ),
    (
        "hamster",
        "<ans>[(0.1, 0.2), __import__('os')]</ans>",
        {},
        "character 18: the word '__import__' stands where a value should. Ask for the family's form again.",
    ),
    (
        "hamster",
        "TRAJECTORY: <ans>[(0.1, 0.2)]</ans> MASK: <ans>[(0.1, 0.2)]</ans>",
        {},
        "character 42: there is a second <ans>. Ask for one path.",
    ),
    (
        "robopoint",
        "[(0.1, 0.2, 0.3, 0.4)]",
        {},
        f"point 1 at character 1: the tuple has 4 numbers, and this family writes 2. {OTHER}",
    ),
    (
        "robopoint",
        "[(0.1, nan)]",
        {},
        "character 7: 'nan' is no finite number. Ask for the family's form again.",
    ),
    (
        "robopoint",
        '[{"point": [250, 750]}]',
        {},
        f"character 0: it has objects with keys, which this family never writes. {OTHER}",
    ),
    (
        "gpt",
        "Either [(0.1, 0.2)] or [(0.3, 0.4)].",
        {},
        "character 23: a second list follows the one at character 7, and only one can be the answer. Ask for one list"
        " and nothing else.",
    ),
    (
        "gemini-robotics-er",
        '[{"point": [250, 1750], "label": "mug"}]',
        {},
        f"point 1 at character 11: x = 1750 is outside of 0 to 1000. {OTHER}",
    ),
    (
        "gemini-robotics-er",
        '[{"point": [0.25, 0.75], "label": "mug"}]',
        {},
        f"the whole answer: all coordinates are fractions between 0 and 1, but the family counts in per mille. {OTHER}",
    ),
    (
        "gemini-robotics-er",
        '[{"bbox_2d": [1, 2, 3, 4], "label": "mug"}]',
        {},
        f"character 13: the key 'bbox_2d' is Qwen's, whose axes are in another order. {OTHER}",
    ),
    (
        "gemini-robotics-er",
        '[{"box_2d": [300, 100, 200, 400], "label": "mug"}]',
        {},
        "box 1 at character 12: along y the box starts at 300 and ends at 200, so it is empty or its numbers are in"
        f" another family's order. {OTHER}",
    ),
    (
        "gemini-robotics-er",
        '[{"point": [250, 750], "label": "mug"}, {"poi',
        {},
        "character 41: a quoted text does not end. Let the model write more tokens.",
    ),
    (
        "gemini-robotics-er",
        '[{"point": [250, 750], "point": [1, 2]}]',
        {},
        "character 23: the key 'point' is there twice. Ask for the family's form again.",
    ),
    (
        "gemini-robotics-er",
        '[{"point": [250, 750]}]',
        {"kind": "boxes"},
        "the whole answer: boxes were asked for, but it has points. Ask again for boxes.",
    ),
    (
        "qwen3-vl",
        '{"bbox_2d": [1, 2, 30, 40]}',
        {"kind": "waypoints_2d"},
        "the whole answer: waypoints_2d were asked for, but it has boxes. Ask again for points.",
    ),
    (
        "qwen2.5-vl",
        '[{"point_2d": [1, 2]}]',
        {},
        "the whole answer: the family counts in pixels of the image that it"
        f" was sent, and that size is missing. {SIZE}",
    ),  # fmt: skip
    (
        "qwen2.5-vl",
        '[{"point_2d": [1, 2]}]',
        {"sent": ImageSize(640, 480)},
        "the whole answer: 640 x 480 px is no size that the processor makes of an image of 640 x 480 px (both sides are"
        " multiples of 28 and keep the aspect ratio). Give the size that it really made, such as 644 x 476 px.",
    ),
    (
        "qwen2.5-vl",
        '[{"point_2d": [1, 2]}]',
        {"sent": ImageSize(476, 644)},
        "the whole answer: 476 x 644 px is no size that the processor makes of an image of 640 x 480 px (both sides are"
        " multiples of 28 and keep the aspect ratio). Give the size that it really made, such as 644 x 476 px.",
    ),
    (
        "qwen2.5-vl",
        '[{"point_2d": [600, 300]}]',
        {"sent": ImageSize(336, 252)},
        "point 1 at character 14: x = 600 is outside of the sent image of 336 x 252 px. The numbers may be pixels of"
        " another size: give the size that the model's image processor made, or ask again.",
    ),
    (
        "robobrain-2.0",
        "[(700, 20)]",
        SENT,
        "point 1 at character 1: x = 700 is outside of the sent image of 644 x 476 px. It is none of the family's: give"
        " the size that the model's image processor made, or ask again.",
    ),
    (
        "robobrain-2.5",
        "[(10, 20, 0.5)]",
        {},
        "point 1 at character 1: it has a depth, which only a calibrated camera can turn into a place. Give frame=...,"
        " or ask for kind='keypoints' or 'waypoints_2d' to do without depths.",
    ),
    (
        "robobrain-2.5",
        "[(10, 20, 850)]",
        {},
        f"point 1 at character 1: the depth 850 m is outside of 0 to 100 m. {OTHER}",
    ),
    (
        "molmo",
        '<points x1="9.1" y1="11.7" x2="17.2" alt="boats">',
        {},
        "character 0: the tag has not one y for each x. Ask again.",
    ),
    (
        "molmo",
        '<points coords="1 1 308 305">ramp</points>',
        {},
        f"character 0: the tag has coords, and 'molmo' writes x1 and y1. {OTHER}",
    ),
    (
        "molmo2",
        '<points coords="1 1 308 305; 2 1 30 40">ramp</points>',
        {},
        "character 16: coords is not the number of one image and then number, x and y of each point. Ask about one"
        " image at a time.",
    ),
    (
        "molmoact",
        "The trajectory of the end effector is [[1, 2], [300, 4]].",
        {},
        f"point 2 at character 47: x = 300 is outside of 0 to 255. {OTHER}",
    ),
    (
        "moka",
        '{"target_tile": "f3"}',
        {},
        "character 16: 'f3' is no tile from a1 to e5. Check the grid, or ask again.",
    ),
    (
        "moka",
        '{"grasp_keypoint": "P7"}',
        {"kind": "keypoints"},
        "character 19: the mark 'P7' is not one of those that were drawn (none). Give all of them with"
        " MokaAdapter.with_marks, or ask again.",
    ),
    (
        "molmo",
        '<point x="1" y="2">a</point>',
        {"kind": "boxes"},
        "the whole answer: the family does not write boxes. Ask it for one of keypoints.",
    ),
    (
        "robobrain-2.0",
        "<think>The cup is at [(1, 2)], so",
        SENT,
        "character 0: the text ends in its thoughts. Let the model write more tokens.",
    ),
]


@pytest.mark.parametrize(("family", "text", "options", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_message(family: str, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError) as caught:
        get_adapter(family).parse(text, image(), **options)
    error = caught.value
    assert str(error) == f"adapter '{family}', {message}"
    assert isinstance(error, HiervlaError)
    assert (error.family, error.text) == (family, text)
    assert error.place in message and error.problem in message and error.remedy in message
    assert error.offset is None or 0 <= error.offset <= len(text)


def test_what_is_absurdly_long_nested_or_many_is_refused() -> None:
    adapter = get_adapter("gpt")
    fine = "[(0.1, 0.2)]"
    assert adapter.parse(fine + " " * (MAX_CHARS - len(fine)), image())
    with pytest.raises(AdapterError, match=f"{MAX_CHARS + 1} characters, more than {MAX_CHARS}"):
        adapter.parse(fine + " " * (MAX_CHARS + 1 - len(fine)), image())
    many = ", ".join(["(0.1, 0.2)"] * MAX_ITEMS)
    assert len(adapter.parse(f"[{many}]", image())[0].points) == MAX_ITEMS  # type: ignore[union-attr]  # keypoints
    with pytest.raises(AdapterError, match=f"more than {MAX_ITEMS} items"):
        adapter.parse(f"[{many}, (0.1, 0.2)]", image())
    with pytest.raises(AdapterError, match=f"nested more than {MAX_NESTING} deep"):
        adapter.parse("[" * 10_000, image())
    with pytest.raises(AdapterError, match="more than 16000 values"):
        adapter.parse("[0.1,0.2]" * 6_000, image())
    with pytest.raises(AdapterError, match="a number has more than 32 characters"):
        adapter.parse(f"[(0.{'1' * 5000}, 0.2)]", image())


def test_a_box_that_no_artifact_can_hold_is_an_error_of_the_adapter() -> None:
    with pytest.raises(AdapterError, match=r"what it says makes no artifact \(.*box 'mug' is empty"):
        get_adapter("qwen3-vl").parse('{"bbox_2d": [0, 0, 5e-324, 9], "label": "mug"}', image())


def test_what_a_message_quotes_can_be_printed() -> None:
    for text in ("[(0.1, \ud800)]", "[(0.1, \x1b[31m)]", "[(0.1, 0.2) \u202e]", '[{"a\ud800\n": 1, "a\ud800\n": 2}]'):
        with pytest.raises(AdapterError) as caught:
            get_adapter("gpt").parse(text, image())
        assert str(caught.value).isprintable()
        assert str(caught.value).encode()
        assert caught.value.text == text


def test_an_answer_that_is_no_text_is_told_so() -> None:
    with pytest.raises(AdapterError, match="the answer is no text but NoneType"):
        get_adapter("gpt").parse(None, image())  # type: ignore[arg-type]  # servers send null for refusals


def test_a_depth_needs_the_frame_that_the_image_was_made_from() -> None:
    adapter, seen = get_adapter("robobrain-2.5"), frame()
    with pytest.raises(AdapterError, match="the frame of camera 'front' is not the image"):
        adapter.parse("[(500, 500, 1.0)]", image(64, 48), frame=seen)
    (path,) = adapter.parse("[(500, 500, 1.0)]", ref_of(seen), frame=seen)
    assert path.kind == "waypoints_3d"
    assert path.points[0].position_w == pytest.approx((0.5, 0.0, 0.0))
    with pytest.raises(AdapterError, match="there is no depth"):
        adapter.parse("[(500, 500)]", ref_of(seen), frame=seen, kind="waypoints_3d")
    (points,) = adapter.parse("[(500, 500, 1.0)]", ref_of(seen), frame=seen, kind="keypoints")
    assert isinstance(points, Keypoints)
    assert points.points[0].position_w == pytest.approx((0.5, 0.0, 0.0))


def test_what_a_family_cannot_say_is_not_written() -> None:
    point = Keypoints(image=image(), points=(Keypoint(label="mug", u=1.0, v=2.0),))
    path = Waypoints2D(image=image(), points=(Waypoint2D(u=1.0, v=2.0, gripper="open"),))
    with pytest.raises(AdapterError, match=r"'hamster', rendering: it has no way to say keypoints. Give one of way"):
        get_adapter("hamster").render(point)
    with pytest.raises(AdapterError, match="no way to say language_motion"):
        get_adapter("gpt").render(LanguageMotion(text="move left"))
    with pytest.raises(AdapterError, match=r"Give sent=ImageSize\(width, height\)"):
        get_adapter("qwen2.5-vl").render(point)
    with pytest.raises(AdapterError, match="640 x 480 px is no size that the processor makes"):
        get_adapter("qwen2.5-vl").render(point, sent=ImageSize(640, 480))
    with pytest.raises(AdapterError, match="it says one to three tiles"):
        get_adapter("moka").render(Waypoints2D(image=image(), points=(Waypoint2D(u=1.0, v=2.0),) * 4))
    for family in ("robopoint", "gpt", "robobrain-2.0", "robobrain-2.5", "molmoact", "moka"):
        with pytest.raises(AdapterError, match="no way to say what the gripper does"):
            get_adapter(family).render(path, **SENT)
    with pytest.raises(AdapterError, match="no keypoint 'mug'"):
        MokaAdapter().with_marks({"P1": (1.0, 2.0)}).render(point)
