"""Run an iterator a little ahead in a thread of its own, so that making and using pieces overlap."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def prefetched(pieces: Iterable[bytes], ahead: int = 2) -> Iterator[bytes]:
    """Yield the same pieces in the same order; at most `ahead` of them wait. Errors come through."""
    source = iter(pieces)
    with ThreadPoolExecutor(1, "prefetch") as worker:
        waiting: deque[Future[bytes | None]] = deque()
        try:
            for _ in range(ahead):
                waiting.append(worker.submit(next, source, None))
            while (piece := waiting.popleft().result()) is not None:
                waiting.append(worker.submit(next, source, None))
                yield piece
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
