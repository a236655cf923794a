"""One node, put together and running: its servers, its jobs, and what wakes them.

`open_node` opens a data folder; `Service` serves it until it is stopped. Called by the command line, the
demo and the tests. The three ports run in one event loop in a thread of their own; everything else is
ordinary threads.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from node import operator, webcert
from node.api import (
    admin,
    audit,
    auth,
    contract,
    decisions,
    destinations,
    devices,
    events,
    health,
    members,
    metrics,
    origins,
    problems,
    quarantine,
    setup,
    sticks,
    studies,
    submissions,
    unlocking,
    uploads,
    webapp,
)
from node.api.devices import MeshDevices
from node.api.limits import BodyLimit
from node.assembly import keep_time
from node.assembly import open_node as open_node  # told on: who starts a service opens its node
from node.destinations import seal_to_newcomers
from node.door import PeopleDoor
from node.intake.examination import ExaminedStudy
from node.intake.quarantine import Quarantine
from node.intake.submissions import Intake
from node.intake.uploads import Limits
from node.jobs.auditing import sign_head
from node.jobs.delivery import Delivery
from node.jobs.replicate import Replicator
from node.jobs.report import report
from node.jobs.schedule import Schedule
from node.jobs.scrub import Scrubber
from node.jobs.sweep import sweep
from node.jobs.webleaf import WebLeafJob
from node.keys import random_octets
from node.mesh import server, tls
from node.mesh.client import PeerClient
from node.mesh.discovery import LOOK_S, Discovery
from node.mesh.exchange import Exchange
from node.mesh.joining import Inviter
from node.mesh.news import News
from node.mesh.peercert import protocol_class
from node.mesh.refusals import Refusals
from node.mesh.sessions import Sessions
from node.mesh.space import Space
from node.parts import Node
from node.salvage import adopt_strays
from node.serving import Servers
from node.store.history import History
from node.store.memory import keep_large_buffers, release_buffers
from node.store.vault import Incoming
from sync.bodies import Role, Study
from sync.facts import Fact
from sync.ids import BlobId, EntryId, short

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running node listens."""

    people: str | None  # HTTPS, other devices
    local: str  # HTTP, this machine only
    mesh: str  # other nodes, "host:port"


