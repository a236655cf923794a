"""A whole node that is handed files that were made to harm, and goes on answering everybody else."""

import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from support.hostile import CASES
from support.nodes import HandIn, RealNode
from support.slices import made_slice

ANSWER_S = 10  # on a machine that is busy with other tests, too


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process as the kernel counted it (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_the_node_answers_others_while_it_looks_at_hostile_files(tmp_path: Path) -> None:
    """One harmful stick must not stop a clinic."""
    ended, answers, late = threading.Event(), 0, 0.0
    with RealNode(tmp_path / "clinic") as node:
        node.init()
        node.start()
        assert node._process is not None
        pid = node._process.pid

        def ask() -> None:
            nonlocal answers, late
            url = f"http://127.0.0.1:{node.local_port}/healthz"
            with httpx.Client(trust_env=False, timeout=ANSWER_S) as client:
                while not ended.is_set():
                    begin = time.monotonic()
                    assert client.get(url).status_code == 200
                    answers, late = answers + 1, max(late, time.monotonic() - begin)

        asking = threading.Thread(target=ask)
        asking.start()
        found = {}
        try:
            for name, (make, _) in CASES.items():
                said = HandIn(node, make()).examined()
                found[name] = said["problem"]["code"] if said["state"] == "failed" else "examined"
            entries = node.submit({"IM1": made_slice(1, 1)})
        finally:
            ended.set()
            asking.join()

        assert found == {
            name: "examined" if code in ("accepted", "jpeg") else code for name, (_, code) in CASES.items()
        }
        assert answers > len(CASES)
        assert late < ANSWER_S
        assert len(entries) == 1
        assert peak_mb(pid) < 400
        assert "job failed" not in node.out.read_text()
        assert "Traceback" not in node.out.read_text()
