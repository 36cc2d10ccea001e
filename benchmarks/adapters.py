"""Do the output adapters keep their promise that nothing but their own error leaves them, and how long do they take?

Published answers of twelve model families are mutated at random (cut, spliced, doubled, numbers and brackets replaced,
characters of all planes inserted), and random bytes are thrown in. Two of three texts are parsed as the answer that
they were made from, the others by a random family with random options. Counted is every exception that is not an
AdapterError, and every artifact that cannot be written to a record.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common import arguments, finish
from hiervla.planner.adapters import AdapterError, ImageSize, OutputAdapter, adapter_names, get_adapter
from hiervla.representations import ARTIFACT_ADAPTER, CameraFrame, ImageRef

QUICK, FULL = 10_000, 100_000
REPEATS = 200
CORPUS = Path(__file__).parents[1] / "tests" / "planner" / "adapters" / "corpus.json"

PIECES: Final[tuple[str, ...]] = (
    *"[](){}<>,:;\"'\\/.-+ \n\t0123456789eE_",
    *(
        "[[",
        "]]",
        "((",
        "[{",
        "}]",
        "</",
        "/>",
        "...",
        "…",
        "//",
        "```json\n",
        "```",
        "\\u",
        "\\ud800",
        "\ud800",
        "\x00",
    ),
    *("NaN", "nan", "Infinity", "-inf", "1e999", "-1", "1e-320", "0x10", "1_000", "٣", "½", "9" * 40, "9" * 5000),
    *("true", "None", "null", '"point"', '"point_2d"', '"box_2d"', '"bbox_2d"', '"label"', '"step"', '"trajectory"'),
    *("<ans>", "</ans>", "<action>", "</action>", "Open Gripper", "<think>", "</think>", "<answer>", "</answer>"),
    *("<point ", "<points ", 'x1="', 'y1="', 'alt="', 'coords="', "is [[", "There are none.", "[" * 60, "(" * 3000),
    *("{'a':" * 20, " " * 500, "\u202e", "\U0001f916", "é", "中", "\ufeff"),
)
"""What mutations insert."""


@dataclass
class Tally:
    """What the fuzzing met."""

    fuzzed: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_ms: float = 0.0
    foreign: list[str] = field(default_factory=list)


def corpus() -> list[dict[str, Any]]:
    """The published answers, with their families and sizes."""
    entries: list[dict[str, Any]] = json.loads(CORPUS.read_text(encoding="utf-8"))
    return entries


def mutations(entries: Sequence[dict[str, Any]], count: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Random offspring of published answers with the entry that it was made from, and random bytes and characters."""
    rng = random.Random(seed)
    texts = [entry["text"] for entry in entries]
    for _ in range(count):
        entry = rng.choice(entries)
        if rng.random() < 0.05:
            yield rng.randbytes(rng.randrange(300)).decode("utf-8", rng.choice(("replace", "surrogateescape"))), entry
            continue
        if rng.random() < 0.05:
            yield "".join(rng.choice(PIECES) for _ in range(rng.randrange(60))), entry
            continue
        text = entry["text"]
        for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 3, 8))):
            text = _mutated(text, texts, rng)
        yield text, entry


def _mutated(text: str, texts: Sequence[str], rng: random.Random) -> str:
    a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    b = min(b, a + rng.choice((1, 1, 1, 3, 10, 1000)))
    match rng.choice((0, 0, 1, 2, 3, 4, 5, 6, 6, 7, 7)):
        case 0:
            return text[:a] + text[b:]
        case 1:
            return text[:a]
        case 2:
            return text[:b] + text[a:b] * rng.choice((1, 1, 2, 30)) + text[b:]
        case 3:
            return text[:a] + rng.choice(PIECES) + text[b:]
        case 4:
            return text[:a] + rng.choice(texts)[rng.randrange(20) :] + text[b:]
        case 5:
            return text[:a] + chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) + text[a:]
        case 6:
            return (
                rng.choice(("", "Sure! ", "I see [1] of (a). ", "<think>[[1, 2]</think>\n"))
                + text
                + rng.choice("\n.` ")
            )
        case _:
            digits = [i for i, char in enumerate(text) if char.isdigit()] or [0]
            place = rng.choice(digits)
            return text[:place] + rng.choice(("-", ".", "99", "1e5", "", "0")) + text[place + 1 :]


