"""Speak reconciliation on standard input and output, for tests against other implementations.

The line protocol is that of the test harnesses of https://github.com/hoytech/negentropy (folder test), so
their fuzz test can put us against their programs. The hidden command `clinicmesh reconcile-stdio` calls it.

    item,<timestamp>,<id in hex>    put an item into the set
    seal                            the set is complete
    initiate                        answered by msg,<message in hex>
    msg,<message in hex>            answered by msg,<message>; an initiator first tells have,<id> and
                                    need,<id>, and says done instead of msg when all is known
"""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

from sync.errors import SyncError
from sync.reconcile import Item, Reconciler, Snapshot


def main(stdin: TextIO, stdout: TextIO, env: Mapping[str, str]) -> int:
    """Answer lines until the input ends; give the exit status, 1 after a line that cannot be answered.

    Args:
        stdin: the commands.
        stdout: the answers, each flushed at once.
        env: FRAMESIZELIMIT is the frame limit in bytes; 0, the default, is none.
    """
    try:
        harness = _Harness(int(env.get("FRAMESIZELIMIT") or 0))
        for line in stdin:
            for answer in harness.answers(line.strip()):
                stdout.write(answer + "\n")
            stdout.flush()
    except SyncError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    except ValueError as error:
        sys.stderr.write(f"bad-line: {error}\n")
        return 1
    return 0


class _Harness:
    def __init__(self, frame_limit: int) -> None:
        self._frame_limit = frame_limit
        self._items: list[Item] = []
        self._side: Reconciler | None = None
        self._is_initiator = False

    def answers(self, line: str) -> Iterator[str]:
        command, *fields = line.split(",")
        if command == "item" and len(fields) == 2:
            self._items.append((int(fields[0]), bytes.fromhex(fields[1])))
        elif command == "seal":
            self._side = Reconciler(Snapshot(self._items), self._frame_limit)
        elif command == "initiate":
            self._is_initiator = True
            yield f"msg,{self._sealed().initiate().hex()}"
        elif command == "msg" and len(fields) == 1:
            yield from self._answers_to_message(bytes.fromhex(fields[0]))
        elif line:
            raise ValueError("unknown command or wrong number of fields")

    def _answers_to_message(self, message: bytes) -> Iterator[str]:
        side = self._sealed()
        if not self._is_initiator:
            yield f"msg,{side.respond(message).hex()}"
            return
        following = side.reconcile(message)
        yield from (f"have,{fact_id.hex()}" for fact_id in side.have)
        yield from (f"need,{fact_id.hex()}" for fact_id in side.need)
        yield "done" if following is None else f"msg,{following.hex()}"

    def _sealed(self) -> Reconciler:
        if self._side is None:
            raise ValueError("the set is not sealed")
        return self._side


if __name__ == "__main__":
    sys.exit(main(sys.stdin, sys.stdout, os.environ))
