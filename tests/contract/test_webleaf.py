"""The people's certificate renews itself: asked for and answered by facts, with no administrator near."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from support.nodes import LocalNode, wait_until

from node import webcert
from node.addresses import own_addresses
from node.keys import Keystore
from node.store.database import Database
from node.store.notes import Notes
from sync.bodies import WebLeaf

DAY_MS = 86_400_000


def a_mesh(folder: Path) -> tuple[LocalNode, LocalNode]:
    """Return a cloud node that runs, and a clinic that has joined and does not."""
    cloud, clinic = LocalNode(folder / "cloud"), LocalNode(folder / "clinic")
    cloud.init()
    cloud.start()
    cloud.admit(clinic, "clinic")
    return cloud, clinic


def set_leaf(cloud: LocalNode, clinic: LocalNode, *, age_days: int | None) -> bytes:
    """Give the clinic a leaf of that age, or none; return it."""
    membership = clinic.home.membership()
    chain: tuple[bytes, ...] = ()
    if age_days is not None:
        issuer = cloud.node.membership.web_issuer
        key = cloud.node.keystore.web_issuer_key
        assert issuer is not None
        assert key is not None
        leaf = webcert.issue_web_leaf(
            key,
            issuer,
            webcert.public_half(Keystore.load(clinic.home.keys).web_key),
            webcert.names_for(membership.genesis.name, membership.label, own_addresses()),
            now_ms=cloud.node.clock.now_ms() - age_days * DAY_MS,
        )
        chain = (leaf, issuer)
    clinic.home.keep_membership(replace(membership, web_chain=chain))
    return chain[0] if chain else b""


def shown_by(node: LocalNode) -> bytes:
    """Return the leaf that a node shows to a browser now."""
    pem = ssl.get_server_certificate(("127.0.0.1", node.people_port))
    return ssl.PEM_cert_to_DER_cert(pem)


@pytest.mark.parametrize("age_days", [600, 2000], ids=["two thirds of its life", "lapsed"])
def test_an_old_certificate_is_replaced_while_the_port_is_open(tmp_path: Path, age_days: int) -> None:
    """A clinic asks by a fact; the cloud answers when it hears of it; the phones notice nothing."""
    cloud, clinic = a_mesh(tmp_path)
    with cloud, clinic:
        old = set_leaf(cloud, clinic, age_days=age_days)
        clinic.start([cloud])
        assert len(shown_by(clinic)) > 0

        wait_until(lambda: shown_by(clinic) != old, 30, "another leaf is shown")

        new = shown_by(clinic)
        issuer = cloud.node.membership.web_issuer
        key = webcert.public_half(clinic.node.keystore.web_key)
        assert issuer is not None
        assert webcert.is_for(new, issuer, cloud.node.membership.genesis.web_root, key)
        assert clinic.home.membership().web_chain == (new, issuer)
        assert webcert.ends_ms(new) > cloud.node.clock.now_ms() + 760 * DAY_MS


def test_a_node_that_joined_without_one_gets_its_first(tmp_path: Path) -> None:
    """A node that was let in by one that issues no certificates serves phones all the same, later."""
    cloud, clinic = a_mesh(tmp_path)
    with cloud, clinic:
        set_leaf(cloud, clinic, age_days=None)
        clinic.start([cloud])

        def serves() -> bool:
            try:
                return bool(shown_by(clinic))
            except OSError:
                return False

        wait_until(serves, 30, "the people's port is open")
        with clinic.api() as client:
            assert client.get("/healthz").json()["url"] == f"https://clinic.test.local:{clinic.people_port}"


def test_a_clock_that_fell_back_issues_nothing(tmp_path: Path) -> None:
    """Its leaf would end years too early, or begin in the future of every phone."""
    cloud, clinic = a_mesh(tmp_path)
    with cloud, clinic:
        old = set_leaf(cloud, clinic, age_days=600)
        later = cloud.node.clock.now_ms() + 3650 * DAY_MS
        cloud.stop()
        database = Database(cloud.home.database)
        Notes(database).set_numbers(wall_ms=later)
        database.close()
        cloud.start()
        clinic.start([cloud])
        asked = cloud.node.facts
        wait_until(lambda: asked.ask(lambda ledger: ledger.web_requests()), 30, "the request has come")
        cloud.service._web_leaf.look()

        assert cloud.node.clock.fell_back
        assert not asked.ask(lambda ledger: ledger.web_leaves(clinic.node.facts.node_id))
        assert shown_by(clinic) == old


def test_a_foreign_or_wrong_certificate_is_not_shown(tmp_path: Path) -> None:
    """Whoever may admit in a mesh may not hand out another root's, or another node's."""
    cloud, clinic = a_mesh(tmp_path)
    with cloud, clinic:
        own = clinic.home.membership().web_chain
        clinic.start([cloud])
        other = cloud.node.membership.web_chain
        cloud.node.facts.issue(WebLeaf(node=clinic.node.facts.node_id, leaf=other[0], issuer=other[1]))
        here = clinic.node.facts
        wait_until(lambda: here.ask(lambda ledger: ledger.web_leaves(here.node_id)), 30, "the leaf has come")
        clinic.service._web_leaf.look()

        assert clinic.service._web_leaf.chain == own
        assert x509.load_der_x509_certificate(shown_by(clinic)).subject.rfc4514_string().startswith("CN=Clin")
