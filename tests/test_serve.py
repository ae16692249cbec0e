"""The server: what it answers, what it refuses, and that nothing that strangers send stays or ends it."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from foveate.infer.engine import EagerEngine
from foveate.infer.predict import Predictor
from foveate.serve.service import Asked, Service, Stopped
from foveate.serve.settings import Settings
from foveate.weights.load import load_model
from make_bad_videos import KINDS

MB = 1 << 20
QUICK = {"most_bytes": 2 * MB, "head_s": 1.0, "stall_s": 1.0, "read_s": 15.0, "queue": 20, "uploads": 20}
EXAMPLES = Path(__file__).parents[1] / "src" / "foveate" / "serve" / "examples"


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    temporary: Path

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Status, JSON or text, and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {}, encode_chunked=not hasattr(body, "__len__"))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text, answer.headers

    def predict(self, body: Any, query: str = "", **headers: str) -> tuple[int, Any]:
        return self.ask("POST", f"/v1/predict{query}", body, headers)[:2]

    def gauge(self, name: str) -> float:
        lines = self.ask("GET", "/metrics")[1].splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"foveate_{name} ")))

    def settle(self) -> None:
        """Wait until nothing is going on."""
        until = time.monotonic() + 20
        while self.gauge("places") + self.gauge("uploads") and time.monotonic() < until:
            time.sleep(0.05)
        assert (self.gauge("places"), self.gauge("uploads")) == (0, 0)

    def open_files(self) -> list[str]:
        """Files that the server has open and that have no name any more, or lie in its temporary folder."""
        links = [
            os.readlink(link) for link in Path(f"/proc/{self.process.pid}/fd").iterdir() if link.is_symlink()
        ]
        return [link for link in links if str(self.temporary) in link]


@contextmanager
def running(token: str = "", **settings: Any) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp())  # sockets of child processes lie in it, whose paths must be short
    command = [sys.executable, Path(__file__).parent / "server_child.py", json.dumps(QUICK | settings), token]
    process = subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        yield Running(process, int(process.stdout.readline()), folder)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as started:
        yield started


@pytest.fixture
def video() -> bytes:
    return (EXAMPLES / "wave.mp4").read_bytes()


def test_an_answer_is_that_of_a_predictor(server: Running) -> None:
    path = EXAMPLES / "several.mp4"
    status, answer = server.predict(path.read_bytes(), "?window=3&top=2", **{"X-Filename": "caf%C3%A9.mp4"})
    expected = (
        Predictor(load_model("adafocus_small", "figures"), 2, window=3).predict(path).to_dict(choices=True)
    )
    assert status == 200
    assert answer["video"] == "café.mp4".encode("utf-8", "backslashreplace").decode()
    assert (answer["width"], answer["height"], answer["received_bytes"]) == (320, 240, path.stat().st_size)
    assert [each["label"] for each in answer["segments"]] == ["walk", "jump", "clap", "kick", "run", "squat"]
    for name in ("boxes", "cost", "protocol", "duration_s"):
        assert answer[name] == json.loads(json.dumps(expected[name]))
    assert [each["score"] for each in answer["predictions"]] == pytest.approx(
        [each["score"] for each in expected["predictions"]], abs=1e-4
    )


def test_labels_over_time_come_as_lines(server: Running) -> None:
    body = (EXAMPLES / "several.mp4").read_bytes()
    status, text, headers = server.ask(
        "POST", "/v1/predict?window=3", body, {"Accept": "application/x-ndjson"}
    )
    *windows, result = [json.loads(line) for line in text.splitlines()]
    assert (status, headers["Content-Type"], result.pop("event")) == (200, "application/x-ndjson", "result")
    shown = [(each["event"], each["start_s"], each["predictions"][0]["label"]) for each in windows]
    assert shown == [("window", each["start_s"], each["label"]) for each in result["segments"]]
    status, whole = server.predict(body, "?window=3")
    assert {**whole, "timing_ms": 0} == {**result, "timing_ms": 0}


def test_an_error_in_lines_is_the_last_of_them(server: Running) -> None:
    status, text, _ = server.ask("POST", "/v1/predict", b"no video", {"Accept": "application/x-ndjson"})
    (last,) = [json.loads(line) for line in text.splitlines()]
    assert (status, last["event"], last["status"]) == (200, "error", 422)
    assert set(last["error"]) == {"subject", "cause", "hint"}


def archive(files: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_gets_a_line_for_each_file(server: Running, video: bytes, format: int) -> None:
    packed = archive({"a/one.mp4": video, "../two.mp4": b"text", "é.mp4": video}, format)
    status, text, _ = server.ask("POST", "/v1/batch?top=1", packed)
    rows = [json.loads(line) for line in text.splitlines()]
    assert status == 200
    assert [(row["video"], row["status"]) for row in rows][:2] == [
        ("a/one.mp4", "ok"),
        ("../two.mp4", "refused"),
    ]
    assert [row["predictions"][0]["label"] for row in rows if row["status"] == "ok"] == ["wave", "wave"]
    assert rows[1]["code"] == 422 and rows[1]["cause"]


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header of an archive with a right sum."""
    head = bytearray(512)
    head[: len(name)], head[124 : 124 + len(size)], head[156:157] = name, size, kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize(
    "packed",
    [
        b"text",
        b"\0" * 1024,
        archive({"a.mp4": b"x" * 600})[:1000],
        header(b"a", b"-7"),
        header(b"a", b"777777777777"),
        header(b"a", b"\x80\0\0\0\0\0\0\0\0\0\0\1"),
        header(b"a", b"00000000000") * 200,
        header(b"a", b"00000000000", b"5") * 1000,
        header(b"a", b"1_0"),
        bytes(range(256)) * 4,
    ],
    ids=["text", "zeros", "cut", "negative", "huge", "base 256", "many", "folders", "underscore", "noise"],
)
def test_a_hostile_archive_is_refused(server: Running, packed: bytes) -> None:
    status, answer, _ = server.ask("POST", "/v1/batch", packed)
    assert status == 422 and answer["error"]["cause"]


