"""Compute an array in chunks, each by whichever job of this machine comes to it first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from caching.store import Array, Store

PATIENCE = 30.0  # seconds to wait for another job's chunk before computing it oneself
PAUSE = 0.02


def share(
    store: Store | None, keys: Sequence[str], compute: Callable[[int], Array], *, workers: int, begin: int = 0
) -> list[Array]:
    """Return the array of each key, in order: kept ones are read, the others computed by `compute(number)` and kept.

    Jobs that begin at different numbers help each other. A chunk that another job is computing is left for last, and
    waited for.
    """
    found: list[Array | None] = [None] * len(keys)
    order = [*range(begin, len(keys)), *range(begin)]

    def take(number: int, patience: float) -> bool:
        found[number] = obtain(store, keys[number], lambda: compute(number), patience)
        return found[number] is not None

    with ThreadPoolExecutor(workers) as pool:
        done = dict(zip(order, pool.map(lambda number: take(number, 0), order), strict=True))
        list(pool.map(lambda number: take(number, PATIENCE), [number for number in order if not done[number]]))
    return [array for array in found if array is not None]


def obtain(store: Store | None, key: str, compute: Callable[[], Array], patience: float) -> Array | None:
    """Return one array: read, or computed and kept. None if another job computes it for longer than `patience`.

    With patience, the array is computed at its end in any case: the other job may be much slower.
    """
    if store is None:
        return compute()
    deadline = time.monotonic() + patience
    while True:
        if (kept := store.read(key)) is not None:
            return kept
        with store.claim(key) as claimed:
            if claimed:
                return keep(store, key, compute)
        if time.monotonic() >= deadline:
            return compute() if patience else None
        time.sleep(PAUSE)


def keep(store: Store, key: str, compute: Callable[[], Array]) -> Array:
    """Compute an array and keep it, unless its last holder has just kept it."""
    if (kept := store.read(key)) is not None:
        return kept
    made = compute()
    store.write(key, made)
    return made
