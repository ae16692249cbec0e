"""The camera of the page: frames in over a WebSocket, labels back."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from numpy.typing import NDArray

from foveate.errors import FoveateError
from foveate.infer.live import Live, LiveAnswer, open_live
from foveate.serve.desk import Desk

TIME = struct.Struct("<d")
TRY_LATER, WRONG = 1013, 1008  # why a WebSocket is closed (RFC 6455, section 7.4, and its registry)


def add_live(app: FastAPI, desk: Desk) -> None:
    """Add the route `/v1/live`.

    The server says {"fps", "size"} of the frames that it wants. A message of the client is a frame: its time
    in seconds, a little-endian float64, and size x size x 3 bytes of RGB. Each is answered, by {"time_s",
    "predictions": null} where no label is due.
    """

    @app.websocket("/v1/live")
    async def live(socket: WebSocket, model: str | None = None, top: int = 5) -> None:
        protocols = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol="foveate" if "foveate" in protocols else None)
        name = model or desk.service.default
        try:
            if desk.draining or desk.lives >= desk.settings.lives:
                await socket.close(TRY_LATER, "busy: try again a little later")
                return
            stream = open_live(desk.service.served(name).engine, top=top)
        except FoveateError as error:
            await socket.close(WRONG, str(error)[:120])
            return
        desk.lives += 1
        try:
            await _answer_frames(socket, desk, name, stream)
        except WebSocketDisconnect:
            pass
        finally:
            desk.lives -= 1


async def _answer_frames(socket: WebSocket, desk: Desk, name: str, stream: Live) -> None:
    side = stream.spec.resize
    await socket.send_json({"fps": stream.fps, "size": side})
    while not desk.draining:
        try:
            message = await asyncio.wait_for(socket.receive_bytes(), desk.settings.stall_s)
        except TimeoutError:
            await socket.close(WRONG, f"no frame came for {desk.settings.stall_s:g} s")
            return
        except KeyError:
            message = b""
        if len(message) != TIME.size + side * side * 3:
            await socket.close(WRONG, f"a frame has 8 + {side} x {side} x 3 bytes")
            return
        (time_s,) = TIME.unpack_from(message)
        frame = np.frombuffer(bytearray(message), np.uint8, offset=TIME.size).reshape(side, side, 3)
        try:
            answer = await asyncio.to_thread(_push, desk, name, stream, frame, time_s)
        except FoveateError as error:
            await socket.close(WRONG, str(error)[:120])
            return
        await socket.send_json(_said(answer, time_s))
    await socket.close(TRY_LATER, "the server is being stopped")


def _push(desk: Desk, name: str, stream: Live, frame: NDArray[np.uint8], time_s: float) -> LiveAnswer | None:
    with desk.service.turn(name):
        return stream.push(frame, time_s)


def _said(answer: LiveAnswer | None, time_s: float) -> dict[str, Any]:
    return {"time_s": time_s, "predictions": None} if answer is None else answer.to_dict()
