"""`hiervla serve policy`, as a process of its own, with the shipped weights."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.executor.policies.base import make_policy
from tests.executor.test_policies import observation, step

# A job in the background ignores Ctrl-C, and what it starts inherits that.
SERVE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from hiervla.cli import main
sys.exit(main(["serve", "policy", "--port", "0"]))
"""


def test_it_serves_the_shipped_policy_until_it_is_interrupted() -> None:
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None and served.stderr is not None
            first = served.stdout.readline()
            assert first.startswith("flow-1 at ws://127.0.0.1:"), served.stderr.read()
            far, near = make_policy("openpi:" + first.split()[2]), make_policy("flow")
            for policy in (far, near):
                policy.reset(step(), 5)
            got, want = far.act(observation(), step()), near.act(observation(), step())
            assert np.array_equal(got.positions, want.positions) and got.done_prob == want.done_prob
            served.send_signal(signal.SIGINT)
            assert served.wait(timeout=30) == 130
            assert "Traceback" not in served.stderr.read()
        finally:
            served.kill()


def test_its_mistakes_are_one_paragraph(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIERVLA_POLICY_KEY", raising=False)
    assert main(["serve", "policy", "--policy", "floww"]) == 2
    assert "Did you mean 'flow'" in capsys.readouterr().err
    assert main(["serve", "policy", "--host", "0.0.0.0"]) == 1
    assert "any machine of the network" in capsys.readouterr().err
    assert main(["run", "pick up the mug", "--policy", "openpi:http://x"]) == 1
    assert "is no address" in capsys.readouterr().err
