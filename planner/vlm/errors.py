"""What can go wrong between the planner and the machine that runs its model."""

from __future__ import annotations

from hiervla.representations import HiervlaError


class BackendError(HiervlaError):
    """A model that gives no answer.

    Attributes:
        backend: id of the backend.
        problem: what happened, in words; never contains a key.
        retryable: whether the same question may be answered when asked again a little later.
    """

    retryable = False

    def __init__(self, backend: str, problem: str, remedy: str) -> None:
        super().__init__(f"planner backend '{backend}': {problem}. {remedy}.")
        self.backend = backend
        self.problem = problem
        self.remedy = remedy


class ServerUnreachableError(BackendError):
    """Nobody listens there, or the connection broke."""

    retryable = True


class ServerTimeoutError(BackendError):
    """The server did not finish in time."""


class MalformedReplyError(BackendError):
    """The server answered with something that is no chat completion."""


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
        self.retryable = status in (408, 409, 425, 429) or status >= 500