class Service:
    """A node at work. `start`, then `stop`; both return when it is done."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._schedule = Schedule()
        self._servers = Servers()
        self._door = PeopleDoor(node, self._servers)
        self._web_leaf = WebLeafJob(node, self._door.install)
        membership = node.membership
        self._identity = tls.Identity(node.keystore.node_key, membership.chain)
        self._sessions = Sessions(tls.client_context(self._identity, membership.genesis.mesh_ca))
        self._space = Space(node.holdings, node.settings, node.clock, node.ballast)
        self._exchange = Exchange(
            node.holdings, self._space, node.clock, version=node.version, metered=node.settings.metered
        )
        self._inviter = Inviter(
            node.facts,
            membership.genesis,
            self._identity,
            node.clock,
            random=random_octets,
            issue_web=self._issue_web,
        )
        self._history = History(node.database, lambda: node.keystore.dedup_key)
        self._intake = Intake(
            node.database,
            node.home.spool,
            keys=node.keystore.intake,
            clock=node.clock,
            keep=self._keep,
            limits=Limits.of(node.settings, node.blobs.free_bytes),
            known=lambda uid, images: self._history.had(uid, ((one.uid, one.sha256) for one in images)),
            destinations=lambda: node.facts.ask(lambda ledger: ledger.destinations()),
            label_of=MeshDevices(node.facts).label_of,
            wake=lambda: node.signals.tell("intake"),
            changed=lambda submission: node.signals.tell("submissions", submission),
        )
        self._quarantine = Quarantine(
            node.database,
            keys=node.keystore.intake,
            uploads=self._intake.uploads,
            keep=self._keep,
            changed=lambda submission: node.signals.tell("submissions", submission),
        )
        self._delivery = Delivery(node)
        self._replicator = Replicator(
            self._exchange,
            node.notes,
            node.clock,
            self._dial,
            every_s=node.settings.replicate_every_s,
            metered=node.settings.metered,
            metered_every_s=node.settings.metered_every_s,
        )
        self._news = News(self._exchange)
        self._discovery = Discovery(
            membership.genesis.mesh_id,
            bind=node.settings.bind,
            public=node.settings.allow_public_peers,
            found=self._found,
            moved=lambda: node.signals.tell("replicate"),
            wake=lambda: node.signals.tell("discover"),
            random=random_octets,
            clock=node.clock,
        )
        self._operator_token = operator.new_token()
        self._authoriser = auth.Authoriser(
            devices=MeshDevices(node.facts),
            clock=node.clock,
            mesh=membership.genesis.mesh_id,
            node=node.facts.node_id,
            token_key=node.keystore.token_key,
            operator_token=self._operator_token,
        )
        self._plan_jobs()

    # -- running --------------------------------------------------------------------------------

    def start(self) -> Addresses:
        """Open the ports, start the jobs, and return where the node listens.

        Raises:
            BadSettings: a port is taken.
        """
        keep_large_buffers()
        adopt_strays(self._node)
        self._node.holdings.settle()
        self._node.notes.give_peers(self._node.settings.peers)
        addresses = self._serve()
        operator.write(self._node.home.run, operator.Operator(addresses.local, self._operator_token))
        self._node.facts.listen(self._on_facts)
        self._schedule.start()
        if self._node.settings.discovery:
            self._discovery.announce(int(addresses.mesh.rpartition(":")[2]), self._door.hosts())
        for topic in ("discover", "intake", "replicate", "forward", "sweep", "web-leaf"):
            self._node.signals.tell(topic)
        self._node.audit.record("node-started", "node", detail={"version": self._node.version})
        log.info("node started node=%s version=%s", short(self._node.facts.node_id), self._node.version)
        return addresses

    def stop(self) -> None:
        """Take no more requests, let the jobs end, close the ports."""
        operator.remove(self._node.home.run)
        self._news.close()
        self._door.close_setup()
        self._servers.ask_to_stop()
        self._replicator.stop()
        self._discovery.close()
        self._delivery.hurry()
        self._schedule.stop()
        self._servers.join()
        self._intake.close()
        self._delivery.close()
        self._node.audit.record("node-stopped", "node")
        self._sign_head(now=True)
        log.info("node stopped node=%s", short(self._node.facts.node_id))

    def _serve(self) -> Addresses:
        settings, membership, servers = self._node.settings, self._node.membership, self._servers
        local = self._door.open(self.people_app())
        mesh = servers.add(
            self.mesh_app(),
            settings.bind,
            settings.mesh_port,
            setting="mesh_port",
            context=tls.server_context(self._identity, membership.genesis.mesh_ca),
            http=protocol_class(),
        )
        servers.start()
        people = self._door.port
        host = "127.0.0.1" if settings.bind in ("0.0.0.0", "127.0.0.1") else settings.bind  # noqa: S104
        return Addresses(
            people=f"https://{host}:{people}" if people else None,
            local=f"http://localhost:{local}",
            mesh=f"{host}:{mesh}",
        )

    def people_app(self) -> FastAPI:
        """Return the application for people and tools."""
        node, require = self._node, self._authoriser.require
        app = FastAPI(title="ClinicMesh", version=node.version, docs_url=None, redoc_url=None)
        mesh_name = node.membership.genesis.name
        contract.document_problems(app)
        problems.install(app, connect=origins.connect_sources(mesh_name))
        origins.allow(app, mesh_name)
        app.add_middleware(BodyLimit, exempt=("/api/v1/uploads",))
        app.add_middleware(audit.Audited, trail=node.audit)
        app.add_middleware(origins.KnownHosts, local_port=lambda: self._door.local_port)
        app.include_router(health.router(node, self._door.own_url))
        app.include_router(auth.router(self._authoriser))
        app.include_router(submissions.router(self._intake, require))
        app.include_router(uploads.router(self._intake, require))
        app.include_router(quarantine.router(self._quarantine, require))
        for part in (studies, decisions, destinations, devices, audit, unlocking):
            app.include_router(part.router(node, require))
        app.include_router(events.router(node.signals, require, self._authoriser.still))
        app.include_router(admin.router(node, self._inviter, require))
        app.include_router(members.router(node, self._inviter, require))
        app.include_router(sticks.router(node, self._exchange, require))
        app.include_router(setup.router(self._door.open_setup, require))
        app.include_router(metrics.router(node, lambda: self._door.local_port))
        app.include_router(webapp.router())
        return app

    def mesh_app(self) -> FastAPI:
        """Return the application for other nodes."""
        app = FastAPI(title="ClinicMesh mesh", docs_url=None, redoc_url=None, openapi_url=None)
        problems.install(app, browsers=False, refused=Refusals(self._node.clock).note)
        app.include_router(server.joining_router(self._inviter))
        app.include_router(server.router(self._exchange, self._news, met=self._replicator.dialled_by))
        return app

    # -- jobs -----------------------------------------------------------------------------------

    def _plan_jobs(self) -> None:
        node, settings = self._node, self._node.settings
        plans: Sequence[tuple[str, float, Callable[[], object]]] = (
            ("intake", 30.0, self._work_through_intake),
            ("discover", LOOK_S, self._discovery.look),
            ("replicate", settings.replicate_every_s, self._replicator.meet_all),
            ("forward", settings.forward_every_s, self._delivery.run),
            ("sweep", settings.sweep_every_s, self._sweep_and_report),
            ("scrub", 600.0, Scrubber(node.holdings, node.metrics).scrub_next),
            ("web-leaf", 3600.0, self._web_leaf.look),
            ("time", 60.0, self._keep_minute),
            ("expire", 3600.0, self._intake.expire),
        )
        node.signals.on("replicate", self._replicator.wake)  # before the job's own
        for name, seconds, work in plans:
            node.signals.on(name, self._schedule.every(name, seconds, work))

    def _keep_minute(self) -> None:
        keep_time(self._node.notes, self._node.clock)

    def _work_through_intake(self) -> None:
        worked = False
        while True:
            if self._intake.examine_next() or self._intake.keep_next():
                worked = True
            elif not self._intake.examine_ahead():
                break
        if worked:
            release_buffers()

    def _sweep_and_report(self) -> None:
        node = self._node
        self._space.ease()
        node.holdings.settle()
        seal_to_newcomers(node)
        sweep(node.holdings, node.notes, node.settings, node.clock)
        self._space.relieve()
        self._space.restore_ballast()
        report(node.holdings, node.notes, node.clock, version=node.version)
        self._sign_head()

    def _sign_head(self, *, now: bool = False) -> None:
        node = self._node
        sign_head(node.audit, node.facts, node.notes, node.clock, now=now)

    def _on_facts(self, admitted: tuple[Fact, ...], revived: tuple[EntryId, ...]) -> None:
        """Let everything that a new fact may concern happen now."""
        signals = self._node.signals
        for fact in admitted:
            if fact.header.entry is not None:
                signals.tell("studies", fact.header.entry.hex())
        if admitted or revived:
            self._news.changed()
            signals.tell("replicate")
            signals.tell("forward")
        if any(fact.header.kind in _ABOUT_LEAVES for fact in admitted):
            signals.tell("web-leaf")
        if any(fact.header.kind in _ENDING for fact in admitted):
            signals.tell("sweep")

    def _keep(
        self,
        study: ExaminedStudy,
        instances: Sequence[Incoming],
        confirmed: dict[str, Any],
        *,
        submission: bytes,
        on_commit: Callable[[Any, bytes], None],
    ) -> bytes:
        """Seal a confirmed study and announce it; blobs first, then one commit for all the rest."""
        node = self._node
        note = self._history.noting(study.study_uid, ((one.uid, one.sha256.hex()) for one in instances))
        kept = node.vault.keep_study(
            study.study_uid,
            instances,
            {**confirmed, "modalities": study.modalities},
            recipients=node.recipients(),
            mesh=node.membership.genesis.mesh_id,
            named=node.notes.note_sealing,
        )
        listed = [(BlobId(kept.entry_id), len(kept.manifest)), *kept.blobs]
        body = Study(
            manifest=BlobId(kept.entry_id),
            size=kept.size,
            blobs=len(listed),
            priority=confirmed["priority"],
            destination=confirmed["destination"] or "",
            submission=submission,
            origin=node.facts.node_id,
        )
        try:
            with node.facts.writing() as writing:
                node.holdings.keep_own(writing, kept.entry_id, body, listed)
                on_commit(writing.session, kept.entry_id)
                note(writing.session)
                node.notes.forget_sealing(writing.session, kept.entry_id)
        except BaseException:
            if node.queue.get(kept.entry_id) is None:  # nothing was committed: it was taken back, or failed
                node.holdings.abandon(listed)
                node.notes.end_sealing(kept.entry_id)
            raise
        log.info("study kept entry=%s blobs=%d bytes=%d", short(kept.entry_id), len(listed), kept.size)
        return kept.entry_id

    def _dial(self, address: str) -> PeerClient:
        return PeerClient(address, self._sessions)

    def _found(self, address: str) -> None:
        if self._replicator.found(address):
            self._node.signals.tell("replicate")

    def _issue_web(
        self, public_key: bytes, label: str, addresses: Sequence[str], roles: frozenset[str]
    ) -> tuple[bytes, ...]:
        """Issue a people's leaf to a node that joins.

        Nothing without an issuer, or by a clock that fell back: the node then asks for it by a fact.
        """
        node = self._node
        issuer, key = node.membership.web_issuer, node.keystore.web_issuer_key
        if issuer is None or key is None or node.clock.fell_back:
            return ()
        name = node.membership.genesis.name
        names = webcert.names_for(name, label, addresses, shared=Role.INGEST in roles)
        return webcert.issue_web_leaf(key, issuer, public_key, names, now_ms=node.clock.now_ms()), issuer


_ABOUT_LEAVES = frozenset({"web-request", "web-leaf", "member", "revoked"})
_ENDING = frozenset({"tombstone", "recall", "member", "destination", "revoked", "vouched"})
