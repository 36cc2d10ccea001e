"""What can go wrong between the loop and a policy that runs in another process."""

from __future__ import annotations

from hiervla.representations import HiervlaError


class RemotePolicyError(HiervlaError):
    """A policy server that gives no usable action chunk.

    Attributes:
        server: its address, without a key.
        problem: what happened, in words.
        remedy: what to do.
    """

    def __init__(self, server: str, problem: str, remedy: str) -> None:
        super().__init__(f"policy server '{server}': {problem}. {remedy}.")
        self.server = server
        self.problem = problem
        self.remedy = remedy


class PolicyServerUnreachableError(RemotePolicyError):
    """Nobody listens there, or the connection broke and could not be made again."""


class PolicyServerTimeoutError(RemotePolicyError):
    """The server did not answer in time."""


class PolicyServerRefusedError(RemotePolicyError):
    """The server answered with an error text, or did not let us in."""


class PolicyAnswerError(RemotePolicyError):
    """The server answered with something that is no action chunk of the declared kind."""


class PolicyProcessError(HiervlaError):
    """A policy of another environment whose process does not serve it.

    Attributes:
        policy: folder or name.
        python: the interpreter that was to run it.
        problem: what happened, in words.
    """

    def __init__(self, policy: str, python: str, problem: str, remedy: str) -> None:
        super().__init__(f"policy '{policy}' run by '{python}': {problem}. {remedy}.")
        self.policy = policy
        self.python = python
        self.problem = problem


class RequestError(HiervlaError, ValueError):
    """A client asked our server for something that cannot be answered; it is told so in these words.

    Attributes:
        key: of the request.
        problem: what is wrong with it.
    """

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        super().__init__(f"request, '{key}': {problem}. {remedy}.")
        self.key = key
        self.problem = problem


class WireError(HiervlaError, ValueError):
    """Bytes that are no message of the protocol, or a value that it cannot carry.

    Attributes:
        problem: what is wrong.
    """

    def __init__(self, problem: str, protocol: str = "openpi") -> None:
        text = f"message of a policy server or client: {problem}. Both sides have to speak {protocol}'s msgpack."
        super().__init__(text)
        self.problem = problem
