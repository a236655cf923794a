"""What an administrator does with destinations: tells the mesh of one, takes it away, seals it to newcomers.

Called by `node.api.destinations` and by the service. Needs the role `admit`; what a node without it said
would have no effect.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from node.deliver.credentials import Credentials, open_credentials, sealed
from node.deliver.places import LEVELS, check_https, check_place
from node.errors import BadSettings, DestinationLocked, Refused
from node.parts import Node
from sync.bodies import DestinationBody, Role
from sync.destinations import REMOVED, SEALS, Standing
from sync.evidence import Evidence
from sync.facts import MAX_FACT_BYTES, Fact
from sync.manifest import key_id

log = logging.getLogger(__name__)
_LARGEST_BOX = 8192


@dataclass(frozen=True, slots=True)
class Wanted:
    """A PACS as an administrator describes it; `origins` are the nodes whose studies it takes."""

    name: str
    kind: str
    url: str
    evidence: Evidence = Evidence.READ_BACK
    credentials: Credentials = field(default_factory=Credentials, repr=False)
    ca: str = ""
    calling: str = ""
    modalities: tuple[str, ...] = ()
    origins: tuple[bytes, ...] = ()


def tell(node: Node, wanted: Wanted) -> Fact:
    """Tell the whole mesh of a PACS, or change one of the same name; what was learnt of it stays.

    Raises:
        Refused: this node may not (`may-not-admit`), the address is none that images may go to
            (`address-not-allowed`), certificates or credentials cannot be used (`bad-credentials`), the kind
            cannot show that much (`evidence-not-offered`), or it is too much for one fact (`too-large`).
    """
    _need_admit(node)
    _check(wanted)
    seals = node.facts.ask(lambda ledger: ledger.membership.forwarder_seals())
    before = node.facts.ask(lambda ledger: ledger.destination_facts().get(wanted.name))
    body = DestinationBody(
        name=wanted.name,
        type=wanted.kind,
        url=wanted.url.rstrip("/"),
        evidence=wanted.evidence.value,
        quirks=_quirks(wanted, before),
        secrets=sealed(wanted.credentials, seals),
        supersedes=() if before is None else (before.fact,),
    )
    _check_size(body)
    return node.facts.issue(body)


def learn(node: Node, name: str, learnt: Mapping[str, Any]) -> bool:
    """Write down what was learnt of a PACS, for all that deliver to it; say whether it was news.

    Raises:
        Refused: this node may not (`may-not-admit`), or there is no such destination (`not-found`).
    """
    _need_admit(node)
    one = known(node, name)
    quirks = {**one.body.quirks, **learnt}
    if quirks == dict(one.body.quirks):
        return False
    node.facts.issue(_again(one, quirks=quirks))
    return True


def remove(node: Node, name: str) -> Fact:
    """Take a PACS away; studies that name it wait for a person.

    Raises:
        Refused: this node may not (`may-not-admit`), or there is no such destination (`not-found`).
    """
    _need_admit(node)
    one = known(node, name)
    return node.facts.issue(
        DestinationBody(
            name=name, type=REMOVED, url="", evidence="", quirks={}, secrets={}, supersedes=(one.fact,)
        )
    )


def test(node: Node, name: str, *, write: bool) -> dict[str, Any]:
    """Look at a PACS as this node reaches it, and return the findings.

    Args:
        node: this node; its keystore opens the credentials.
        name: of the destination.
        write: send a synthetic study, too, and tell the mesh what was learnt, if this node may.

    Raises:
        Refused: there is no such destination (`not-found`).
    """
    from node.deliver.build import connect  # brings libraries along that a courier never needs
    from node.deliver.doctor import FAILED, Examination, Finding, examine
    from node.deliver.doctor_write import probe

    body = known(node, name).body
    try:
        credentials = open_credentials(body, node.keystore.seal_secret)
    except DestinationLocked:
        advice = "Ask on a node that delivers; to this one the credentials are not sealed."
        found = Examination(
            [Finding("credentials", FAILED, "This node cannot open its credentials.", advice)]
        )
    else:
        demanded, now = Evidence(body.evidence), node.clock.now_ms()
        found = examine(body.type, body.url, credentials, body.quirks, demanded, now_ms=now)
        if write and found.sound:
            pacs = connect(body.type, body.url, credentials, body.quirks, idle_s=120)
            try:
                probe(pacs, found)
            finally:
                pacs.close()
    told = write and bool(found.learnt) and Role.ADMIT in _roles(node)
    if told:
        learn(node, name, found.learnt)
    return {
        "name": name,
        "type": body.type,
        "sound": found.sound,
        "strongest": None if found.strongest is None else found.strongest.value,
        "findings": [
            {"check": one.check, "state": one.state, "detail": one.detail, "advice": one.advice}
            for one in found.findings
        ],
        "learnt": found.learnt,
        "told": told,
    }


def known(node: Node, name: str) -> Standing:
    """Return a destination by its name.

    Raises:
        Refused: there is none (`not-found`).
    """
    one = node.facts.ask(lambda ledger: ledger.destination_facts().get(name))
    if one is None:
        raise Refused("not-found", "No PACS of that name is known to the mesh.")
    return one


def seal_to_newcomers(node: Node) -> int:
    """Seal credentials that this node can open to forwarders that cannot yet; return how many destinations.

    Only a node with `admit` may say so, and only one that delivers, too, can open them. Others do nothing.
    """
    if Role.ADMIT not in _roles(node) or node.keystore.seal_secret is None:
        return 0
    seals = node.facts.ask(lambda ledger: ledger.membership.forwarder_seals())
    done = 0
    for one in node.facts.ask(lambda ledger: ledger.destination_facts()).values():
        if not without_credentials(one.body, seals):
            continue
        missing = [public for public in seals if bytes(key_id(public)) not in one.body.secrets]
        try:
            credentials = open_credentials(one.body, node.keystore.seal_secret)
        except DestinationLocked:
            continue
        node.facts.issue(
            DestinationBody(
                name=one.body.name,
                type=SEALS,
                url="",
                evidence="",
                quirks={"of": one.fact},
                secrets=sealed(credentials, missing),
            )
        )
        log.info("credentials sealed to newcomers destination=%s count=%d", one.body.name, len(missing))
        done += 1
    return done


def without_credentials(body: DestinationBody, seals: Iterable[bytes]) -> int:
    """Return how many forwarders cannot open the credentials of a destination yet."""
    return sum(bytes(key_id(public)) not in body.secrets for public in seals) if body.secrets else 0


def _check(wanted: Wanted) -> None:
    if wanted.evidence not in LEVELS[wanted.kind]:
        offered = ", ".join(level.value for level in LEVELS[wanted.kind])
        raise Refused(
            "evidence-not-offered", f"A destination of this kind can show at best one of: {offered}."
        )
    try:
        check_place(wanted.kind, wanted.url, resolve=True)
        if wanted.credentials.token_url:
            check_https(wanted.credentials.token_url)
    except BadSettings as error:
        raise Refused("address-not-allowed", f"{_sentence(error)}") from None
    if wanted.ca or wanted.credentials.certificate or wanted.credentials.key:
        from node.deliver.access import tls_context  # brings libraries along that a courier never needs

        try:
            tls_context(wanted.ca, certificate=wanted.credentials.certificate, key=wanted.credentials.key)
        except BadSettings as error:
            raise Refused("bad-credentials", f"{_sentence(error)}") from None
    if wanted.credentials.token_url and not wanted.credentials.client_id:
        raise Refused("bad-credentials", "A token service needs to be told who we are: the client's id.")


def _check_size(body: DestinationBody) -> None:
    boxes = sum(len(box) for box in body.secrets.values())
    ca = str(body.quirks.get("ca", ""))
    largest = max((len(box) for box in body.secrets.values()), default=0)
    if largest > _LARGEST_BOX or boxes + len(ca) > MAX_FACT_BYTES - 4096:
        raise Refused("too-large", "Certificates and credentials are too large to be told to the mesh.")


def _quirks(wanted: Wanted, before: Standing | None) -> dict[str, Any]:
    told = {
        "ca": wanted.ca,
        "calling": wanted.calling,
        "modalities": [one.upper() for one in wanted.modalities],
        "origins": list(wanted.origins),
    }
    same = before is not None and (before.body.type, before.body.url) == (wanted.kind, wanted.url.rstrip("/"))
    learnt = dict(before.body.quirks) if same and before is not None else {}
    return {name: value for name, value in {**learnt, **told}.items() if value}


def _again(one: Standing, *, quirks: Mapping[str, Any]) -> DestinationBody:
    body = one.body
    return DestinationBody(
        body.name, body.type, body.url, body.evidence, quirks, body.secrets, supersedes=(one.fact,)
    )


def _roles(node: Node) -> frozenset[str]:
    me = node.facts.node_id
    return frozenset(node.facts.ask(lambda ledger: ledger.membership.roles(me)))


def _need_admit(node: Node) -> None:
    if Role.ADMIT not in _roles(node):
        raise Refused("may-not-admit", "This node may not tell the mesh of a PACS.")


def _sentence(error: BadSettings) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + "."