def test_every_kind_of_bad_video(server: Running, corpus: tuple[Path, dict[str, Any]]) -> None:
    right = {"accept": (200,), "partial": (200,), "refuse": (422,), "either": (200, 422)}
    wrong = {}
    before = psutil.Process(server.process.pid).memory_info().rss
    kinds = {corpus[0] / kind.file: kind.policy for kind, _ in KINDS.values()}
    for path, policy in kinds.items():
        if not path.is_file():
            continue
        status, answer = server.predict(path.read_bytes(), **{"X-Filename": "a.mp4"})
        expected = (400,) if path.stat().st_size == 0 else right[policy]
        said = answer["error"] if status != 200 else answer
        if status not in expected or (
            status != 200 and (said["subject"] not in ("a.mp4", "body") or not said["cause"])
        ):
            wrong[path.name] = (policy, status, said)
    assert not wrong
    assert psutil.Process(server.process.pid).memory_info().rss - before < 100 * MB
    server.settle()
    assert server.open_files() == [] and [*server.temporary.rglob("*.mp4")] == []


def test_wrong_options_are_refused_in_a_line(server: Running, video: bytes) -> None:
    for query in ("?top=0", "?top=x", "?model=none", "?window=-1", "?window=nan", "?budget=2", "?top=1001"):
        status, answer = server.predict(video, query)
        assert status == 400, query
        assert answer["error"]["cause"] and "\n" not in answer["error"]["cause"]


