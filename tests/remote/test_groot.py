"""GR00T's protocol over real ZeroMQ sockets: what is sent, what an answer means, and what happens when it is none."""

from __future__ import annotations

import io
import pickle
import socket
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.kinematics import Kinematics
from hiervla.executor.policies import create, unfit
from hiervla.executor.policies.remote.errors import (
    PolicyAnswerError,
    PolicyServerRefusedError,
    PolicyServerTimeoutError,
    PolicyServerUnreachableError,
    RemotePolicyError,
    WireError,
)
from hiervla.executor.policies.remote.groot import connection as connection_module
from hiervla.executor.policies.remote.groot.connection import GrootConnection
from hiervla.executor.policies.remote.groot.policy import GrootPolicy, load
from hiervla.executor.policies.remote.groot.spec import preset, presets
from hiervla.executor.policies.remote.groot.wire import pack, unpack
from hiervla.executor.policies.remote.lerobot_server.clients import KEY_VARIABLE
from hiervla.executor.testing import KinematicWorld, step_at
from hiervla.representations import ConventionError, Observation, UnknownNameError
from tests.remote.groot_server import GrootServer, config, objects, plain

STEP = step_at("s1", "pick", (0.5, 0.0, 0.02), object="red mug").replace(text="pick up the red mug")
AXES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
LIBERO = (["image", "wrist_image"], AXES, AXES)
DROID = (
    ["exterior_image_1_left", "wrist_image_left"],
    ["joint_position", "gripper_position"],
    ["joint_position", "gripper_position"],
)
QUICK: dict[str, Any] = {"retries": 0, "connect_s": 1.0, "sleep": lambda s: None}


def seen() -> Observation:
    return KinematicWorld().observe()


def still(rows: int = 16) -> list[Any]:
    """What a DROID server of N1.6 answers that leaves the arm where it is, gripper open."""
    arm = np.tile(panda.HOME_Q.astype(np.float32), (1, rows, 1))
    return [{"joint_position": arm, "gripper_position": np.zeros((1, rows, 1), np.float32)}, {}]


def droid(reply: Any, **more: Any) -> GrootServer:
    return GrootServer(config("n1.6", *DROID, **more), reply)


def test_n16_is_asked_in_maps_with_a_batch_and_answers_joint_positions() -> None:
    answer = still()
    answer[0]["joint_position"][0, 3, 0] += 0.2
    answer[0]["gripper_position"][0, 8:] = 0.51
    server = droid(lambda data: answer, frames=2)
    with server.running() as at:
        policy = create(f"groot:{at}?preset=droid")
        assert policy.id == f"groot:droid/n1.6@tcp://{at}"
        policy.reset(STEP, 3)
        chunks = [policy.act(seen(), STEP) for _ in range(2)]
        assert isinstance(policy, GrootPolicy)
        policy.close()
    endpoints = [r["endpoint"] for r in server.asked]
    assert endpoints == ["get_modality_config", "reset", "get_action", "get_action"]
    asked = server.actions_asked[0]["observation"]
    assert server.actions_asked[0]["options"] is None and set(asked) == {"video", "state", "language"}
    video = asked["video"]["exterior_image_1_left"]
    assert video.shape == (1, 2, 180, 320, 3) and video.dtype == np.uint8
    assert np.array_equal(video[0, 0], video[0, 1]), "a history that there is none of is what is seen now"
    q = seen().proprio.q.astype(np.float32)
    assert asked["state"]["joint_position"].dtype == np.float32
    assert np.array_equal(asked["state"]["joint_position"], q[None, None])
    assert asked["state"]["gripper_position"].shape == (1, 1, 1) and asked["state"]["gripper_position"][0, 0, 0] == 0.0
    assert asked["language"] == {"annotation.human.action.task_description": [["pick up the red mug"]]}
    chunk = chunks[0]
    assert chunk.horizon == 16 and chunk.rate_hz == 15.0 and chunk.policy == policy.id
    turned = panda.HOME_Q + np.array([0.2, 0, 0, 0, 0, 0, 0])
    assert np.allclose(chunk.positions[3], Kinematics().forward(turned)[:3, 3], atol=1e-6)
    assert chunk.gripper.tolist() == [1.0] * 8 + [0.0] * 8, "DROID's 1 is closed"


