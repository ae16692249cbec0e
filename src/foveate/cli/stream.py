"""`foveate stream`: labels for a source that is looked at as it comes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from foveate.cli.inputs import demand, demand_writable
from foveate.cli.options import AUTO, MEASURE_FROM, EngineOptions
from foveate.cli.show import plain, print_json, print_line, say
from foveate.errors import FoveateError, UsageError

if TYPE_CHECKING:  # the list of a verb's options does not wait for PyTorch
    from foveate.infer.live import Live
    from foveate.infer.streaming import Label
    from foveate.report.window import OverlayWindow
    from foveate.video.feed import Feed


def stream(
    source: tyro.conf.Positional[str],
    model: str | None = None,
    weights: str | None = None,
    every: float | None = None,
    window: float | None = None,
    top: int = 5,
    smooth: float = 0.0,
    seconds: float | None = None,
    follow: bool = False,
    idle: float = 10.0,
    realtime: bool = False,
    keep_all: bool = False,
    reconnect: int = 10,
    overlay: Path | None = None,
    overlay_seconds: float = 30.0,
    engine: EngineOptions = AUTO,
    json: bool = False,
) -> int:
    """Name what a camera, a stream, a pipe or a file shows, as it comes: a line whenever the label changes.

    A model too slow for its source has frames dropped and counted, so that labels stay in time; files wait
    instead. At the end, or after Ctrl-C or SIGTERM, a summary follows.

    Args:
        source: 0 or /dev/video0 for a camera; an rtsp, rtmp, http, https, tcp or udp address, with .m3u8 at
            the end of HLS; a video file; a named pipe; or - for standard input.
        model: A model file, or a name with published weights, as of `foveate predict`.
        weights: Of a name: what it was trained on, such as kinetics400; downloaded once.
        every: Seconds between two labels. If not given, half of what a label looks at; of a model that steps
            (the online TSM, AdaFocus), the time between the frames of a clip.
        window: Seconds that a label looks at, of a model whose clips have no pace of their own; 5 if not
            given.
        top: How many classes to name in JSON.
        smooth: Average the scores over so many seconds, the latest most.
        seconds: End after so many.
        follow: The file still grows: wait for more, as tail -f does.
        idle: Seconds in which it does not grow that end this.
        realtime: Play a file at its own speed, and drop what the model is too slow for, as of a camera.
        keep_all: Drop nothing: let a pipe or an address wait for the model, however late that makes labels.
        reconnect: Attempts in a row to open an address or a camera again, after 1, 2, 4 .. 30 seconds.
        overlay: Write the last frames that had a label, with it and where the model looked, as an .mp4.
        overlay_seconds: How many seconds of them.
        json: Print one JSON object a label, and one with the summary.
    """
    from foveate.video.footage import open_footage

    demand(0, reconnect=reconnect)
    for name, value in (("--seconds", seconds), ("--idle", idle), ("--overlay-seconds", overlay_seconds)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(name, f"is {value:g}", "give seconds above 0")
    if overlay is not None:
        if overlay.suffix.lower() != ".mp4":
            raise UsageError("--overlay", f"'{overlay}' does not end in .mp4", "it is written as that")
        demand_writable(overlay, Path(source))
    footage = open_footage(source, follow, idle)
    if realtime and not footage.waits:
        raise UsageError("--realtime", "is for files: this source has a speed of its own", "leave it out")

    from foveate.infer.live import open_live
    from foveate.report.window import OverlayWindow
    from foveate.video.feed import Feed
    from foveate.weights.load import default_model, trained_model

    net = default_model() if model is None else trained_model(model, weights)
    runner = engine.open(net, 1 if footage.waits else MEASURE_FROM)
    live = open_live(runner, every, top, window, smooth)
    live.warmup()
    feed = Feed(footage, live.fps, live.backlog, keep_all, realtime, reconnect)
    kept = OverlayWindow(overlay_seconds) if overlay else None
    with feed:
        _show(feed, live, seconds, kept, overlay, json)
    return 0


def _show(
    feed: Feed, live: Live, seconds: float | None, kept: OverlayWindow | None, out: Path | None, json: bool
) -> None:
    """Print labels as they come, and in the end, whatever brought it, write the overlay and the summary."""
    from foveate.infer.streaming import Tally, labelled

    tally, said = Tally(), ""
    try:
        for label in labelled(feed, live, tally, seconds):
            if json:
                print_json(label.to_dict())
            elif label.answer.label != said:
                said = label.answer.label
                _print_change(label)
            if kept is not None:
                kept.add(label.picture, label.answer)
    except BrokenPipeError:  # nobody reads a summary
        raise
    except BaseException as error:
        if feed.frames or not isinstance(error, FoveateError):  # it was a video
            _end(tally.summary(feed), kept, out, json)
        raise
    _end(tally.summary(feed), kept, out, json)


def _print_change(label: Label) -> None:
    best = label.answer.predictions[0]
    lost = f", {label.dropped} dropped" if label.dropped else ""
    print_line(
        f"{_clock(label.answer.time_s)}  {best.score:4.0%}  {best.label}  ({label.latency_ms:.0f} ms{lost})"
    )
    sys.stdout.flush()


def _clock(time_s: float) -> str:
    """Hours, minutes and seconds since the first frame."""
    minutes, left = divmod(time_s, 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{left:04.1f}"


def _end(summary: dict[str, Any], kept: OverlayWindow | None, out: Path | None, json: bool) -> None:
    if kept is not None and out is not None:
        written = kept.write(out)
        say(f"{written} labelled frames in {plain(str(out))}" if written else "no label, so no overlay")
    if json:
        print_json({"summary": summary})
        return
    delays = summary["latency_ms"]
    line = f"{summary['labels']} labels, {summary['frames']} frames, {summary['fps']:.1f} a second"
    line += f", {summary['dropped']} dropped, {summary['reconnects']} reconnects"
    if summary["labels"]:
        line += "; latency {p50:.0f} ms, 90 % within {p90:.0f}, 99 % within {p99:.0f}".format(**delays)
    print_line(line)
