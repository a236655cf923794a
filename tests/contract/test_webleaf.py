"""The people's certificate renews itself: asked for and answered by facts, with no administrator near."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from support.nodes import LocalNode, wait_until

from node import webcert
from node.addresses import own_addresses
from node.clock import SystemClock
from node.keys import Keystore
from node.store.database import Database
from node.store.notes import Notes
from sync.bodies import Revoked, WebLeaf

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
            webcert.names_for(membership.genesis.name, membership.label, own_addresses(), shared=True),
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


def test_who_joins_by_a_clock_that_fell_back_gets_none_until_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Membership does not go by the clock, so it joins all the same, and asks for its leaf by a fact."""
    cloud, clinic = LocalNode(tmp_path / "cloud"), LocalNode(tmp_path / "clinic")
    with cloud, clinic:
        cloud.init()
        cloud.start()
        with monkeypatch.context() as wrong:
            wrong.setattr(SystemClock, "fell_back", True)
            cloud.admit(clinic, "clinic")
            assert clinic.home.membership().web_chain == ()
            clinic.start([cloud])
        wait_until(lambda: clinic.get("/healthz")["url"], 30, "its leaf")

        assert webcert.ends_ms(shown_by(clinic)) > cloud.node.clock.now_ms() + 760 * DAY_MS


def test_a_mesh_is_founded_by_a_wrong_clock_without_a_leaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The laptop that founds it may have a dead battery; its leaf comes when its clock is right."""
    with LocalNode(tmp_path / "cloud") as cloud:
        with monkeypatch.context() as wrong:
            wrong.setattr(SystemClock, "fell_back", True)
            cloud.init()
            assert cloud.home.membership().web_chain == ()
        cloud.start()

        wait_until(lambda: cloud.get("/healthz")["url"], 30, "its leaf")


def test_a_leaf_is_renewed_through_a_courier_and_nobody_who_admits_is_near(tmp_path: Path) -> None:
    """The request and the leaf travel as facts: the clinic and the cloud never meet."""
    cloud, clinic = a_mesh(tmp_path)
    courier = LocalNode(tmp_path / "courier")
    with cloud, clinic, courier:
        cloud.admit(courier, "courier")
        old = set_leaf(cloud, clinic, age_days=600)
        clinic.start()
        courier.start([clinic])
        wait_until(lambda: _request_of(courier, clinic), 30, "the courier to have the request")
        asker = clinic.node.facts.node_id
        clinic.stop()
        courier.travel([cloud])
        wait_until(lambda: courier.node.facts.ask(lambda ledger: ledger.web_leaves(asker)), 30, "the answer")
        cloud.stop()
        clinic.start()
        courier.travel([clinic])

        wait_until(lambda: shown_by(clinic) != old, 30, "another leaf is shown")


def _request_of(at: LocalNode, asker: LocalNode) -> bool:
    name = asker.node.facts.node_id
    return bool(at.node.facts.ask(lambda ledger: ledger.web_requests().get(name)))


@pytest.mark.parametrize(("preset", "shared"), [("clinic", True), ("courier", False)])
def test_only_who_takes_studies_in_has_a_key_for_the_shared_name(
    tmp_path: Path, preset: str, shared: bool
) -> None:
    """Whoever has one is the app to every phone; a stolen courier must not be."""
    cloud, laptop = LocalNode(tmp_path / "cloud"), LocalNode(tmp_path / "laptop")
    with cloud, laptop:
        cloud.init()
        cloud.start()
        cloud.admit(laptop, preset)
        assert _hosts(laptop.home.membership().web_chain[0]) >= {"laptop.test.local", "localhost"}
        assert ("test.local" in _hosts(laptop.home.membership().web_chain[0])) is shared

        laptop.home.keep_membership(replace(laptop.home.membership(), web_chain=()))
        laptop.start([cloud])
        wait_until(lambda: laptop.get("/healthz")["url"], 30, "a leaf by a fact")
        assert ("test.local" in _hosts(shown_by(laptop))) is shared
        assert ("mesh.home.arpa" in _hosts(shown_by(laptop))) is shared


def test_a_revoked_node_gets_no_other_certificate(tmp_path: Path) -> None:
    """Its old one is good until it ends, which nobody can change; another would make it 800 days more."""
    cloud, clinic = a_mesh(tmp_path)
    with cloud, clinic:
        asker = Keystore.load(clinic.home.keys).node_id
        set_leaf(cloud, clinic, age_days=600)
        clinic.start()
        wait_until(lambda: _request_of(clinic, clinic), 30, "the request")
        here = cloud.node.facts
        here.issue(Revoked(node=asker, reason=""))
        request = clinic.node.facts.ask(lambda ledger: ledger.web_requests()[asker])
        here.add_many([request.raw])
        cloud.service._web_leaf.look()

        assert not here.ask(lambda ledger: ledger.web_leaves(asker))


def _hosts(leaf: bytes) -> set[str]:
    names = x509.load_der_x509_certificate(leaf).extensions
    return set(
        names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    )


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
