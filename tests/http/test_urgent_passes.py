"""An urgent study does not wait for the end of a long meeting, whichever of the two nodes can dial."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from support.killing import noisy_study
from support.nodes import LocalNode
from support.proxy import PERFECT, Line, Proxy, proxied
from support.slices import made_slice

from node.mesh.client import PeerClient
from node.mesh.exchange import Exchange
from node.mesh.sessions import Sessions
from node.mesh.tls import Identity, client_context
from sync.facts import FactClass
from sync.ids import BlobId, EntryId

MB = 1_000_000
_NEVER_S = 600  # the schedule is out of the game
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalNode, LocalNode]]:
    """A cloud node and a clinic that nobody can dial."""
    folder = tmp_path_factory.mktemp("urgent")
    with ExitStack() as stack:
        cloud, clinic = (
            stack.enter_context(LocalNode(folder / name, replicate_every_s=_NEVER_S))
            for name in ("cloud", "clinic")
        )
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start()
        yield cloud, clinic


def holds(node: LocalNode, entry: str) -> bool:
    held = node.node.queue.get(bytes.fromhex(entry))  # type: ignore[arg-type]
    return held is not None and held.complete


@pytest.mark.parametrize(("long_at", "urgent_at"), [("clinic", "cloud"), ("cloud", "clinic")])
def test_an_urgent_study_goes_before_a_long_one_that_is_under_way(
    pair: tuple[LocalNode, LocalNode], long_at: str, urgent_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CT crawls into town over a weak line for an hour; the chest X-ray of the emergency must not wait."""
    cloud, clinic = pair
    source, far = (clinic, cloud) if long_at == "clinic" else (cloud, clinic)
    here, there = (clinic, cloud) if urgent_at == "clinic" else (cloud, clinic)
    resumed = resumed_blobs(monkeypatch)
    (long,) = source.submit(noisy_study(next(_NUMBERS), 8, 4 * MB))
    size = source.story(long)["bytes"]
    with proxied(cloud.mesh_address, Line(rate=2 * MB, queued=4)) as proxy:
        way = 0 if long_at == "clinic" else 1
        clinic.ask("POST", "/api/v1/admin/peers", {"address": proxy.address})
        clinic.wait(lambda: proxy.octets[way] > 2 * MB, "the long study to be under way")
        files = {"a.dcm": made_slice(next(_NUMBERS), 1)}

        (urgent,) = here.submit(files, priority="urgent")
        there.wait(lambda: holds(there, urgent), "to hold the urgent study", 10)

        assert not holds(far, long)
        proxy.line = PERFECT
        far.wait(lambda: holds(far, long), "to hold the long one, too")
        assert proxy.octets[way] < 1.3 * size
        assert resumed  # what was under way gave way
        clinic.ask("DELETE", f"/api/v1/admin/peers/{proxy.address}")


def resumed_blobs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note from which octet on blobs are moved that are not moved from their beginning."""
    offsets: list[int] = []
    give, read = PeerClient.put_blob, Exchange.read_blob

    def noted_give(line: PeerClient, blob: BlobId, offset: int, *more: Any) -> bool:
        offsets.extend([offset] * bool(offset))
        return give(line, blob, offset, *more)

    def noted_read(exchange: Exchange, blob: BlobId, offset: int, length: int) -> bytes:
        offsets.extend([offset] * bool(offset))
        return read(exchange, blob, offset, length)

    monkeypatch.setattr(PeerClient, "put_blob", noted_give)
    monkeypatch.setattr(Exchange, "read_blob", noted_read)
    return offsets


def test_a_blob_that_gives_way_goes_on_inside(pair: tuple[LocalNode, LocalNode]) -> None:
    """What lies in the buffers of the line is not sent before the urgent study, and what has come stays."""
    cloud, clinic = pair
    (entry,) = clinic.submit(noisy_study(next(_NUMBERS), 1, 3 * MB))
    about, blobs = EntryId(bytes.fromhex(entry)), clinic.node.blobs
    with proxied(cloud.mesh_address, Line(rate=2 * MB, queued=4)) as proxy, line_to(proxy, clinic) as line:
        live = clinic.node.facts.ask(lambda ledger: list(ledger.facts(FactClass.LIVE).values()))
        assert line.send_facts([fact.raw for fact in live]) == 0
        line.put_blob(BlobId(about), 0, blobs.get(BlobId(about)), len(blobs.get(BlobId(about))))
        blob = next(one for one, _ in line.lack([about])[about].blobs)
        data = blobs.get(blob)

        until = time.monotonic() + 1
        assert not line.put_blob(blob, 0, data, len(data), lambda: time.monotonic() > until)
        cloud.wait(lambda: cloud.node.blobs.partial_size(blob) > 0, "to keep what has come", 5)
        octets = cloud.node.blobs.partial_size(blob)
        assert octets < len(data) * 0.9
        assert line.put_blob(blob, octets, data[octets:], len(data), lambda: False)
        assert cloud.node.blobs.has(blob)


def line_to(proxy: Proxy, node: LocalNode) -> PeerClient:
    """Return a line with the node's own certificate."""
    membership = node.node.membership
    identity = Identity(node.node.keystore.node_key, membership.chain)
    return PeerClient(proxy.address, Sessions(client_context(identity, membership.genesis.mesh_ca)))
