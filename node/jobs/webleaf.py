"""The people's certificate of this node, kept fresh: asked for, issued and installed by facts.

A node whose leaf has a third of its life left, or names too little, asks with a fact; any node that has an
issuer answers with one, whenever the two hear of each other. So no administrator need be near. A machine
whose clock fell back issues nothing: the leaf would end years too early, or begin in the future of every
phone.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from node import webcert
from node.addresses import own_addresses
from node.errors import Refused
from node.parts import Node
from node.webcert import WebNames
from sync.bodies import Role, WebLeaf, WebRequest
from sync.ids import NodeId, short

log = logging.getLogger(__name__)
Install = Callable[[Sequence[bytes]], None]


class WebLeafJob:
    """Keeps the certificate of one node fresh, and answers the requests of others.

    Args:
        node: whose it is.
        install: shows a new chain (leaf and issuer, DER) on the people's port from now on.
        addresses: gives this machine's addresses.
    """

    def __init__(
        self, node: Node, install: Install, addresses: Callable[[], Sequence[str]] = own_addresses
    ) -> None:
        self._node = node
        self._install = install
        self._addresses = addresses
        self._chain = node.membership.web_chain

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The chain that is shown now."""
        return self._chain

    def look(self) -> None:
        """Take in what was issued to this node, ask for more if need be, and issue what others ask for."""
        self._take()
        if not self._chain or self._stale(self._chain[0]):
            self._ask_or_issue()
        self._serve()

    # -- this node ------------------------------------------------------------------------------

    def _names(self) -> WebNames:
        return self._names_of(self._node.facts.node_id, self._node.membership.label, self._addresses())

    def _names_of(self, asker: NodeId, label: str, addresses: Sequence[str]) -> WebNames:
        """Return what a node's leaf is for, by the roles that it has now."""
        roles = self._node.facts.ask(lambda ledger: ledger.membership.roles(asker))
        name = self._node.membership.genesis.name
        return webcert.names_for(name, label, addresses, shared=Role.INGEST in roles)

    def _stale(self, leaf: bytes) -> bool:
        return webcert.needs_renewal(leaf, self._names(), now_ms=self._node.clock.now_ms())

    def _take(self) -> None:
        """Install the leaf that ends last of those that were issued to this node, if it is a better one."""
        node = self._node
        facts = node.facts.ask(lambda ledger: ledger.web_leaves(node.facts.node_id))
        found = [fact.body for fact in facts if isinstance(fact.body, WebLeaf)]
        root, key = node.membership.genesis.web_root, webcert.public_half(node.keystore.web_key)
        good = [one for one in found if webcert.is_for(one.leaf, one.issuer, root, key)]
        if good:
            best = max(good, key=lambda one: (not self._stale(one.leaf), webcert.ends_ms(one.leaf)))
            self._keep((best.leaf, best.issuer))

    def _keep(self, chain: tuple[bytes, ...]) -> None:
        if chain == self._chain:
            return
        if self._chain and self._stale(chain[0]) >= self._stale(self._chain[0]):
            return  # no better than the one that is shown
        node = self._node
        node.home.keep_membership(replace(node.home.membership(), web_chain=chain))
        self._install(chain)
        self._chain = chain
        log.info("people's certificate renewed node=%s", short(node.facts.node_id))

    def _ask_or_issue(self) -> None:
        node = self._node
        names = self._names()
        key, addresses = webcert.public_half(node.keystore.web_key), tuple(map(str, names.addresses))
        chain = self._issue(key, names)
        if chain:
            self._keep(chain)
            return
        asked = node.facts.ask(lambda ledger: ledger.web_requests().get(node.facts.node_id))
        if asked is None or asked.body != WebRequest(key, addresses):
            node.facts.issue(WebRequest(key=key, addresses=addresses))

    # -- others ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Answer each request that nobody has answered, if this node issues certificates."""
        node = self._node
        if node.membership.web_issuer is None or node.clock.fell_back:
            return
        members = node.facts.ask(lambda ledger: ledger.membership.members())
        for asker, fact in node.facts.ask(lambda ledger: ledger.web_requests()).items():
            body = fact.body
            if asker == node.facts.node_id or asker not in members or not isinstance(body, WebRequest):
                continue
            names = self._names_of(asker, members[asker].label, body.addresses)
            if self._answered(asker, body, names):
                continue
            chain = self._issue(body.key, names)
            if chain:
                node.facts.issue(WebLeaf(node=asker, leaf=chain[0], issuer=chain[1]))

    def _answered(self, asker: NodeId, body: WebRequest, names: WebNames) -> bool:
        """Say whether a leaf for what is asked is there that needs no renewal yet."""
        node = self._node
        root, now = node.membership.genesis.web_root, node.clock.now_ms()
        return any(
            isinstance(fact.body, WebLeaf)
            and webcert.is_for(fact.body.leaf, fact.body.issuer, root, body.key)
            and not webcert.needs_renewal(fact.body.leaf, names, now_ms=now)
            for fact in node.facts.ask(lambda ledger: ledger.web_leaves(asker))
        )

    def _issue(self, key: bytes, names: WebNames) -> tuple[bytes, ...]:
        """Issue a leaf; nothing without an issuer, by a clock that fell back, or for another kind of key."""
        node = self._node
        issuer, issuer_key = node.membership.web_issuer, node.keystore.web_issuer_key
        if issuer is None or issuer_key is None or node.clock.fell_back:
            return ()
        try:
            leaf = webcert.issue_web_leaf(issuer_key, issuer, key, names, now_ms=node.clock.now_ms())
        except Refused:
            log.warning("a request for a certificate has an unusable key")
            return ()
        return leaf, issuer
