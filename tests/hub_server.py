"""A server that speaks as much of the Hub's interface as huggingface-hub needs to push and pull a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import yaml

TOKEN = "hf_of_the_test"
Files = dict[str, bytes]


class Hub(BaseHTTPRequestHandler):
    """Repositories in memory. Large files come and go by their SHA-256, as LFS has it.

    fault: what goes wrong with downloads: "breaks off" (`left` times), "altered", or "busy".
    """

    protocol_version = "HTTP/1.1"
    repositories: dict[str, dict[str, Files]]  # by name, by branch
    private: set[str]
    objects: Files  # large files by SHA-256
    fault: str
    left: int
    asked: list[str]  # method and path of every request

    def do_POST(self) -> None:
        body = self._body()
        path = unquote(self.path.partition("?")[0])
        type(self).asked.append(f"POST {path}")
        if path == "/api/validate-yaml":
            _, *parts = json.loads(body)["content"].split("---\n", 2)
            good = not parts or isinstance(yaml.safe_load(parts[0]), dict)
            wrong = [] if good else [{"message": "the header is no mapping"}]
            return self._json({"errors": wrong, "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, message="Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/(preupload|commit|branch)/(.+)", path):
            name, what, branch = found.groups()
            if name not in self.repositories:
                return self._refuse(404, "RepoNotFound")
            return getattr(self, f"_{what}")(name, branch, body)
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        return self._json({})  # verification of an upload

    def do_PUT(self) -> None:
        body = self._body()
        oid = self.path.rsplit("/", 1)[1]
        type(self).asked.append(f"PUT {self.path}")
        if hashlib.sha256(body).hexdigest() != oid:
            return self._refuse(400)
        self.objects[oid] = body
        return self._json({})

    def do_HEAD(self) -> None:
        self._resolve(with_body=False)

    def do_GET(self) -> None:
        self._resolve(with_body=True)

    def _create(self, asked: dict) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name.startswith("others/"):
            return self._refuse(403)
        if name in self.repositories:
            return self._json({"url": self._address(name)}, 409)
        self.repositories[name] = {"main": {}}
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(name)
        return self._json({"url": self._address(name)})

    def _branch(self, name: str, branch: str, body: bytes) -> None:
        branches = self.repositories[name]
        branches.setdefault(branch, dict(branches["main"]))
        return self._json({})

    def _preupload(self, name: str, branch: str, body: bytes) -> None:
        files = [
            {
                "path": file["path"],
                "shouldIgnore": False,
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
            }
            for file in json.loads(body)["files"]
        ]
        return self._json({"files": files})

    def _batch(self, asked: dict) -> None:
        objects = [
            {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": self._address(o["oid"])}}}
            for o in asked["objects"]
        ]
        return self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, branch: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.repositories[name][branch][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.repositories[name][branch][value["path"]] = self.objects[value["oid"]]
        return self._json({"commitUrl": self._address(f"{name}/commit/{'a' * 40}"), "commitOid": "a" * 40})

    def _resolve(self, with_body: bool) -> None:
        type(self).asked.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/(\w+/\w+)/resolve/([^/]+)/(.+)", unquote(self.path.partition("?")[0]))
        name, revision, file = found.groups() if found else ("", "", "")
        hidden = name in self.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if name not in self.repositories or hidden:
            return self._refuse(401 if hidden else 404, "RepoNotFound")
        branches = self.repositories[name]
        commits = {_commit_of(files): files for files in branches.values()}
        files = branches.get(revision, commits.get(revision))
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        if file not in files:
            return self._refuse(404, "EntryNotFound", commit=_commit_of(files))
        return self._send(files[file], _commit_of(files), file.endswith(".safetensors"), with_body)

    def _send(self, content: bytes, commit: str, large: bool, with_body: bool) -> None:
        if self.fault == "busy":
            return self._refuse(503)
        wanted = self.headers.get("Range")
        start = int(wanted[6:].partition("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        digest = hashlib.sha256(content) if large else hashlib.sha1(content)
        self.send_header("ETag", f'"{digest.hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not with_body:
            return None
        body = content[start:]
        if large and self.fault == "altered":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if large and self.fault == "breaks off" and self.left:
            type(self).left -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str = "", message: str = "", commit: str = "") -> None:
        self.send_response(status)
        for header, value in {
            "X-Error-Code": code,
            "X-Error-Message": message,
            "X-Repo-Commit": commit,
        }.items():
            if value:
                self.send_header(header, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _address(self, path: str) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}/{path}"

    def log_message(self, *words: object) -> None:
        """Quietly."""


def _commit_of(files: Files) -> str:
    text = "".join(f"{path}{hashlib.sha1(content).hexdigest()}" for path, content in sorted(files.items()))
    return hashlib.sha1(text.encode()).hexdigest()


@contextmanager
def running_hub() -> Iterator[tuple[type[Hub], str]]:
    """A hub of its own without repositories, and its address."""
    fields = {"repositories": {}, "private": set(), "objects": {}, "fault": "", "left": 0, "asked": []}
    handler = type("Handler", (Hub,), fields)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield handler, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
