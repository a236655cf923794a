"""Run an iterator a little ahead in a thread of its own, so that making and using pieces overlap."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], ahead: int = 2) -> Iterator[T]:
    """Yield the same items, none of them None, in the same order; at most `ahead` of them wait.

    They are made one after another in one thread. Errors come through.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as worker:
        waiting: deque[Future[T | None]] = deque()
        try:
            for _ in range(ahead):
                waiting.append(worker.submit(next, source, None))
            while (item := waiting.popleft().result()) is not None:
                waiting.append(worker.submit(next, source, None))
                yield item
        finally:
            worker.shutdown(cancel_futures=True)


def resized(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same octets in pieces of at least `size`, but for the last."""
    collected = bytearray()
    for piece in pieces:
        if len(piece) >= size and not collected:
            yield piece
            continue
        collected += piece
        if len(collected) >= size:
            yield bytes(collected)
            collected.clear()
    if collected:
        yield bytes(collected)
