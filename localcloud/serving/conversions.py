"""Serve an archive without torch, whose import takes 350 MB, by a conversion that agreed with torch before.

A child process loads the archive with torch, converts its network and compares the two (`engine`). It leaves the
conversion with a record of torch's outputs for a few images, and every start compares the conversion's with them. For
that the archive's code must have `assemble(model_dir, engine)`, which returns what `model_fn` does with an engine in
the network's place; the other handlers are the same in both cases.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.serving.sessions import (
    AGREEMENT,
    SAMPLES,
    describe,
    draw_sample,
    forget_old,
    hash_archive,
    open_session,
)

SECONDS = 120  # for loading the archive with torch, converting its network and comparing
Compute = Callable[[Any], Any]  # from arrays (n, 3, h, w) to arrays (n, classes)


@dataclass(frozen=True)
class Program:
    """An archive's handlers, and where its conversions are kept."""

    load: Callable[[], Any]  # with torch
    assemble: Callable[[Compute], Any]  # without
    predict: Callable[[Any, bytes], object]
    model_dir: Path
    cache: Path

    @property
    def record(self) -> Path:
        return self.cache / f"{hash_archive(self.model_dir, ())}.json"


@dataclass(frozen=True)
class Opened:
    """A model that needs no torch, or None; and a line for the log about the engine."""

    model: Any
    description: str


def open_converted(program: Program) -> Opened:
    """Return the model with its network in onnxruntime, which is converted if it never was; or why torch must serve."""
    path = program.record
    if found := open_recorded(program, path):
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    told = convert_apart(program, path)
    return open_recorded(program, path) or Opened(None, told)


def open_recorded(program: Program, path: Path) -> Opened | None:
    """Return the model by an earlier conversion; None if there is none that can be read and agrees with torch."""
    try:
        record = json.loads(path.read_text())
        converted = program.cache / record["converted"]
        session = open_session(converted)
        compute: Compute = lambda batch: session.run(None, {"input": batch})[0]  # noqa: E731 - it is one expression
        difference = measure_difference(program, compute, record["outputs"])
        for used in (path, converted):
            os.utime(used)  # the cache forgets what was not used for longest
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is converted again
        return None
    return Opened(program.assemble(compute), describe(difference)) if difference <= AGREEMENT else None


def measure_difference(program: Program, compute: Compute, outputs: Sequence[Any]) -> float:
    """Return the largest difference between an engine's outputs and the recorded ones. Raises ValueError for others."""
    seen: list[Any] = []

    def remember(batch: Any) -> Any:
        seen.append(compute(batch))
        return seen[-1]

    model = program.assemble(remember)
    for number in range(len(SAMPLES)):
        program.predict(model, draw_sample(number))
    pairs = zip(flatten(each.tolist() for each in seen), flatten(outputs), strict=True)
    return max(abs(one - other) if math.isfinite(one - other) else math.inf for one, other in pairs)


def flatten(values: Any) -> list[float]:
    """Return the numbers of nested lists."""
    return [number for each in values for number in (flatten(each) if isinstance(each, list) else [each])]


def convert_apart(program: Program, path: Path) -> str:
    """Let a child process convert the network and write the record. Return what it says of the engine."""
    context = multiprocessing.get_context("fork")
    heard, told = context.Pipe(duplex=False)
    child = context.Process(target=write_record, args=(program, path, told))
    child.start()
    told.close()
    try:
        return str(heard.recv()) if heard.poll(SECONDS) else f"torch (its conversion took more than {SECONDS} s)"
    except EOFError:
        child.join()
        return f"torch (loading it for its conversion ended with {child.exitcode}; the lines above say why)"
    finally:
        child.kill()
        child.join()


def write_record(program: Program, path: Path, told: Any) -> None:
    """Load the archive with torch and convert its network. Keep what torch answered, and tell which engine it was."""
    from localcloud.serving import engine

    engine.compute_alone()
    chosen = engine.choose_engine(program.load(), program.predict, program.model_dir, program.cache)
    if chosen.converted:
        written = path.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps({"converted": chosen.converted.name, "outputs": chosen.outputs}))
        written.replace(path)
        forget_old(path.parent.glob("*.json"))
    told.send(chosen.description)