@pytest.mark.parametrize("squeezed", [False, True])
def test_n15_is_asked_flat_and_libero_deltas_add_up(squeezed: bool) -> None:
    rows = {f"action.{key}": np.zeros((16, 1), np.float32) for key in AXES}
    rows["action.x"][:] = 0.5
    rows["action.gripper"][4:] = 1.0
    if squeezed:
        rows = {key: value[:, 0] for key, value in rows.items()}
    server = GrootServer(config("n1.5", *LIBERO), lambda data: rows, resets=False)
    with server.running() as at:
        policy = load(f"tcp://{at}?preset=libero")
        policy.reset(STEP, 0)
        chunk = policy.act(seen(), STEP)
        policy.close()
    assert [r["endpoint"] for r in server.asked] == ["get_modality_config", "get_action"], "N1.5 knows no reset"
    asked = server.actions_asked[0]
    assert asked["video.image"].shape == asked["video.wrist_image"].shape == (1, 256, 256, 3)
    at_x = [float(asked[f"state.{a}"][0, 0]) for a in "xyz"]
    assert at_x == pytest.approx(seen().proprio.ee_position.tolist(), abs=1e-6)
    assert asked["state.roll"].shape == (1, 1) and asked["state.gripper"].shape == (1, 2)
    assert asked["annotation.human.action.task_description"] == ["pick up the red mug"]
    moved = chunk.positions[:, 0] - seen().proprio.ee_position[0]
    assert np.allclose(moved, 0.025 * np.arange(1, 17)), "half of 0.05 m a row, one after another"
    assert chunk.gripper.tolist() == [0.0] * 4 + [1.0] * 12, "GR00T's LIBERO data have 1 for open"


def test_rotation_states_are_the_parts_of_one_vector() -> None:
    server = GrootServer(config("n1.5", *LIBERO), lambda data: {f"action.{k}": np.zeros((16, 1)) for k in AXES})
    with server.running() as at:
        policy = load(f"{at}?preset=libero")
        policy.act(seen(), STEP)
        policy.close()
    asked = server.actions_asked[0]
    vector = np.array([asked[f"state.{name}"][0, 0] for name in ("roll", "pitch", "yaw")])
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(vector) * Rotation.from_matrix(seen().proprio.T_world_ee[:3, :3]).inv()
    assert turn.magnitude() < 1e-5


def test_a_history_of_other_lengths_and_rows_come_from_the_server() -> None:
    server = droid(lambda data: still(40), rows=40)
    with server.running() as at:
        policy = load(f"{at}?preset=droid")
        assert policy.act(seen(), STEP).horizon == 40
        policy.close()


def test_keys_that_are_not_the_specs_are_told_before_anything_moves() -> None:
    with droid(lambda data: still()).running() as at:
        with pytest.raises(PolicyAnswerError, match="its video keys are exterior_image_1_left, wrist_image_left"):
            load(f"{at}?preset=libero")
    wider = config("n1.6", DROID[0], [*DROID[1], "eef_9d"], [*DROID[2], "eef_9d"])
    with GrootServer(wider, lambda data: still()).running() as at:
        with pytest.raises(PolicyAnswerError, match="its state keys are eef_9d, gripper_position"):
            load(f"{at}?preset=droid")
    more = config("n1.6", DROID[0], DROID[1], [*DROID[2], "base"])
    with GrootServer(more, lambda data: still()).running() as at:
        policy = load(f"{at}?preset=droid")
        assert policy.act(seen(), STEP).horizon == 16, "actions that we have no use for are left alone"
        policy.close()


def test_a_modality_config_that_says_nothing_is_told() -> None:
    nothing: tuple[Any, ...] = (
        {},
        [],
        {"video": 1},
        {"video": {"delta_indices": [], "modality_keys": ["a"]}},
    )
    for modalities in nothing:
        with GrootServer(modalities, lambda data: still()).running() as at:
            with pytest.raises(PolicyAnswerError, match="says nothing that can be read about 'video'"):
                load(f"{at}?preset=droid")


