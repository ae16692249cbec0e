"""Verbs that use a trained model: name what videos show, write their features, score it on a list."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from foveate.choices import Average, Ensemble
from foveate.cli.inputs import (
    check_page,
    cluster_places,
    demand,
    demand_writable,
    places_for,
    resize_input,
    source_of,
    videos_of,
)
from foveate.cli.options import AS_IT_LOOKS, AUTO, ITS_OWN, EngineOptions, ListOptions, ViewOptions
from foveate.cli.show import (
    plain,
    print_csv,
    print_json,
    print_line,
    print_table,
    progress_bar,
    readable,
    say,
)
from foveate.errors import DataError, UsageError

if TYPE_CHECKING:  # a verb imports what it uses, so that its list of options does not wait for PyTorch
    from foveate.infer.output import Prediction
    from foveate.report.results import ClassRow
    from foveate.train.evaluation import Evaluation

MANY = 20  # frames to name in a line; JSON names them all


def predict(
    videos: tyro.conf.Positional[list[str]],
    model: str | None = None,
    weights: str | None = None,
    top: int = 5,
    window: float | None = None,
    overlay: Path | None = None,
    clusters: Path | None = None,
    views: ViewOptions = ITS_OWN,
    engine: EngineOptions = AUTO,
    csv: bool = False,
    choices: bool = False,
    budget: str | None = None,
    json: bool = False,
) -> int:
    """Name what videos show: labels with scores, and labels over time for long videos.

    A file that cannot be used is named with its cause, and the others go on; the exit code is then 3.

    Args:
        videos: Video files, folders of them or of numbered images, lists, URLs, or - for standard input.
        model: A model file, such as best.safetensors of a run, hf:user/name, or a name with weights. If not
            given, x3d_s trained on Kinetics-400, downloaded once (15 MB); without a network an ImageNet
            network, which names objects. adafocus_small comes with the package and knows 8 drawn actions.
        weights: Of a name: what it was trained on, such as kinetics400; downloaded once.
        top: How many classes to name.
        window: Seconds for one label over time; 0 takes each video as one. If not given, videos over 20 s
            get windows of 5 s.
        overlay: Write the video with labels, scores and cost below it, and what the model read and chose
            (patches, resolutions, clusters, pathways), an .mp4, and a contact sheet beside it, a .png; for
            several videos a folder.
        clusters: Write a .png with one picture for each cluster of a full-video model, or for every k-th
            if there are more than 40; for several videos a folder.
        csv: Print one line of comma-separated values a video, below a line of names.
        choices: Put what the model chose in every frame into the JSON: boxes, sizes, pathways,
            frames.
        budget: What a clip may cost, of a model with a curve (`foveate budget` makes it): a share of the full
            cost such as 0.3, multiply-adds such as 9G, or milliseconds such as 40ms.
        json: Print one JSON object a video, nothing else.
    """
    from foveate.infer.predict import Predictor
    from foveate.weights.load import default_model, trained_model

    demand(1, top=top)
    if csv and json:
        raise UsageError("--csv", "and --json are two forms of one output", "choose one")
    sources = videos_of(videos, views.template)
    net = default_model() if model is None else trained_model(model, weights)
    views.apply(net)
    places = places_for("--overlay", overlay, sources, ".overlay.mp4") if overlay else [None] * len(sources)
    sheets = cluster_places(clusters, sources, net) if clusters else [None] * len(sources)
    runner = engine.open(net, len(sources), views.template, budget)
    predictor = Predictor(
        runner,
        top,
        views.clips,
        views.crops,
        window,
        keyframes=views.keyframes,
        untrusted=views.untrusted,
    )
    show = _printer(top, csv, json, choices)
    refused = 0
    for source, place, sheet, result in zip(
        sources, places, sheets, predictor.predict_all([*map(source_of, sources)]), strict=True
    ):
        show(result)
        try:
            _draw(result, place, sheet, source.template)
        except DataError as error:  # a frame that the prediction did not need
            say(f"error: {plain(str(error))}")
            refused += 1
        refused += result.status == "refused"
    if refused and len(sources) > 1:
        say(f"{refused} of {len(sources)} videos refused")
    return DataError.exit_code if refused else 0


def _draw(result: Prediction, overlay: Path | None, clusters: Path | None, template: str | None) -> None:
    from foveate.report.overlay import write_clusters, write_overlay

    if overlay and result.status != "refused":
        sheet = write_overlay(result, overlay, template)
        say(f"overlay: {plain(str(overlay))}, {plain(str(sheet))}")
    if clusters and result.clusters:
        say(f"clusters shown in {plain(str(write_clusters(result, clusters, template)))}")
    elif clusters and result.status != "refused":
        say("clusters not shown: the clip begins again at the end of the video")


def features(
    videos: tyro.conf.Positional[list[str]],
    model: str,
    out: Path,
    weights: str | None = None,
    views: ViewOptions = ITS_OWN,
    engine: EngineOptions = AUTO,
    json: bool = False,
) -> int:
    """Write what a model's classifier reads of each video, one row of numbers a video.

    A file that cannot be used has a row with its cause; the exit code is then 3.

    Args:
        videos: Video files, folders of them or of numbered images, lists, URLs, or - for standard input.
        model: A model file, such as best.safetensors of a run, hf:user/name, or a name with weights.
        out: The file to write: .npz (arrays features, video, label, cause) or .parquet.
        weights: Of a name: what it was trained on, such as kinetics400 or imagenet.
        json: Print one JSON object.
    """
    from foveate.infer.features import check_features_path, extract_features, save_features
    from foveate.infer.isolated import reader_for
    from foveate.weights.load import trained_model

    check_features_path(out)
    demand_writable(out)
    sources = videos_of(videos, views.template)
    net = trained_model(model, weights)
    views.apply(net)
    runner = engine.open(net, len(sources), views.template)
    reader = reader_for(
        net, views.clips, views.crops, 0, keyframes=views.keyframes, untrusted=views.untrusted
    )
    rows = []
    with progress_bar("reading") as report:
        for row in extract_features(runner, reader, [*map(source_of, sources)]):
            rows.append(row)
            report(len(rows), len(sources))
            if row.features is None:
                say(f"error: {plain(row.video)}: {row.cause}")
    bad = sum(row.features is None for row in rows)
    if bad == len(rows):
        raise DataError(out, f"not written: none of {len(rows)} videos could be used")
    save_features(rows, out)
    width = next(len(row.features) for row in rows if row.features is not None)
    if json:
        counts = {"out": str(out), "videos": len(rows), "bad": bad, "features": width}
        print_json(counts | ({"keyframes": True} if views.keyframes else {}))
    else:
        only = ", of key frames only" if views.keyframes else ""
        print_line(f"{out}: {len(rows) - bad} of {len(rows)} videos, {width} features each{only}")
    return DataError.exit_code if bad else 0


def evaluate(
    videos: tyro.conf.Positional[Path],
    model: str,
    weights: str | None = None,
    clips: int = 1,
    crops: int = 1,
    size: int | None = None,
    resize: int | None = None,
    average: Average = "logits",
    ensemble: Ensemble = "mean",
    batch: int = 16,
    workers: int = 2,
    reading: ListOptions = AS_IT_LOOKS,
    engine: EngineOptions = AUTO,
    predictions: Path | None = None,
    scores: Path | None = None,
    join: tuple[Path, ...] = (),
    join_weights: tuple[float, ...] = (),
    per_class: bool = False,
    report: Path | None = None,
    budget: str | None = None,
    json: bool = False,
) -> int:
    """Score a model on a list by a protocol of clips x crops; cost beside accuracy.

    Scores are shares of the videos that can be read; if that is not all of them, the exit code is 3.

    Args:
        videos: The list, or a folder with one sub-folder a class.
        model: A model file, such as best.safetensors of a run, hf:user/name, or a name with weights.
        weights: Of a name: what it was trained on, such as kinetics400; downloaded once.
        clips: Clips over time of each video.
        crops: 1 (centre) or 3 (left, centre, right) crops of each clip.
        size: Side of the crop in pixels; the model's own if not given.
        resize: Short side before the crop in pixels; the model's own, or `size` if that is larger.
        average: What is joined over the views: logits, or probabilities (sigmoid: of several labels).
        ensemble: How they are joined; max is SlowFast's for several labels.
        batch: Videos at once.
        workers: Processes that decode.
        predictions: Write a .csv file with a line a video: true label, predicted label, their scores.
        scores: Write an .npz file with the probabilities of every video, for --join of another evaluation.
        join: Files of --scores, or evaluation.npz of runs, on the same list: their probabilities are added to
            those of the model, such as those of optical flow to those of RGB. All measures are of the sum.
        join_weights: How much each of them counts, where the model counts 1; by default 1 each.
        per_class: Say of every class how many videos it has, the share that is right (average precision with
            several labels a video), and what it is taken for.
        report: Write an .html file that shows what it got right and wrong, and predictions.csv beside it.
        budget: What a clip may cost, of a model with a curve (`foveate budget` makes it): a share of the full
            cost such as 0.3, multiply-adds such as 9G, or milliseconds such as 40ms.
        json: Print one JSON object.
    """
    from foveate.report.results import by_class, write_predictions
    from foveate.train.evaluation import joined
    from foveate.train.job import evaluate_list
    from foveate.train.run import command_line
    from foveate.weights.load import trained_model

    demand(1, clips=clips, crops=crops, batch=batch)
    demand(0, workers=workers)
    others = _weighed(join, join_weights)
    for out in (predictions, scores):
        if out:
            demand_writable(out, videos)
    if report:
        check_page(report)
    net = trained_model(model, weights)
    resize_input(net, size, resize)
    listed = reading.read(videos, net)
    runner = engine.open(net, len(listed.entries), reading.template, budget)
    start = time.perf_counter()
    evaluation = evaluate_list(
        runner, listed, clips, crops, batch, workers, average=average, ensemble=ensemble
    )
    if others:
        evaluation = joined(evaluation, others)
    found = evaluation.measures
    result: dict[str, object] = {"videos": str(videos), "model": str(model), "views": evaluation.views}
    result |= {"protocol": "whole video", **readable(found)}
    result |= {"gmacs_per_video": found["gmacs_per_view"] * clips * crops}
    if others:
        result["joined"] = [{"scores": str(path), "weight": weight} for path, _, weight in others]
    if scores:
        evaluation.save(scores)
        result["scores"] = str(scores)
    if predictions:
        write_predictions(evaluation, predictions)
        result["predictions"] = str(predictions)
    if report:
        from foveate.report.page import write_evaluation_report

        took = time.perf_counter() - start
        write_evaluation_report(evaluation, report, command_line(), took, net.curve)
        result["report"] = str(report)
        result.setdefault("predictions", str(report.with_name("predictions.csv")))  # written beside it
    _print_evaluation(result, by_class(evaluation) if per_class else [], listed.multi_label, json)
    return DataError.exit_code if found["n_ok"] < found["n_total"] else 0


def _weighed(join: Sequence[Path], weights: Sequence[float]) -> list[tuple[Path, Evaluation, float]]:
    """Each file of --join, read, and its weight; UsageError for wrong weights, DataError for a wrong file."""
    from foveate.train.evaluation import load_evaluation

    if weights and len(weights) != len(join):
        cause = f"has {len(weights)} numbers for {len(join)} files"
        raise UsageError("--join-weights", cause, "give one for each file of --join")
    if not all(0 < weight < float("inf") for weight in weights):
        raise UsageError("--join-weights", f"is {list(weights)}", "weights are above 0")
    counted = zip(join, weights or [1.0] * len(join), strict=True)
    return [(path, load_evaluation(path), weight) for path, weight in counted]


def _print_evaluation(
    result: dict[str, object], rows: Sequence[ClassRow], multi_label: bool, json: bool
) -> None:
    """The measures, and a line for each class if there are rows."""
    if json:
        print_json(result | ({"per_class": [asdict(row) for row in rows]} if rows else {}))
        return
    print_table(("measure", "value"), result.items())
    if rows:
        columns = ("class", "videos#", "AP#" if multi_label else "right#", "taken for")
        print_table(columns, [_class_cells(row) for row in rows])


def _class_cells(row: ClassRow) -> tuple[str, int, str, str]:
    return row.name, row.videos, f"{row.share:.1%}" if row.videos else "-", row.taken_for


def _printer(top: int, csv: bool, json: bool, choices: bool) -> Callable[[Prediction], None]:
    """What prints a prediction in the form that is asked for."""
    if json:
        return lambda result: print_json(result.to_dict(choices))
    if not csv:
        return _print_prediction
    from foveate.infer.output import csv_header

    print_csv(csv_header(top))
    return lambda result: print_csv(result.csv_row(top))


def _print_prediction(result: Prediction) -> None:
    name = plain(result.video)
    if result.status == "refused":
        say(f"error: {name}: {result.cause}" + (f" ({result.hint})" if result.hint else ""))
        return
    if result.status == "partial":
        say(f"warning: {name}: {result.cause}")
    print_line(f"{name} ({result.duration_s:.1f} s)")
    print_line(f"model {result.model}" + (f", trained on {result.trained_on}" if result.trained_on else ""))
    classes = [(each.rank, each.label, f"{each.score:.1%}") for each in result.predictions]
    print_table(("rank#", "label", "score#"), classes)
    if len(result.segments) > 1:
        spans = [(f"{s.start_s:.1f}", f"{s.end_s:.1f}", s.label, f"{s.score:.1%}") for s in result.segments]
        print_table(("from s#", "to s#", "label", "score#"), spans)
    cost, took = result.cost, result.timing_ms
    same = "; eval answers for the whole video, as --window 0 does" if "windows" in result.protocol else ""
    print_line(f"averaged over {result.protocol}{same}")
    if result.keyframes:
        shown = [*map(str, result.keyframes[:MANY]), *[".."] * (len(result.keyframes) > MANY)]
        print_line(f"key frames read: {', '.join(shown)}")
    print_line(
        f"{cost.gmacs:.2f} GMACs, {cost.frames_used} frames used of {cost.frames_decoded} decoded; "
        f"decode {took['decode']:.0f} ms, transform {took['transform']:.0f} ms, model {took['model']:.0f} ms"
    )
    print_line()
