"""Write the report of a run, in its final training: one HTML file that needs nothing else.

It is built from what the jobs left in their folders: a part whose file is missing says so, and the others are
unaffected. When the run has ended, the control plane puts its verdict on the whole run between two marks. matplotlib is
imported only on use: without it a training has no report, and goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from job.metrics import log
from PIL import Image

from report.charts.data import Findings, read_findings

MAX_BYTES = 5_000_000
PictureSource = Callable[[str, int], Image.Image]
MapSource = Callable[[str, int, int], Image.Image]


def write_report(
    job_folder: Path,
    jobs_folder: Path,
    *,
    pictures: PictureSource | None = None,
    maps: MapSource | None = None,
    about: Mapping[str, Any] | None = None,
    warn: Callable[[str], None] = log,
    limit: int = MAX_BYTES,
) -> Path:
    """Write job_folder/report.html and return its path; images are left out if it would exceed `limit` bytes.

    jobs_folder: also holds the folders of the trials. pictures: returns the image of (split, number), where the images
    are available. maps: returns it with a map of what spoke for a class. about: what else reproduces the training, such
    as versions. Raises ImportError without matplotlib.
    """
    with keeping_garbage():
        page = build_report(job_folder, jobs_folder, pictures, about or {}, warn, maps)
        if len(page) > limit and pictures:
            warn(f"WARNING: the report would have {len(page):,} bytes, so it is written without images")
            page = build_report(job_folder, jobs_folder, None, about or {}, warn)
    path = job_folder / "report.html"
    partial = path.with_suffix(".partial")
    partial.write_bytes(page)
    return partial.replace(path)


@contextmanager
def keeping_garbage() -> Iterator[None]:
    """Collect no garbage meanwhile: looking for it takes an eighth of a report's time, and it is a few megabytes."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def build_report(
    job_folder: Path,
    jobs_folder: Path,
    pictures: PictureSource | None,
    about: Mapping[str, Any],
    warn: Callable[[str], None],
    maps: MapSource | None = None,
) -> bytes:
    """Return the page, in UTF-8."""
    from report.page import BEGIN, END, RUN, attempt, build_page

    found = read_findings(job_folder, jobs_folder)
    parts = list_parts(found, pictures, about, maps)
    drawn = [(anchor, name, attempt(tell, warn, name)) for anchor, name, tell in parts]
    if BEGIN not in drawn[0][2]:  # the verdict's placeholder must be there, whatever could not be drawn
        drawn[0] = (*drawn[0][:2], f'<p class="lead">{BEGIN}{END}</p>{drawn[0][2]}')
    run = str(about.get("run_id") or job_folder.name.removesuffix("-train"))
    chosen = found.job.hyperparameters
    told = [str(chosen[name]) for name in ("architecture",) if name in chosen]
    told += [f"{chosen['image_size']} px"] if "image_size" in chosen else []
    subtitle = f"{RUN}<br>{escape(', '.join([*told, f'job {job_folder.name}']))}"
    return build_page(f"Report of {run}", subtitle, drawn).encode()


def list_parts(
    found: Findings, pictures: PictureSource | None, about: Mapping[str, Any], maps: MapSource | None = None
) -> list[tuple[str, str, Callable[[], str]]]:
    """List the parts in their order: (anchor, title, what draws it)."""
    # Imported here because they draw: matplotlib takes a second to import, and may be missing.
    from report.comparison import tell_comparison
    from report.evaluation import tell_evaluation
    from report.health import tell_debugger, tell_profiler
    from report.sections import tell_curves, tell_dataset, tell_reproduction, tell_tuning, tell_verdict

    return [
        ("result", "Verdict", lambda: tell_verdict(found)),
        ("dataset", "Dataset", lambda: tell_dataset(found)),
        ("tuning", "Tuning", lambda: tell_tuning(found)),
        ("curves", "Training curves", lambda: tell_curves(found)),
        ("comparison", "What ships and against what it was compared", lambda: tell_comparison(found)),
        ("evaluation", "Evaluation", lambda: tell_evaluation(found, pictures, maps)),
        ("debugger", "Debugger", lambda: tell_debugger(found)),
        ("profiler", "Profiler", lambda: tell_profiler(found)),
        ("reproduce", "How to reproduce it", lambda: tell_reproduction(found, about)),
    ]