def broken(change: Any) -> Any:
    answer = still()
    change(answer[0])
    return answer


def nan(actions: dict[str, Any]) -> None:
    actions["joint_position"][0, 2, 1] = np.nan


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ({"error": "CUDA out of memory"}, PolicyServerRefusedError, "it answered with an error: CUDA out of memory"),
        (b"ERROR", PolicyServerRefusedError, "an error without words"),
        (b"\xc1", PolicyAnswerError, "it is no msgpack"),
        (pickle.dumps({"a": 1}), PolicyAnswerError, "it is a pickle"),
        (b"PK\x03\x04" + b"0" * 30, PolicyAnswerError, "it is a pickle"),
        (still()[0], PolicyAnswerError, "holds no actions"),
        ([{}, {}], PolicyAnswerError, "has no numbers under 'joint_position', but nothing"),
        (still(8), PolicyAnswerError, r"has the shape \(1, 8, 7\), where \(1, 16, 7\)"),
        (broken(nan), PolicyAnswerError, "row 2 of its 'actions' has nan in column 1"),
        (broken(lambda a: a.update(gripper_position=np.zeros((1, 16, 2)))), PolicyAnswerError, r"\(1, 16, 2\)"),
        (broken(lambda a: a.update(gripper_position="open")), PolicyAnswerError, "no numbers under 'gripper_position'"),
        (broken(lambda a: a.update(gripper_position=np.array(["x"]))), PolicyAnswerError, "no numbers under"),
        (None, PolicyServerUnreachableError, "the connection broke while it was to answer|cannot be reached"),
    ],
)
def test_bad_answers_are_one_clear_error(answer: Any, kind: type[RemotePolicyError], told: str) -> None:
    with droid(lambda data: answer).running() as at:
        policy = load(f"{at}?preset=droid", **QUICK)
        with pytest.raises(kind, match=told) as caught:
            policy.act(seen(), STEP)
        policy.close()
    assert str(caught.value).startswith(f"policy server 'tcp://{at}': ") and "\n" not in str(caught.value)


def test_an_answer_that_is_too_large_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_MESSAGE_BYTES", 4000)
    with droid(lambda data: b"x" * 5000).running() as at:
        policy = load(f"{at}?preset=droid", **QUICK)
        with pytest.raises(PolicyServerUnreachableError, match="the connection broke"):
            policy.act(seen(), STEP)
        policy.close()


def test_a_silent_server_is_not_waited_for_forever() -> None:
    with droid(lambda data: 60.0).running() as at:
        policy = load(f"{at}?preset=droid&timeout_s=0.3")
        with pytest.raises(PolicyServerTimeoutError, match="no answer within 0.3 s"):
            policy.act(seen(), STEP)
        policy.close()


def test_an_absent_server_is_tried_with_growing_waits_and_then_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    waits: list[float] = []
    with pytest.raises(PolicyServerUnreachableError, match="cannot be reached, tried 3 times"):
        load(f"127.0.0.1:{port}?preset=droid", retries=2, connect_s=0.1, sleep=waits.append)
    assert waits == [0.5, 1.0]


def test_a_server_that_came_back_is_asked_again() -> None:
    with droid(lambda data: still()).running() as at:
        policy = load(f"{at}?preset=droid", connect_s=1.0)
        policy.act(seen(), STEP)
    again = droid(lambda data: still())
    with again.running(int(at.rpartition(":")[2])):
        assert policy.act(seen(), STEP).horizon == 16
        assert len(again.actions_asked) == 1
        policy.close()


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    server = GrootServer(config("n1.6", *DROID), lambda data: still(), token="open sesame")
    with server.running() as at:
        with pytest.raises(PolicyServerRefusedError, match=f"Unauthorized.*Put its key into {KEY_VARIABLE}"):
            load(f"{at}?preset=droid")
        monkeypatch.setenv(KEY_VARIABLE, "open sesame")
        load(f"{at}?preset=droid").close()
        connection = GrootConnection(at)
        assert connection.call("ping") == {"status": "ok", "message": "Server is running"}
        connection.close()


