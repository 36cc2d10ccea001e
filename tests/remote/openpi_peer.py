"""The other side, with the real ``openpi-client`` package: run by an interpreter that has it, never imported.

`client URL` sends the request that it reads packed from stdin and prints what came as JSON; `server` listens at a free
port, prints it, and answers each request with rows made from what it was sent, with openpi-client's own packer.
"""

import asyncio
import json
import sys

import numpy as np
import websockets.asyncio.server
from openpi_client import msgpack_numpy, websocket_client_policy


def client(url: str) -> None:
    policy = websocket_client_policy.WebsocketClientPolicy(url)
    asked = msgpack_numpy.unpackb(sys.stdin.buffer.read())
    answer = policy.infer(asked)
    actions = answer["actions"]
    told = {
        "policy": policy.get_server_metadata()["policy"],
        "shape": actions.shape,
        "dtype": str(actions.dtype),
        "actions": actions.tolist(),
        "timed": answer["server_timing"]["infer_ms"] >= 0.0,
    }
    try:
        policy.infer({"prompt": "nothing to see"})
    except RuntimeError as error:
        told["refused"] = str(error)
    print(json.dumps(told))


async def _answer(socket: websockets.asyncio.server.ServerConnection) -> None:
    await socket.send(msgpack_numpy.packb({"model": "fake-droid"}))
    async for data in socket:
        seen = msgpack_numpy.unpackb(data)
        velocity = np.zeros((10, 8), dtype=np.float32)
        velocity[:, 0] = seen["observation/joint_position"].sum() / 100.0
        velocity[:, 7] = float(seen["observation/gripper_position"][0] > 0.5)
        seen = {k: (list(v.shape), str(v.dtype)) if isinstance(v, np.ndarray) else v for k, v in seen.items()}
        print(json.dumps(seen), file=sys.stderr, flush=True)
        await socket.send(msgpack_numpy.packb({"actions": velocity, "server_timing": {"infer_ms": np.float64(0.1)}}))


async def server() -> None:
    async with websockets.asyncio.server.serve(_answer, "127.0.0.1", 0, compression=None, max_size=None) as listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await listening.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client(sys.argv[2])
    else:
        asyncio.run(server())
