"""The verb that shows what trainings left in their folders."""

from __future__ import annotations

from pathlib import Path

import tyro

from foveate.cli.inputs import check_page
from foveate.cli.show import print_json, print_line
from foveate.report.folder import read_run
from foveate.report.page import write_comparison, write_report


def report(runs: tyro.conf.Positional[list[Path]], out: Path | None = None, json: bool = False) -> int:
    """Write the report of a training, or compare several on one page.

    The page is one .html file that needs no network. A training writes its own as it goes; this verb does it
    anew, also for a run that was broken off or made by an earlier version, with what it left.

    Args:
        runs: Run folders, the --out of trainings.
        out: The page to write. If not given: report.html in the folder of one run, comparison.html here of
            several.
        json: Print one JSON object.
    """
    if out:
        check_page(out)
    if len(runs) == 1:
        page = write_report(runs[0], out)
    else:
        page = write_comparison(runs, out or Path("comparison.html"))
    summaries = {str(folder): read_run(folder).summary() for folder in runs}
    if json:
        print_json({"report": str(page), "summaries": summaries})
        return 0
    for folder, lines in summaries.items():
        if len(runs) > 1:
            print_line(folder)
        for line in lines:
            print_line(line)
    print_line(f"report: {page}")
    return 0
