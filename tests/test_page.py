"""The page of `foveate serve`, used in headless Chromium as people use it, against the real server."""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import av
import numpy as np
import pytest
import torch
from docs.browser import Browser, Page, find_browser, hosts

import foveate
from foveate.infer.engine import EagerEngine
from foveate.models.budget import Curve, Point
from foveate.serve.api import create_app
from foveate.serve.connections import Server, config_of, listen
from foveate.serve.service import Service
from foveate.serve.settings import Settings
from foveate.weights.load import load_model

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no browser: apt-get install chromium")

EXAMPLES = Path(foveate.__file__).parent / "serve" / "examples"
SPACE = "\u00a0"
# From one answer after the first of 8 frames to one after the last.
CURVE = Curve(
    "exits", "top1", 10, (Point(0.234, 0.04, 0.5, (0.0,) * 8), Point(1.0, 0.16, 0.9, (1.01,) * 7 + (0.0,)))
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One video at a time, of at most a megabyte.

    The models choose patches, sizes, clusters and pathways. The first has a budget; the others know nothing.
    """
    torch.manual_seed(0)
    models = [load_model("adafocus_small", "figures")]
    models[0].curve = CURVE
    models += [foveate.create_model(name) for name in ("arnet_small", "fullvideo_small", "slowfast_small")]
    engines = {model.name: EagerEngine(model) for model in models}
    with Service(engines, Settings(workers=1, queue=0, most_bytes=1 << 20)) as offered:
        yield offered


@contextmanager
def running(service: Service, token: str = "") -> Iterator[str]:
    """The address of a server, which runs in a thread."""
    listening = listen("127.0.0.1", 0)
    app = create_app(service, "127.0.0.1", token)
    server = Server(config_of(app, service.settings), app.state.desk.drain)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with running(service) as place:
        yield place


@pytest.fixture(scope="module")
def guarded(service: Service) -> Iterator[str]:
    """The address of a server that wants a token."""
    with running(service, "open-sesame") as place:
        yield place


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with Browser(*fake) as running:
        yield running


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, ready to be asked. Whatever a test does, nothing may go wrong in it or to another host."""
    shown = browser.page()
    shown.open(address)
    shown.wait("!document.getElementById('settings').hidden")
    yield shown
    shown.js("1")  # what has happened meanwhile is noted
    assert shown.complaints == []
    assert hosts(shown.addresses) == {address.split("/")[2]}
    shown.close()


def answered(page: Page, count: int = 1) -> None:
    """Wait for so many answers since the page was opened."""
    page.wait(f"document.querySelectorAll('#history li').length >= {count}")
    page.wait("document.getElementById('status').hidden")


def choose(page: Page, file: Path, count: int = 1) -> None:
    page.choose("#file", file)
    answered(page, count)


def select(page: Page, field: str, value: str) -> None:
    """Set a field as somebody does who picks from its list."""
    element = f"document.getElementById({json.dumps(field)})"
    page.js(f"{element}.value = {json.dumps(value)}; {element}.dispatchEvent(new Event('change'))")


def asked_by_hand(address: str, file: Path, **facts: Any) -> dict[str, Any]:
    """What the server answers without the page."""
    query = "&".join(f"{name}={quote(str(value))}" for name, value in facts.items())
    with urlopen(Request(f"{address}v1/predict?{query}", data=file.read_bytes()), timeout=60) as answer:
        result: dict[str, Any] = json.load(answer)
    return result


def words_of(score: float) -> str:
    return f"over 99{SPACE}%" if score > 0.99 else f"{round(100 * score)}{SPACE}%"


# --- the answer


def test_a_dropped_video_gets_its_answer_and_the_boxes_in_step(page: Page, address: str) -> None:
    page.drop(EXAMPLES / "jump.mp4", 500, 200)
    answered(page)
    truth = asked_by_hand(address, EXAMPLES / "jump.mp4")
    best = truth["predictions"][0]
    assert page.text("#answer .label") == best["label"]
    assert words_of(best["score"]) in page.text("#answer .sure")
    assert page.js("[...document.querySelectorAll('#top li')].map((li) => li.firstChild.textContent)") == [
        each["label"] for each in truth["predictions"]
    ]
    cost = truth["cost"]
    assert page.text("#spent").startswith(f"{cost['gmacs']:.3g} GMACs")
    assert f"{cost['frames_used']} of {cost['frames_decoded']} decoded" in page.text("#spent")
    assert re.search("in all: decode .*, transform .*, model ", page.text("#parts"))
    page.wait("!document.getElementById('player').paused")  # it plays by itself
    page.js("document.getElementById('player').pause()")
    for box in (truth["boxes"][0], truth["boxes"][-1]):
        page.js(f"document.getElementById('player').currentTime = {box['time_s']}")
        page.wait("!document.getElementById('player').seeking")
        page.wait(f"Math.abs(document.getElementById('marks').dataset.time - {box['time_s']}) < 0.05")
        assert edges_of(page, box["box"], truth["width"]) == [True] * 4


def edges_of(page: Page, box: list[int], width: int) -> list[bool]:
    """Whether the canvas is green in the middle of each edge of a box, in pixels of the video."""
    left, top, right, bottom = box
    across, down = (left + right) / 2, (top + bottom) / 2
    places = json.dumps([(left, down), (across, top), (right, down), (across, bottom)])
    return page.js(
        f"""(() => {{
          const canvas = document.getElementById('marks');
          const unit = canvas.width / {width};
          return {places}.map(([x, y]) => {{
            const place = [Math.min(x * unit, canvas.width - 1), Math.min(y * unit, canvas.height - 1)];
            const [red, green] = canvas.getContext('2d').getImageData(...place.map(Math.floor), 1, 1).data;
            return green > 180 && red < 120;
          }});
        }})()"""
    )


def test_a_real_video_plays_by_itself_once_it_is_answered(page: Page, clips: dict[str, Path]) -> None:
    choose(page, clips["bikes.mp4"])
    page.wait("document.getElementById('player').currentTime > 0.2")
    assert page.js("document.getElementById('player').videoWidth") == 640
    assert page.text("#now").startswith("At ")


def test_labels_come_while_the_video_is_read(page: Page) -> None:
    select(page, "window", "1")
    page.js(
        """window.said = [];
        new MutationObserver(() => said.push(document.getElementById('answer').innerText))
          .observe(document.getElementById('answer'), { childList: true });"""
    )
    choose(page, EXAMPLES / "several.mp4")
    said = page.js("said")
    assert said[0].startswith("So far") and said[-1].startswith("Over the whole video")
    assert page.js("document.querySelectorAll('#segments button').length") > 2


def test_the_timeline_seeks_by_click_and_by_key(page: Page) -> None:
    page.js("[...document.querySelectorAll('#examples button')].at(-1).click()")
    answered(page)
    page.js("document.getElementById('player').pause()")
    page.click("#line", 0.75)
    length = page.js("document.getElementById('player').duration")
    page.wait(f"Math.abs(document.getElementById('player').currentTime - {0.75 * length}) < 0.1")
    page.js("document.querySelector('#segments button').focus()")
    names = page.js("[...document.querySelectorAll('#segments button')].map((each) => each.ariaLabel)")
    assert len(names) > 2
    for key, place in (
        ("ArrowRight", 1),
        ("End", len(names) - 1),
        ("ArrowLeft", len(names) - 2),
        ("Home", 0),
    ):
        page.press(key)
        page.wait(
            f"document.querySelector('#segments [aria-current]')?.ariaLabel === {json.dumps(names[place])}"
        )
        start = float(re.search(r", ([\d.]+)\s", names[place])[1])  # type: ignore[index]
        assert page.js("document.getElementById('player').currentTime") == pytest.approx(start, abs=0.06)
        assert page.js("document.activeElement.ariaLabel") == names[place]


def test_the_budget_is_asked_for_when_the_slider_is_let_go(page: Page, address: str) -> None:
    choose(page, EXAMPLES / "wave.mp4")
    assert page.text("#budget-words") == f"100{SPACE}%"
    page.js("document.getElementById('budget').focus()")
    page.press("Home")
    answered(page, 2)
    assert page.text("#budget-words") == f"24{SPACE}%"
    cells = "[...row.cells].map((cell) => cell.textContent)"
    rows = page.js(f"[...document.querySelectorAll('#compared tbody tr')].map((row) => {cells})")
    for row, name, budget in zip(rows, ("before", "now"), (1, 0.24), strict=True):
        truth = asked_by_hand(address, EXAMPLES / "wave.mp4", budget=budget)
        best = truth["predictions"][0]
        answer = f"{best['label']}, {words_of(best['score'])}"
        assert row[:4] == [name, f"{100 * budget:.0f}{SPACE}%", answer, f"{truth['cost']['gmacs']:.3g}"]
        assert re.fullmatch(r"[\d.]+\sm?s", row[4])
    assert float(rows[1][3]) < 0.5 * float(rows[0][3])
    assert sum("v1/predict" in each for each in page.addresses) == 2
    assert "it was sure before" in page.text("#legend")
    assert "not read: 7" in page.text("#lanes")
    select(page, "model", "arnet_small")
    assert page.js("document.getElementById('budget-field').hidden")
    answered(page, 3)


def test_the_history_shows_an_answer_again(page: Page) -> None:
    choose(page, EXAMPLES / "jump.mp4")
    first = page.text("#answer")
    choose(page, EXAMPLES / "wave.mp4", 2)
    assert page.text("#answer") != first
    page.click("#history li:last-child button")
    assert page.text("#answer") == first
    assert page.js("document.querySelector('#history [aria-current]').innerText").count("jump.mp4") == 1
    assert page.js("document.activeElement.id") == "answer"


def test_models_that_choose_other_things_show_those(page: Page) -> None:
    choose(page, EXAMPLES / "jump.mp4")
    shown = {
        "arnet_small": ("read at|skipped", "how finely"),
        "fullvideo_small": ("clusters: 8", "as one: a cluster"),
        "slowfast_small": (r"frames of slow: 4\s+frames of fast: 16", "pathway"),
    }
    for count, (name, (lanes, legend)) in enumerate(shown.items(), start=2):
        select(page, "model", name)
        answered(page, count)
        assert re.search(lanes, page.text("#lanes")), name
        assert legend in page.text("#legend"), name


def test_a_patch_that_was_skipped_is_dashed(page: Page) -> None:
    page.js(
        """import('./marks.js').then(({ draw }) => {
          window.edge = (looked) => {
            const canvas = Object.assign(document.createElement('canvas'), { width: 100, height: 100 });
            const boxes = [{ frame: 0, time_s: 0, box: [5, 50, 95, 90], looked }];
            draw(canvas, { width: 100, height: 100, boxes }, 0, 1);
            const { data } = canvas.getContext('2d').getImageData(5, 50, 90, 1);
            return [...data].filter((_, place) => place % 4 === 3).filter((alpha) => alpha > 0).length;
          };
        })"""
    )
    assert page.js("edge(true)") == 90
    assert 30 < page.js("edge(false)") < 70


def test_a_format_that_the_browser_cannot_play_is_answered_all_the_same(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "old.avi"
    with av.open(str(file), "w") as container, av.open(str(EXAMPLES / "jump.mp4")) as video:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height = video.streams.video[0].width, video.streams.video[0].height
        stream.pix_fmt = "yuv420p"
        for frame in video.decode(video=0):
            picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"))
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    choose(page, file)
    page.wait("!document.getElementById('unplayable').hidden")
    assert page.text("#answer .label")
    page.click("#line", 0.5)
    length = asked_length(file)
    assert f"At {length / 2:.1f}" in page.text("#now")


def asked_length(file: Path) -> float:
    with av.open(str(file)) as container:
        return float(container.duration or 0) / av.time_base


# --- errors


def test_a_file_that_is_no_video_is_refused_in_one_line_with_its_name_as_text(
    page: Page, tmp_path: Path
) -> None:
    choose(page, EXAMPLES / "jump.mp4")
    file = tmp_path / "<b>notes<b>.mp4"
    file.write_text("these are words\n" * 100)
    page.choose("#file", file)
    page.wait("!document.getElementById('error').hidden")
    words = page.text("#error-words")
    assert words.startswith(file.name) and "text file" in words and words.endswith(")")
    assert page.js("document.querySelector('b')?.textContent !== 'notes'")
    assert page.js("document.getElementById('again').hidden")
    assert page.text("#answer") == ""
    assert page.js("document.querySelectorAll('#history li').length") == 1


def test_a_file_that_is_too_large_is_not_sent(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "long.mp4"
    file.write_bytes(bytes(1_200_000))
    page.choose("#file", file)
    page.wait("!document.getElementById('error').hidden")
    assert f"has 1.2{SPACE}MB, and this server takes 1.0{SPACE}MB" in page.text("#error-words")
    assert not any("predict" in each for each in page.addresses)


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(page: Page, address: str) -> None:
    busy = threading.Thread(
        target=asked_by_hand,
        args=(address, EXAMPLES / "several.mp4"),
        kwargs={"window": 1, "model": "slowfast_small"},
    )
    page.js(
        """window.said = [];
        new MutationObserver(() => said.push(document.getElementById('status-words').textContent))
          .observe(document.getElementById('status-words'), { childList: true });"""
    )
    busy.start()
    time.sleep(0.3)  # for the server to have begun
    choose(page, EXAMPLES / "jump.mp4")
    busy.join()
    assert any(re.fullmatch(r"The server is busy: asking again in \d+ s", each) for each in page.js("said"))
    assert page.text("#answer .label")


def test_without_a_network_the_page_says_so_and_asks_again(page: Page) -> None:
    none = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **none)
    page.choose("#file", EXAMPLES / "jump.mp4")
    page.wait("!document.getElementById('error').hidden")
    assert "cannot be reached" in page.text("#error-words")
    page.call("Network.emulateNetworkConditions", offline=False, **none)
    page.complaints = [each for each in page.complaints if "ERR_INTERNET_DISCONNECTED" not in each]
    page.click("#again")
    answered(page)
    assert page.js("document.getElementById('error').hidden")


def test_a_token_is_asked_for_once_and_used_for_everything(browser: Browser, guarded: str) -> None:
    page = browser.page()
    page.open(guarded)
    page.wait("document.getElementById('token').open")
    for word in ("wrong", "open-sesame"):
        page.call("Input.insertText", text=word)
        page.press("Enter")
        if word == "wrong":
            page.wait("/not it/.test(document.getElementById('token-words').textContent)")
    page.wait("!document.getElementById('settings').hidden")
    choose(page, EXAMPLES / "jump.mp4")
    page.click("#live")
    page.wait("/from camera to label/.test(document.getElementById('camera-facts').textContent)")
    assert page.complaints == []
    page.close()


# --- the camera


def test_the_camera_gets_labels_live_with_few_frames_under_way(page: Page) -> None:
    page.click("#live")
    page.wait("/from camera to label/.test(document.getElementById('camera-facts').textContent)")
    until = time.monotonic() + 20
    while sum(sent for sent, _ in page.messages) < 5 and time.monotonic() < until:
        page.js("1")  # messages are noted meanwhile
    assert page.text("#answer .label")
    facts = page.text("#camera-facts")
    assert re.fullmatch(
        r"[\d.]+\sm?s from camera to label, of which [\d.]+\sms in the model; frames left out: \d+", facts
    )
    page.click("#camera-stop")
    page.wait(
        "document.getElementById('camera').hidden && !document.getElementById('camera-video').srcObject"
    )
    hello, *rest = page.messages
    size = json.loads(hello[1])["size"]
    underway = 0
    for sent, _ in rest:
        underway += 1 if sent else -1
        assert 0 <= underway <= 2
    frames = [base64.b64decode(text) for sent, text in rest if sent]
    times = [struct.unpack("<d", each[:8])[0] for each in frames]
    assert len(frames) > 3 and times == sorted(times)
    first = np.frombuffer(frames[0], np.uint8, offset=8).reshape(size, size, 3)
    red, green, blue = first[size // 2, size // 8]  # the fake device is green around its clock
    assert green > 100 and red < 40 and blue < 40


def test_what_the_camera_records_is_answered_as_a_file(page: Page) -> None:
    page.click("#record")
    page.wait("/Recording: 1 of/.test(document.getElementById('camera-facts').textContent)")
    page.click("#camera-stop")
    answered(page)
    assert "recording.webm" in page.text("#history")
    assert page.text("#answer .label")
    page.wait("Number.isFinite(document.getElementById('player').duration)")
    assert page.js("document.getElementById('unplayable').hidden")


# --- for everybody


def test_everything_is_done_by_keyboard_with_visible_focus(page: Page) -> None:
    seen = []
    for _ in range(4):
        page.press("Tab")
        seen.append(page.js("document.activeElement.textContent"))
        assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen[:3] == ["Choose a video", "Record", "Live camera"]
    page.press("Enter")  # the first example
    answered(page)
    stops = []
    for _ in range(30):
        page.press("Tab")
        stops.append(page.js("document.activeElement.closest('[id]').id"))
        if stops[-1] == "history":
            break
    for stop in ("player", "segments", "model", "window", "budget", "history"):
        assert stop in stops, stop
    page.press("Enter")
    assert page.js("document.activeElement.id") == "answer"


def test_every_control_has_a_name_for_screen_readers(page: Page) -> None:
    choose(page, EXAMPLES / "several.mp4")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        each for each in nodes if each.get("role", {}).get("value") in ("button", "slider", "combobox")
    ]
    assert len(controls) > 8
    nameless = [each["backendDOMNodeId"] for each in controls if not each["name"]["value"]]
    assert not any(is_ours(page, node) for node in nameless)
    spoken = [each for each in nodes if each.get("role", {}).get("value") == "status"]
    assert spoken


def is_ours(page: Page, node: int) -> bool:
    """Whether an element is one of the page, not one inside the browser's own player."""
    found = page.call("DOM.resolveNode", backendNodeId=node)["object"]["objectId"]
    asked = "function () { return document.contains(this); }"
    answer = page.call(
        "Runtime.callFunctionOn", objectId=found, functionDeclaration=asked, returnByValue=True
    )
    return bool(answer["result"]["value"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_aa(page: Page, scheme: str) -> None:
    page.prefer(color_scheme=scheme, reduced_motion="reduce")
    assert page.js(CONTRASTS) > 4.5
    choose(page, EXAMPLES / "several.mp4")
    assert page.js("document.getElementById('player').paused")  # as less motion is preferred
    assert page.js(CONTRASTS) > 4.5
    page.js("document.getElementById('error-words').textContent = 'wrong'")
    page.js("document.getElementById('error').hidden = false")
    assert page.js(CONTRASTS) > 4.5


# The least contrast of any text that is seen (WCAG 2.2, success criterion 1.4.3).
CONTRASTS = """(() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255);
    const straight = (each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = parts.map(straight);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === 'rgba(0, 0, 0, 0)' && element.parentElement ? behind(element.parentElement) : colour;
  };
  const seen = [...document.body.querySelectorAll('*')].filter((each) => each.checkVisibility()
    && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  return Math.min(...seen.map((each) => {
    const [a, b] = [light(getComputedStyle(each).color), light(behind(each))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()"""


def test_a_narrow_window_needs_no_scrolling_to_the_side(page: Page) -> None:
    page.resize(360, 740)
    choose(page, EXAMPLES / "several.mp4")
    assert page.js("document.documentElement.scrollWidth") == 360
    assert page.js("document.querySelector('#answer .label').getBoundingClientRect().bottom") < 300