def raw(port: int, *parts: bytes, pause: float = 0.0, end: bool = False) -> bytes:
    """What a server sends for some bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as stream:
        try:
            for part in parts:
                stream.sendall(part)
                time.sleep(pause)
            if end:
                stream.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := stream.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


POST = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n"
ATTACKS: dict[str, tuple[tuple[bytes, ...], tuple[int, ...]]] = {
    "no body": ((POST + CLOSE + b"\r\n",), (400,)),
    "length zero": ((POST + CLOSE + b"Content-Length: 0\r\n\r\n",), (400,)),
    "length and nothing": ((POST + b"Content-Length: 1000\r\n\r\n",), (408,)),
    "length too small": ((POST + CLOSE + b"Content-Length: 3\r\n\r\nabcdef",), (422,)),
    "length negative": ((POST + b"Content-Length: -5\r\n\r\n",), (400,)),
    "length no number": ((POST + b"Content-Length: ten\r\n\r\n",), (400,)),
    "length huge": ((POST + b"Content-Length: 99999999999999999999\r\n\r\n",), (400, 413)),
    "length of a terabyte": ((POST + b"Content-Length: 1099511627776\r\n\r\n",), (413,)),
    "two lengths": ((POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",), (400,)),
    "length and chunked": (
        (POST + CLOSE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
        (400,),
    ),
    "chunked without end": ((POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",), (408,)),
    "chunk of no size": ((POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",), (400, 408)),
    "chunk of a huge size": (
        (POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",),
        (400, 408),
    ),
    "chunk of a negative size": ((POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nab",), (400, 408)),
    "unknown encoding": ((POST + CLOSE + b"Transfer-Encoding: gzip\r\n\r\n",), (400, 501)),
    "bad method": ((b"BREW /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",), (405,)),
    "get of a post": ((b"GET /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",), (405,)),
    "traversal": (
        (b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",),
        (404,),
    ),
    "traversal, encoded": (
        (b"GET /examples/%2e%2e/api.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",),
        (404,),
    ),
    "traversal, backslash": (
        (b"GET /examples/..\\..\\cli\\serve.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",),
        (400, 404),
    ),
    "a null in the path": (
        (b"GET /%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",),
        (400, 404),
    ),
    "a long path": ((b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",), (400, 404, 414)),
    "absolute address": (
        (b"GET http://example.org/etc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",),
        (400, 404),
    ),
    "huge header": ((POST + b"X-A: " + b"a" * 70000 + b"\r\n\r\n",), (400, 431)),
    "many headers": ((POST + b"X-A: a\r\n" * 20000 + b"\r\n",), (400, 431)),
    "head that never ends": ((POST,), (408,)),
    "nothing": ((b"",), (408,)),
    "noise": ((os.urandom(300).replace(b"\n", b"") + b"\r\n\r\n",), (400,)),
    "not HTTP": ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), (400,)),
    "TLS": ((bytes.fromhex("16030100a5010000a10303") + bytes(160) + b"\r\n\r\n",), (400, 408)),
    "HTTP/2": ((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",), (400,)),
    "HTTP/1.0": ((b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n",), (200,)),
    "no host": ((b"GET /health/live HTTP/1.1\r\n\r\n",), (400,)),
    "another host": ((b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",), (400,)),
    "host with a path": ((b"GET / HTTP/1.1\r\nHost: localhost/evil\r\nConnection: close\r\n\r\n",), (400,)),
    "another origin": (
        (POST + CLOSE + b"Origin: http://evil.example\r\nContent-Length: 1\r\n\r\na",),
        (403,),
    ),
    "no origin": ((POST + CLOSE + b"Origin: null\r\nContent-Length: 1\r\n\r\na",), (403,)),
    "folded header": ((POST + CLOSE + b"X-A: a\r\n b\r\nContent-Length: 1\r\n\r\na",), (400, 422)),
    "space in a header name": ((POST + b"Content-Length : 5\r\n\r\nabcde",), (400,)),
    "bare line feeds": ((b"GET /health/live HTTP/1.1\nHost: localhost\nConnection: close\n\n",), (200, 400)),
    "name with lines": ((POST + CLOSE + b"X-Filename: a%0d%0ab\r\nContent-Length: 1\r\n\r\na",), (422,)),
    "name of a script": ((POST + CLOSE + b"X-Filename: <script>\r\nContent-Length: 1\r\n\r\na",), (422,)),
    "upgrade to another protocol": (
        (POST + CLOSE + b"Upgrade: h2c\r\nContent-Length: 1\r\n\r\na",),
        (400, 422),
    ),
    "form": (
        (POST + CLOSE + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n\r\n--x--",),
        (422,),
    ),
    "expects more": ((POST + CLOSE + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n", b"text"), (100,)),
}


def test_there_are_forty_attacks() -> None:
    assert len(ATTACKS) >= 40


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gets_an_answer_and_the_server_goes_on(server: Running, attack: str) -> None:
    parts, expected = ATTACKS[attack]
    received = raw(server.port, *parts)
    assert received.startswith(b"HTTP/1.1 "), received[:100]
    assert int(received.split()[1]) in expected, received[:300]
    assert b"Traceback" not in received
    assert server.ask("GET", "/health/live")[0] == 200


def test_a_body_that_is_too_long_is_refused_in_words(server: Running) -> None:
    status, answer = server.predict(bytes(2 * MB + 1))
    assert (status, answer["error"]["cause"]) == (413, "is longer than 2 MB")
    chunks = (bytes(MB) for _ in range(3))
    assert server.ask("POST", "/v1/predict", chunks, {"Transfer-Encoding": "chunked"})[0] == 413
    server.settle()


def test_a_client_that_goes_leaves_nothing(server: Running) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as stream:
            stream.sendall(POST + b"Content-Length: 500000\r\n\r\n" + bytes(100_000))
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.settle()
    assert server.open_files() == []


def test_slow_uploads_do_not_keep_others_waiting(server: Running, video: bytes) -> None:
    streams = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    try:
        for stream in streams:
            stream.sendall(POST + b"Content-Length: 500000\r\n\r\n" + bytes(10_000))
        assert server.predict(video)[0] == 200
    finally:
        for stream in streams:
            stream.close()
    server.settle()


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """A server with a token, and room for little."""
    with running("sesame", workers=1, queue=1, lives=1, connections=40) as started:
        yield started


SESAME = {"Authorization": "Bearer sesame"}
PROTOCOLS: Any = ["foveate", "token.sesame"]


def test_a_crowd_is_told_to_come_back(strict: Running, video: bytes) -> None:
    with ThreadPoolExecutor(16) as clients:
        answers = [*clients.map(lambda _: strict.ask("POST", "/v1/predict", video, SESAME), range(32))]
    assert {status for status, _, _ in answers} == {200, 429}
    assert all(int(headers["Retry-After"]) >= 1 for status, _, headers in answers if status == 429)


def test_too_many_connections_are_refused(strict: Running) -> None:
    streams = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(40)]
    time.sleep(0.3)
    assert raw(strict.port).startswith(b"HTTP/1.1 429")
    for stream in streams:
        stream.close()
    time.sleep(0.3)
    assert strict.ask("GET", "/health/live")[0] == 200


def test_a_token_is_needed_where_there_is_one(strict: Running, video: bytes) -> None:
    assert strict.predict(video)[0] == 401
    assert strict.predict(video, Authorization="Bearer wrong")[0] == 401
    assert strict.predict(video, **SESAME)[0] == 200
    assert strict.ask("GET", "/")[0] == strict.ask("GET", "/health/ready")[0] == 200
    assert strict.ask("GET", "/metrics")[0] == 401
    address = f"ws://127.0.0.1:{strict.port}/v1/live"
    with pytest.raises(InvalidStatus):
        connect(address)
    with pytest.raises(InvalidStatus):
        connect(address, origin="http://evil.example", subprotocols=PROTOCOLS)  # type: ignore[arg-type]
    with connect(address, subprotocols=PROTOCOLS) as live:
        assert json.loads(live.recv())["size"]
        with (
            connect(address, subprotocols=PROTOCOLS) as second,
            pytest.raises(ConnectionClosed, match="busy"),
        ):
            second.recv()  # there is room for one camera


def test_a_full_disk_is_an_answer(strict: Running, video: bytes) -> None:
    process = psutil.Process(strict.process.pid)
    process.rlimit(psutil.RLIMIT_FSIZE, (100_000, 100_000))
    status, answer = strict.predict(bytes(200_000), **SESAME)
    assert (status, answer["error"]["subject"]) == (507, "disk")
    assert strict.predict(video, **SESAME)[0] == 200


def test_a_signal_lets_answers_end() -> None:
    body = (EXAMPLES / "several.mp4").read_bytes()
    with running() as server, ThreadPoolExecutor(1) as client:
        begun = client.submit(server.predict, body, "?window=1")
        while not server.gauge("places"):
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        started, seen = time.monotonic(), set()
        while server.process.poll() is None and time.monotonic() - started < 15:
            try:
                seen.add((server.ask("GET", "/health/ready")[0], server.predict(body)[0]))
            except OSError:
                time.sleep(0.02)
        assert begun.result()[0] == 200
        assert (503, 503) in seen
        assert server.process.wait(1) == 0
        assert time.monotonic() - started < 10


def test_a_camera_is_answered_frame_by_frame(server: Running) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/v1/live") as live:
        wanted = json.loads(live.recv())
        assert set(wanted) == {"fps", "size"}
        answers = []
        for number in range(20):
            pixels = bytes([10 * number]) * (3 * wanted["size"] ** 2)
            live.send(struct.pack("<d", number / wanted["fps"]) + pixels)
            answers.append(json.loads(live.recv()))
        assert [each["time_s"] for each in answers] == [number / wanted["fps"] for number in range(20)]
        labelled = [each for each in answers if each["predictions"]]
        assert labelled and labelled[0]["model_ms"] > 0 and labelled[0]["boxes"]
        live.send(b"short")
        with pytest.raises(ConnectionClosed):
            live.recv()
    for time_s in (float("nan"), float("inf")):
        with connect(f"ws://127.0.0.1:{server.port}/v1/live") as live:
            size = json.loads(live.recv())["size"]
            live.send(struct.pack("<d", time_s) + bytes(3 * size**2))
            with pytest.raises(ConnectionClosed):
                live.recv()
    assert server.ask("GET", "/health/live")[0] == 200


def test_what_takes_too_long_is_told_apart() -> None:
    engine = EagerEngine(load_model("adafocus_small", "figures"))
    with Service({"small": engine}, Settings(answer_s=0.0, workers=1)) as service:
        asked = Asked(EXAMPLES / "several.mp4", "a.mp4", "small", window=1.0)
        with pytest.raises(Stopped, match="late"):
            service.answer(asked)
        asked.gone.set()
        with pytest.raises(Stopped, match="gone"):
            service.answer(asked)


def test_what_the_server_says_of_itself(server: Running) -> None:
    _, described, headers = server.ask("GET", "/v1/models")
    (model,) = described["models"]
    own = load_model("adafocus_small", "figures")
    assert (model["classes"], model["size"]) == (own.num_classes, own.spec.size)
    assert described["limits"]["bytes"] == QUICK["most_bytes"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    examples = server.ask("GET", "/v1/examples")[1]["examples"]
    assert len(examples) == 4
    for each in examples:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", each["url"])
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (200, "video/mp4")
        assert b"ftyp" in answer.read()[:12]
        connection.close()
    paths = server.ask("GET", "/openapi.json")[1]["paths"]
    assert {"/v1/predict", "/v1/batch", "/v1/models", "/metrics", "/health/live"} <= set(paths)


def test_the_command_line(tmp_path: Path, video: bytes) -> None:
    command = [sys.executable, "-m", "foveate", "serve", "adafocus_small", "--no-examples"]
    options = ["--port", "0", "--engine", "eager"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("open http://127.0.0.1:"))
        port = int(line.split(":")[2].partition("/")[0])
        started = Running(process, port, tmp_path)
        try:
            assert started.predict(video)[1]["predictions"][0]["label"] == "wave"
            busy = subprocess.run(
                [*command, "--port", str(port)], check=False, capture_output=True, text=True
            )
            assert busy.returncode == 5
            assert busy.stderr.startswith(f"error: 127.0.0.1:{port}: cannot be listened on: ")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
