"""Answers as models really write them, printed in their authors' pages and in public reports, give the right pixels."""

from __future__ import annotations

from typing import Any

import pytest

from hiervla.planner.adapters import AdapterError, ImageSize, adapter_names, get_adapter
from hiervla.representations import ARTIFACT_ADAPTER, Boxes, Keypoints, Waypoints2D
from tests.planner.adapters.common import CORPUS, image, places


def parse(entry: dict[str, Any], **changes: Any) -> tuple[Any, ...]:
    options = {"sent": ImageSize(*entry["sent"]) if entry["sent"] else None, "kind": entry["kind"], **changes}
    return get_adapter(entry["family"]).parse(entry["text"], image(*entry["image"]), **options)


@pytest.mark.parametrize("entry", CORPUS, ids=[f"{i}-{e['family']}" for i, e in enumerate(CORPUS)])
def test_a_published_answer_is_understood(entry: dict[str, Any]) -> None:
    if isinstance(entry["expect"], dict):
        with pytest.raises(AdapterError, match=entry["expect"]["error"]) as caught:
            parse(entry)
        assert caught.value.text == entry["text"]
        return
    artifacts = parse(entry)
    assert [a.kind for a in artifacts] == [e["kind"] for e in entry["expect"]]
    for artifact, expected in zip(artifacts, entry["expect"], strict=True):
        found = places(artifact)
        assert len(found) == expected["count"]
        assert found[0] == pytest.approx(expected["first"])
        assert found[-1] == pytest.approx(expected["last"])
        if isinstance(artifact, Waypoints2D) and "grippers" in expected:
            assert [p.gripper for p in artifact.points] == expected["grippers"]
        if "labels" in expected:
            items = artifact.boxes if isinstance(artifact, Boxes) else artifact.points
            assert [items[0].label, items[-1].label] == expected["labels"]
        assert ARTIFACT_ADAPTER.validate_json(artifact.model_dump_json()) == artifact


def test_every_family_is_in_the_corpus_with_its_source() -> None:
    assert {entry["family"] for entry in CORPUS} == set(adapter_names())
    assert all(len(entry["source"]) > 10 and isinstance(entry["verbatim"], bool) for entry in CORPUS)


WITHOUT_PRINTED_ANSWERS = {"gpt", "robobrain-2.5", "moka"}


def test_most_families_have_an_answer_that_was_printed_verbatim() -> None:
    verbatim = {entry["family"] for entry in CORPUS if entry["verbatim"]}
    assert set(adapter_names()) - verbatim == WITHOUT_PRINTED_ANSWERS


def test_nothing_there_is_an_answer_and_no_answer_is_an_error() -> None:
    empty = {"hamster": "<ans>[]</ans>", "moka": '{"target_tile": ""}', "molmo": "There are none.", "molmo2": "None."}
    for family in adapter_names():
        adapter = get_adapter(family)
        sent = ImageSize(644, 476) if adapter.convention.relative_to == "sent" else None
        assert adapter.parse(empty.get(family, "[]"), image(), sent=sent) == ()
        for nothing in ("", "   \n", "I cannot see it.", "<think>It is at"):
            with pytest.raises(AdapterError):
                adapter.parse(nothing, image(), sent=sent)


def test_the_same_numbers_mean_different_places_in_different_families() -> None:
    text = '[{{"{key}": [250, 750], "label": "mug"}}]'
    ref = image(1000, 500)
    (gemini,) = get_adapter("gemini-robotics-er").parse(text.format(key="point"), ref)
    (qwen,) = get_adapter("qwen3-vl").parse(text.format(key="point_2d"), ref)
    assert isinstance(gemini, Keypoints) and isinstance(qwen, Keypoints)
    assert places(gemini) == [(750.0, 125.0)]
    assert places(qwen) == [(250.0, 375.0)]
