"""Which words of an instruction make up which request: the likeliest way to part it into stretches.

The language model scores every token by itself; a request is one stretch of tokens, with words that belong to none
("and then", "please") before, between and behind. The best parting is found by dynamic programming over all orders.
"""

from __future__ import annotations

from itertools import permutations
from typing import Final

import numpy as np
import numpy.typing as npt

_COST: Final = 0.7
"""What one more request costs, in nats: a doubtful token or two make no request of their own."""
_SHORTEST: Final = 3
"""Tokens of the shortest request, "open the drawer"; "tidy up" beside another request stays with it."""

Scores = npt.NDArray[np.float32]
Span = tuple[int, int]


def best_parting(scores: Scores) -> list[Span]:
    """Stretches of tokens, [start, end), in the order in which the requests are to be carried out.

    Where requests begin and end is decided first, by the words between them; then which of them comes first.

    Args:
        scores: (T, 1 + K) log probabilities of each token to belong to no request (0) or to the k-th one in time.
            T is at least 1.
    """
    idle, busy = scores[:, 0], np.logaddexp.reduce(scores[:, 1:], axis=1)
    best: tuple[float, list[Span]] = (-np.inf, [])
    for count in range(1, scores.shape[1]):
        if 2 * count - 1 <= len(scores):
            total, spans = _fit(idle, busy, count)
            long_enough = count == 1 or min(b - a for a, b in spans) >= _SHORTEST
            if long_enough and total - _COST * count > best[0]:
                best = (total - _COST * count, spans)
    spans = best[1]
    votes = np.array([scores[a:b, 1 : len(spans) + 1].sum(axis=0) for a, b in spans])
    order = max(permutations(range(len(spans))), key=lambda o: sum(votes[k, turn] for k, turn in enumerate(o)))
    return [spans[order.index(turn)] for turn in range(len(spans))]


def _fit(
    idle: npt.NDArray[np.float32], busy: npt.NDArray[np.float32], count: int
) -> tuple[float, list[Span]]:
    """The best stretches for so many requests: their score, and they from left to right.

    The states are: words before the first request, the first request, words between, the second one, ... A token
    at least stands between two requests, words before the first and behind the last need not be there.

    Args:
        idle: (T,) log probability of belonging to no request.
        busy: (T,) of belonging to one.
        count: requests.
    """
    n, states = len(idle), 2 * count + 1
    reached = np.full((n, states), -np.inf)
    came = np.zeros((n, states), np.int64)
    reached[0, 0], reached[0, 1] = idle[0], busy[0]
    for t in range(1, n):
        for s in range(states):
            value, came[t, s] = max((reached[t - 1, b], b) for b in (s, s - 1) if b >= 0)
            reached[t, s] = value + (busy[t] if s % 2 else idle[t])
    s = max((states - 2, states - 1), key=lambda k: reached[n - 1, k])
    total = float(reached[n - 1, s])
    path = [s]
    for t in range(n - 1, 0, -1):
        path.append(int(came[t, path[-1]]))
    path.reverse()
    spans = []
    for k in range(count):
        own = [t for t, state in enumerate(path) if state == 2 * k + 1]
        spans.append((own[0], own[-1] + 1) if own else (0, 0))
    return total, spans
