"""Headless Chromium, steered by its DevTools protocol: open pages, press keys, click, take pictures."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import Request, urlopen

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 20.0  # for whatever a page is to do
KEYS = {
    "Enter": (13, "\r"),
    " ": (32, " "),
    "Tab": (9, ""),
    "Escape": (27, ""),
    "End": (35, ""),
    "Home": (36, ""),
}
KEYS |= {"ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, "")}


def find_browser() -> str | None:
    """The program; None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """A running browser with a profile of its own. options: of its command line."""

    def __init__(self, *options: str) -> None:
        program = find_browser()
        if program is None:
            raise FileNotFoundError(f"no browser: install one of {', '.join(BROWSERS)}")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        common = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        common += ["--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage"]
        profile = [f"--user-data-dir={self._profile.name}", "--remote-debugging-port=0"]
        command = [program, *common, *profile, *options, "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._port = self._port_of(Path(self._profile.name) / "DevToolsActivePort")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def page(self, width: int = 1000, height: int = 900) -> Page:
        """A new empty page. width, height: of its window in pixels."""
        request = Request(f"http://127.0.0.1:{self._port}/json/new", method="PUT")
        with urlopen(request, timeout=PATIENCE_S) as answer:
            page = Page(json.load(answer)["webSocketDebuggerUrl"])
        page.resize(width, height)
        return page

    def close(self) -> None:
        """End the program and remove its profile."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def _port_of(self, file: Path) -> int:
        end = time.monotonic() + 3 * PATIENCE_S
        while not (file.exists() and file.read_text()):
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError("the browser does not start")
            time.sleep(0.05)
        return int(file.read_text().split()[0])


class Page:
    """A page.

    complaints: errors of its scripts and of its policies. addresses: all that it asked for. messages: of its
    WebSockets, (sent, text or base64 of bytes) in order.
    """

    def __init__(self, address: str) -> None:
        from websockets.sync.client import connect

        self._connection = connect(address, max_size=None, compression=None)
        self._socket = self._connection.__enter__()
        self._last = 0
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.messages: list[tuple[bool, str]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; RuntimeError where that fails."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == self._last:
                break
            self._note(message.get("method", ""), message.get("params", {}))
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        result: dict[str, Any] = message["result"]
        return result

    def close(self) -> None:
        """Close the page."""
        self.call("Page.close")
        self._connection.__exit__(None, None, None)

    def open(self, address: str) -> None:
        """Go to an address, and wait until the page is there."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """The value of an expression, of a promise when it is kept; RuntimeError if it throws."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=expression, **options)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = PATIENCE_S) -> None:
        """Wait until an expression is true; TimeoutError with the page's text if it never is."""
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{expression}: not so in {seconds:g} s: {self.js('document.body.innerText')}"
                )
            time.sleep(0.03)

    def text(self, selector: str) -> str:
        """The text of an element, as it is seen."""
        found: str = self.js(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    def click(self, selector: str, share: float = 0.5) -> None:
        """Click on an element, halfway down and at a share of its width from the left."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        left, top, width, height = self.js(
            f"(({{x, y, width, height}}) => [x, y, width, height])({element}.getBoundingClientRect())"
        )
        place = {"x": left + share * width, "y": top + height / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **place)

    def press(self, key: str, times: int = 1, shift: bool = False) -> None:
        """Press a key of `KEYS`."""
        code, text = KEYS[key]
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 * shift}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
            self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in a file input."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"])

    def drop(self, file: Path, x: int, y: int) -> None:
        """Drag a file onto a place of the window and let it go."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Give the window another size in pixels. scale: pixels of a picture for each of them."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, **features: str) -> None:
        """Set what the reader prefers, such as color_scheme="dark" or reduced_motion="reduce"."""
        named = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": each} for name, each in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=named)

    def picture(self, out: Path, whole: bool = False) -> None:
        """Take a picture of the window as a PNG; whole: of all the page, beyond the window."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        out.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.addresses.append(facts["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.addresses.append(facts["url"])
        elif event in ("Network.webSocketFrameSent", "Network.webSocketFrameReceived"):
            self.messages.append((event.endswith("Sent"), facts["response"]["payloadData"]))
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(facts["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(facts["args"]))
        # A refusal of the server is logged as an error of the network; the page says it in its own words.
        elif (
            event == "Log.entryAdded" and facts["entry"]["level"] == "error" and not _refused(facts["entry"])
        ):
            self.complaints.append(facts["entry"]["text"])


def _refused(entry: dict[str, Any]) -> bool:
    return bool(entry["source"] == "network" and "status of" in entry["text"])


def hosts(addresses: Sequence[str]) -> set[str]:
    """The hosts, with their ports, among addresses that go over the network."""
    return {each.split("/")[2] for each in addresses if each.startswith(("http:", "https:", "ws:", "wss:"))}