def fuzz(count: int, seed: int = 0) -> Tally:
    """Parse `count` mutated answers, each with a random family and random options."""
    entries = corpus()
    rng = random.Random(seed + 1)
    frame = CameraFrame(
        name="front",
        rgb=np.zeros((48, 64, 3), np.uint8),
        K=np.array([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]]),
        T_world_camera=np.eye(4),
        time_s=0.0,
    )
    seen = ImageRef(camera="front", sha256=frame.sha256, width=64, height=48, time_s=0.0)
    large = ImageRef(camera="front", sha256="0" * 64, width=640, height=480, time_s=0.0)
    sizes = (None, ImageSize(644, 476), ImageSize(644, 476), ImageSize(84, 56), ImageSize(1, 1))
    tally = Tally()
    for text, entry in mutations(entries, count, seed):
        if rng.random() < 2 / 3:
            width, height = entry["image"]
            image = large.replace(width=width, height=height)
            adapter = get_adapter(entry["family"])
            sent = ImageSize(*entry["sent"]) if entry["sent"] else None
        else:
            adapter = get_adapter(rng.choice(adapter_names()))
            image, sent = rng.choice((large, large, seen)), rng.choice(sizes)
        kind = rng.choice((entry["kind"] if entry["kind"] in adapter.kinds else None, None, *adapter.kinds))
        options = {"sent": sent, "frame": rng.choice((None, frame)), "kind": kind}
        _try(adapter, text, image, options, tally)
    return tally


def _try(adapter: OutputAdapter, text: str, image: ImageRef, options: dict[str, Any], tally: Tally) -> None:
    tally.fuzzed += 1
    began = time.perf_counter()
    try:
        artifacts = adapter.parse(text, image, **options)
    except AdapterError:
        tally.refused += 1
        return
    except Exception as error:  # whatever it is, it is what this benchmark counts
        tally.foreign.append(f"{adapter.family}: {type(error).__name__}: {error} for {text[:200]!r} with {options}")
        return
    finally:
        tally.slowest_ms = max(tally.slowest_ms, (time.perf_counter() - began) * 1e3)
    tally.accepted += 1
    try:
        for artifact in artifacts:
            ARTIFACT_ADAPTER.validate_json(artifact.model_dump_json())
    except ValueError as error:
        tally.foreign.append(f"{adapter.family}: no record can hold what it made of {text[:200]!r}: {error}")


def medians() -> dict[str, float]:
    """Median time of parsing one published answer, by family [us]."""
    seconds: dict[str, list[float]] = {name: [] for name in adapter_names()}
    for entry in corpus():
        width, height = entry["image"]
        image = ImageRef(camera="front", sha256="0" * 64, width=width, height=height, time_s=0.0)
        sent = ImageSize(*entry["sent"]) if entry["sent"] else None
        if isinstance(entry["expect"], dict):
            continue
        adapter = get_adapter(entry["family"])
        for _ in range(REPEATS):
            began = time.perf_counter()
            adapter.parse(entry["text"], image, sent=sent, kind=entry["kind"])
            seconds[entry["family"]].append(time.perf_counter() - began)
    return {name: round(statistics.median(values) * 1e6, 1) for name, values in seconds.items() if values}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table, then one line of JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    args = parser.parse_args(argv)
    times = medians()
    print(f"{'family':22}median time of a published answer")
    for name, us in times.items():
        print(f"{name:22}{us:8.1f} us")
    tally = fuzz(FULL if args.full else QUICK, args.seed)
    print(f"\n{tally.fuzzed} fuzzed answers: {tally.accepted} understood, {tally.refused} refused")
    for line in tally.foreign[:20]:
        print(f"  {line}")
    finish(
        {
            "benchmark": "adapters",
            "fuzzed": tally.fuzzed,
            "understood": tally.accepted,
            "refused": tally.refused,
            "foreign_exceptions": len(tally.foreign),
            "slowest_ms": round(tally.slowest_ms, 2),
            "parse_median_us": times,
        }
    )


if __name__ == "__main__":
    main()
