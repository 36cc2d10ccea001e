"""What can go wrong between the planner and the machine that runs its model."""

from __future__ import annotations

from hiervla.planner.base import PlannerFailedError


class BackendError(PlannerFailedError):
    """A model that gives no answer.

    Attributes:
        backend: id of the backend.
        problem: what happened, in words; never contains a key.
        retryable: whether it is worth asking again at once; ``passing`` also speaks of what takes longer to pass.
    """

    retryable = False

    def __init__(self, backend: str, problem: str, remedy: str) -> None:
        super().__init__(backend, problem, remedy)
        self.backend = backend


class ServerUnreachableError(BackendError):
    """Nobody listens there, or the connection broke."""

    retryable = True
    passing = True


class ServerTimeoutError(BackendError):
    """The server did not finish in time."""

    passing = True


class MalformedReplyError(BackendError):
    """The server answered with something that is no chat completion, as a proxy does while a model is loading."""

    passing = True


class UnreadableAnswerError(BackendError):
    """The model answered, and nothing that it wrote could be read, also after all repairs."""


class ServerStatusError(BackendError):
    """The server answered with an HTTP status that is no success.

    Attributes:
        status: the HTTP status.
        retry_after_s: what the server asked to wait for, None when it did not [s].
    """

    def __init__(
        self, backend: str, status: int, problem: str, remedy: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(backend, problem, remedy)
        self.status = status
        self.retry_after_s = retry_after_s
        self.retryable = self.passing = status in (408, 409, 425, 429) or status >= 500
