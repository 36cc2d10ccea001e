"""The parts below the adapters: literals with their places, lists in prose, tags, and sizes after resizing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiervla.planner.adapters import AdapterError, ImageSize, get_adapter, smart_resize
from hiervla.planner.adapters.answer import clean
from hiervla.planner.adapters.literals import LiteralError, Node, Reader
from hiervla.planner.adapters.resizing import FACTOR, fits
from hiervla.representations import Boxes, ConventionError, Keypoints, Waypoints2D
from tests.planner.adapters.common import image, places


def plain(node: Node) -> Any:
    if isinstance(node.value, tuple):
        return [plain(child) for child in node.value]
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    return node.value


def read(text: str) -> Any:
    return plain(Reader(text, len(text)).value(0))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, -2.5, +.5, 1e-3]", [1, -2.5, 0.5, 0.001]),
        ("(1, (2, 3),)", [1, [2, 3]]),
        ('{\'a\': "b", "c": [true, None],}', {"a": "b", "c": [True, None]}),
        ('["a\\n\\u00e9\\"", \'it"s\']', ['a\né"', 'it"s']),
        ('{"a": 1, // said the model\n "b": "http://c"}', {"a": 1, "b": "http://c"}),
        ("[]", []),
        ("{}", {}),
    ],
)
def test_json_and_python_are_read_alike(text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "at"),
    [("[1 2]", 3), ("[1, 2", 5), ("[1, x]", 4), ("{a: 1}", 1), ('{"a" 1}', 5), ("['\\q']", 2), ("", 0), ("[1}", 2)],
)
def test_what_is_broken_is_told_where(text: str, at: int) -> None:
    with pytest.raises(LiteralError) as caught:
        read(text)
    assert caught.value.at == at


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.integers(-(10**9), 10**9) | st.booleans() | st.none() | st.text(max_size=20),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
                    max_leaves=12))  # fmt: skip
def test_what_json_writes_is_read_as_json_reads_it(value: Any) -> None:
    import json

    try:
        assert read(json.dumps(value)) == value
    except LiteralError as error:
        assert "nested" in error.problem


def test_each_value_knows_where_it_stands() -> None:
    text = 'x [ (1, 2), {"a": 3} ]'
    node = Reader(text, len(text)).value(2)
    assert isinstance(node.value, tuple)
    assert [text[child.at : child.end] for child in node.value] == ["(1, 2)", '{"a": 3}']
    assert text[node.at : node.end] == text[2:]


def test_labels_are_such_that_a_record_can_hold_them() -> None:
    assert clean(" a \n b\ud800 \ud83d\ude00 ") == "a b\ufffd \U0001f600"
    assert len(clean("x" * 999)) == 200
    (points,) = get_adapter("qwen3-vl").parse('[{"point_2d": [1, 2], "label": "\\ud83d\\ude00 \\udfff"}]', image())
    assert isinstance(points, Keypoints)
    assert points.points[0].label == "\U0001f600 \ufffd"
    assert points.model_dump_json()


def test_prose_thoughts_and_fences_around_the_answer() -> None:
    adapter = get_adapter("gpt")
    expected = (64.0, 96.0)
    for text in (
        "As [1] and [see below] say, the spot is free.\nAnswer: [(0.1, 0.2)]",
        "<think>maybe [(0.5, 0.5)]</think>[(0.1, 0.2)]",
        "<answer>[(0.1, 0.2)]</answer> trailing [(0.5, 0.5)]",
        "```python\n[(0.1, 0.2)]\n```",
        "[(0.1, 0.2)], that is: [(0.1, 0.2)]",
        "The point is (0.1, 0.2).",
        "(0.1, 0.2)",
        "[0.1, 0.2]",
    ):
        (points,) = adapter.parse(text, image())
        assert places(points)[0] == pytest.approx(expected), text


def test_paths_are_what_the_text_or_the_question_says() -> None:
    adapter, ref = get_adapter("gemini-robotics-er"), image(1000, 1000)
    two = '[{"point": [1, 2], "label": "cup"}, {"point": [3, 4], "label": "pot"}]'
    assert isinstance(adapter.parse(two, ref)[0], Keypoints)
    assert isinstance(adapter.parse(two, ref, kind="waypoints_2d")[0], Waypoints2D)
    bare = '{"label": "wipe", "trajectory": [[1, 2], [3, 4]]}'
    assert places(adapter.parse(bare, ref)[0]) == [(2.0, 1.0), (4.0, 3.0)]
    both = '[{"label": "a", "trajectory": [[1, 2]]}, {"label": "b", "trajectory": [[3, 4]]}]'
    assert [a.kind for a in adapter.parse(both, ref)] == ["waypoints_2d", "waypoints_2d"]
    assert len(adapter.parse(both, ref, kind="keypoints")) == 1
    wrapped = '{"objects": [{"box_2d": [1, 2, 3, 4], "label": "cup"}, {"box_2d": null, "label": "no pot"}]}'
    (boxes,) = adapter.parse(wrapped, ref)
    assert isinstance(boxes, Boxes)
    assert places(boxes) == [(2.0, 1.0, 4.0, 3.0)]
    twice = '{"box_2d": [1, 2, 3, 4], "point": [2, 3], "label": "cup"}'
    assert [a.kind for a in adapter.parse(twice, ref)] == ["keypoints", "boxes"]
    steps = '[{"step": 2, "point": [3, 4]}, {"step": 1, "point": [1, 2]}]'
    assert places(adapter.parse(steps, ref)[0]) == [(2.0, 1.0), (4.0, 3.0)]


def test_actions_belong_to_the_point_before_them() -> None:
    text = (
        "<ans>[<action>Open Gripper</action>, (0.1, 0.2), (0.3, 0.4), <action>Close Gripper</action>,"
        " <action>open  GRIPPER</action>, (0.5, 0.6)]</ans>"
    )
    (path,) = get_adapter("hamster").parse(text, image(10, 10))
    assert isinstance(path, Waypoints2D)
    assert [(p.u, p.v, p.gripper) for p in path.points] == [
        (1.0, 2.0, "open"),
        (3.0, 4.0, "close"),
        (3.0, 4.0, "open"),
        (5.0, 6.0, "keep"),
    ]


def test_tags_of_all_sorts() -> None:
    adapter, ref = get_adapter("molmo"), image(1000, 1000)
    text = (
        '<point x="1.5" y="2" alt="a &quot;b&quot; &amp; c"/> and'
        " <points x1='3' y1=\"4\" x2=\"5\" y2='6'>d &lt; e</points>"
    )
    (points,) = adapter.parse(text, ref)
    assert isinstance(points, Keypoints)
    assert [(p.label, p.u, p.v) for p in points.points] == [
        ('a "b" & c', 15.0, 20.0),
        ("d < e", 30.0, 40.0),
        ("d < e", 50.0, 60.0),
    ]
    assert adapter.render(points).count("<point ") == 1
    for broken in ('<point x="1" y="2"', '<point x="1" x="2" y="3">', '<point x="one" y="2">', "<point>"):
        with pytest.raises(AdapterError):
            adapter.parse(broken, ref)


@settings(max_examples=300, deadline=None)
@given(
    width=st.integers(30, 4000),
    height=st.integers(30, 4000),
    low=st.integers(1, 2_000_000),
    more=st.integers(0, 4_000_000),
)
def test_sizes_that_the_processor_makes_fit_and_others_do_not(width: int, height: int, low: int, more: int) -> None:
    sent = smart_resize(width, height, min_pixels=low, max_pixels=low + 4 * FACTOR * FACTOR + more)
    assert fits(width, height, sent)
    assert sent.width % FACTOR == 0 and sent.height % FACTOR == 0
    assert not fits(width, height, ImageSize(sent.width + 1, sent.height))
    if min(sent.width, sent.height) >= 4 * FACTOR:
        assert not fits(width, height, ImageSize(2 * sent.width, sent.height))


@settings(max_examples=300, deadline=None)
@given(width=st.integers(28, 5000), height=st.integers(28, 5000))
def test_resizing_is_the_one_of_the_public_processor(width: int, height: int) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as published

    ours = smart_resize(width, height)
    assert (ours.height, ours.width) == published(height, width)


def test_resizing_refuses_what_the_processor_refuses() -> None:
    with pytest.raises(ConventionError, match="more than 200 times as long as wide"):
        smart_resize(10_000, 20)
    with pytest.raises(AdapterError, match="is more than 200 times as long as wide. Crop"):
        get_adapter("qwen2.5-vl").parse("[]", image(10_000, 20), sent=ImageSize(280, 28))
