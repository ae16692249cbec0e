"""Make the pictures of the page of `foveate serve` in docs/images/: `python docs/make_page.py [FOLDER]`.

Starts the server with the small model of the package, asks it about the examples of the package in headless
Chromium, and photographs an answer, labels over time, the camera, which sees an example too, and an error.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from browser import Browser, Page
from photograph import shrink

import foveate

IMAGES = Path(__file__).parent / "images"
EXAMPLES = Path(foveate.__file__).parent / "serve" / "examples"
WIDE, PHONE = (1000, 900), (360, 740)
LOOKS = {  # end of the file's name -> window, scheme of colours
    "light": (WIDE, "light"),
    "dark": (WIDE, "dark"),
    "phone_light": (PHONE, "light"),
    "phone_dark": (PHONE, "dark"),
}
BOTH = ("light", "phone_dark")  # looks of every scene; the answer has all four


def main(out: Path = IMAGES) -> None:
    """Make all pictures anew."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, served(Path(made)) as address:
        film, words, shot = (Path(made) / name for name in ("film.y4m", "notes.mp4", "shot.png"))
        write_film(EXAMPLES / "wave.mp4", film)
        words.write_text("These are words, not a video.\n" * 40)
        fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        with Browser(*fake, f"--use-file-for-fake-video-capture={film}") as browser:
            for scene, play in SCENES.items():
                for look in LOOKS if scene == "answer" else BOTH:
                    page = opened(browser, address, *LOOKS[look])
                    play(page, words)
                    page.picture(shot)
                    shrink(shot, out / f"page_{scene}_{look}.webp")
                    page.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a running server."""
    command = [sys.executable, "-m", "foveate", "serve", "adafocus_small", "--weights", "figures"]
    command += ["--no-examples", "--engine", "eager", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield next(found[1] for line in server.stderr if (found := re.search(r"open (http\S+)", line)))
        finally:
            server.terminate()


def write_film(video: Path, out: Path) -> None:
    """Write a video as raw frames, which Chromium takes for those of a camera."""
    with av.open(str(video)) as source, av.open(str(out), "w", format="yuv4mpegpipe") as container:
        facts = source.streams.video[0]
        stream = container.add_stream("rawvideo", rate=facts.average_rate)
        stream.width, stream.height, stream.pix_fmt = facts.width, facts.height, "yuv420p"
        for frame in source.decode(video=0):
            picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="yuv420p"), format="yuv420p")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def opened(browser: Browser, address: str, size: tuple[int, int], scheme: str) -> Page:
    """The page, ready to be asked, with a video that does not play by itself."""
    page = browser.page(*size)
    if size == PHONE:
        page.resize(*size, scale=2)
    page.prefer(color_scheme=scheme, reduced_motion="reduce")
    page.open(address)
    page.wait("!document.getElementById('settings').hidden")
    return page


def answer(page: Page, _: Path) -> None:
    """The answer to a short video, at a moment at which the model looked."""
    ask(page, EXAMPLES / "wave.mp4", 1.5)


def over_time(page: Page, _: Path) -> None:
    """A video with several labels, down to its timeline."""
    page.js("document.getElementById('window').value = '3'")
    ask(page, EXAMPLES / "several.mp4", 10.0)
    page.js("document.getElementById('legend').scrollIntoView({ block: 'start' })")


def ask(page: Page, video: Path, seconds: float) -> None:
    """Ask about a video, and show it at a time."""
    page.choose("#file", video)
    page.wait("document.querySelectorAll('#history li').length && document.getElementById('player').duration")
    page.js(f"document.getElementById('player').currentTime = {seconds}")
    page.wait(f"Math.abs(document.getElementById('marks').dataset.time - {seconds}) < 0.05")
    page.wait("document.getElementById('player').readyState === 4")
    rest(page, 1)  # for the sign that it loads to go


def camera(page: Page, _: Path) -> None:
    """Labels of what a camera sees, after some seconds."""
    page.click("#live")
    page.wait("/from camera to label/.test(document.getElementById('camera-facts').textContent)")
    rest(page, 6)


def error(page: Page, words: Path) -> None:
    """A file that is no video."""
    page.choose("#file", words)
    page.wait("!document.getElementById('error').hidden")
    page.resize(page.js("innerWidth"), 300, page.js("devicePixelRatio"))  # there is nothing below


def rest(page: Page, seconds: float) -> None:
    """Let time pass in the page."""
    page.js(f"new Promise((resolve) => setTimeout(resolve, {1000 * seconds}))")


SCENES: dict[str, Callable[[Page, Path], None]] = {
    "answer": answer,
    "time": over_time,
    "camera": camera,
    "error": error,
}

if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