def test_addresses_are_read_strictly(tmp_path: Path) -> None:
    for wrong in ("gpu", "gpu:0", "gpu:x", "http://gpu:5555", ":5555", "*:5555", "u:p@gpu:5555"):
        with pytest.raises(ConventionError, match="is no address"):
            load(f"{wrong}?preset=droid")
    with pytest.raises(ConventionError, match=r"does not say what its numbers mean.*droid, libero, panda"):
        load("gpu:5555")
    with pytest.raises(UnknownNameError, match="Did you mean 'droid'"):
        load("gpu:5555?preset=droidd")
    assert unfit("groot:gpu:5555?preset=droid", "fold") is None
    path = tmp_path / "mine.json"
    path.write_text(preset("panda").to_json())
    with pytest.raises(PolicyServerUnreachableError):
        load(f"127.0.0.1:9?spec={path}", retries=0, connect_s=0.05)
    text = preset("panda").to_json().replace('"width":7', '"width":6')
    path.write_text(text)
    with pytest.raises(ConventionError, match="the groups have 7 columns, but a row has 8"):
        load(f"127.0.0.1:9?spec={path}")


def test_presets_go_through_json() -> None:
    for spec in presets().values():
        assert type(spec).from_json(spec.to_json()) == spec


def test_arrays_have_the_bytes_that_numpy_writes_and_reads() -> None:
    values: dict[str, Any] = {
        "image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        "state": np.linspace(-1, 1, 7, dtype=np.float32)[None],
        "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">f8"),
        "none": np.zeros((0, 7)),
        "scalar": np.array(2.5),
        "text": ["pick"],
    }
    theirs = msgpack.unpackb(pack(values), object_hook=objects)
    ours = unpack(msgpack.packb(values, default=plain))
    for key, value in values.items():
        assert np.array_equal(theirs[key], value) and np.array_equal(ours[key], value), key
        if isinstance(value, np.ndarray):
            assert ours[key].dtype == value.dtype.newbyteorder("=") and ours[key].flags.writeable


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    file = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body
    packed: bytes = msgpack.packb({"a": {"__ndarray_class__": True, "as_npy": file}})
    return packed


def object_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    packed: bytes = msgpack.packb({"a": {"__ndarray_class__": True, "as_npy": file.getvalue()}})
    return packed


def record_array() -> bytes:
    packed: bytes = msgpack.packb({"a": np.zeros(2, dtype=[("x", "<f4")])}, default=plain)
    return packed


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (object_array(), "dtype '|O'"),
        (record_array(), "has the header"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8), }"), "comes with 0 bytes"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", b"\0" * 4), "comes with 4 bytes"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", b"\0" * 4), "comes with"),
        (npy("{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,), }"), "has the header"),
        (npy("{'descr': '<f0', 'fortran_order': False, 'shape': (1,), }"), "dtype"),
        (msgpack.packb({"a": {"__ndarray_class__": True, "as_npy": b"\x93NUMPY"}}), "without the bytes"),
        (msgpack.packb({"a": {"__ndarray_class__": True, "as_npy": "text"}}), "without the bytes"),
        (msgpack.packb({"a": {"__ndarray_class__": True}}), "without the bytes"),
        (msgpack.packb({"a": {"__ModalityConfig_class__": True, "as_json": "no json"}}), "no msgpack"),
        (msgpack.packb({"a": {"__ModalityConfig_class__": True, "as_json": "[1]"}}), "comes as a list"),
        (b"\x81" * 5000, "no msgpack"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(WireError) as caught:
        unpack(data)
    assert problem in str(caught.value)


def test_objects_are_not_sent() -> None:
    for value in (np.array([object()]), np.array([1j]), object(), {1, 2}):
        with pytest.raises(WireError, match="cannot be packed.*GR00T's msgpack"):
            pack({"a": value})
