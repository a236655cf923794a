"""Commands about the mesh's nodes: revoke, admit, restore-admin; and joining by files."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.options import Data, Json
from node.cli.output import Output, many, told_plainly
from node.cli.remote import Remote, running
from node.cli.sheet import ask_root, ask_sheet
from node.clock import SystemClock
from node.errors import Refused
from node.home import Home, Membership
from node.keys import random_octets
from node.mesh.enrolment import MAX_FILE
from node.recovery import MeshRoot
from node.store import files
from sync.ids import FactId, MeshId, NodeId, short

_SHOWN = 8  # names in a line
_FACTS_AT_ONCE = 4  # each up to 64 kB, within the API's 1 MiB


def revoke(
    node: Annotated[str, typer.Argument(help="Its label, or the first digits of its id.")],
    data: Data,
    reason: Annotated[str, typer.Option(help="Why; everybody in the mesh can read it.")] = "",
    vouch_for_all: Annotated[
        bool,
        typer.Option("--vouch-for-all", help="What it signed until now still stands: it was only retired."),
    ] = False,
    vouch: Annotated[
        list[str] | None,
        typer.Option(help="A fact or an entry of its that still stands, by first digits; may be repeated."),
    ] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Sign with the recovery sheet, which is asked for.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Trust a node no longer: lost, stolen, or taken out of service. It cannot be undone.

    Says first what that node could open, what happens to its studies, and which PACS credentials to change.
    """
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        seen = remote.get(f"/api/v1/admin/revocations?key={_quoted(node)}")
        if not (seen["may_sign"] or sheet):
            raise Refused(
                "may-not-revoke", "This node did not admit it, so it takes the recovery sheet (`--sheet`)."
            )
        vouched = _chosen(seen["facts"], vouch or [], everything=vouch_for_all)
        _show(out, seen, len(vouched))
        if not yes:
            typer.confirm(f"Revoke {seen['label']} ({seen['node'][:8]}) for ever?", abort=True, err=True)
        if sheet:
            said = _revoke_by_root(remote, Home(data).membership(), seen, vouched, reason, ask_root(out))
        else:
            body = {"node": seen["node"], "shown": seen["shown"], "reason": reason}
            more = {"vouch_for_all": True} if vouch_for_all else {"vouch": vouched}
            said = remote.post("/api/v1/admin/revocations", {**body, **more})
        done = {"signed": said["facts"], "announced_again": said["announced_again"]}
        out.value({**seen, **done, "vouched": vouched})
        out.say(f"[bold]{seen['label']}[/] is revoked. Each node learns of it at its next meeting.")
        if said["announced_again"]:
            out.say(f"No longer counted as ended: {many(said['announced_again'], 'study')}.")


def admit(
    request: Annotated[Path, typer.Argument(help="The request file.", exists=True, dir_okay=False)],
    data: Data,
    response: Annotated[Path, typer.Option(help="Where to write the answer, for the other machine.")],
    as_json: Json = False,
) -> None:
    """Admit a node by the request file that it made from an invitation file of this node."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data) as remote:
        body = {"request": b64encode(_read(request)).decode()}
        said = remote.post("/api/v1/admin/admissions", body)
        files.write_durably(response, b64decode(said.pop("response")))
        out.value({**said, "response": str(response)})
        out.say(f"[bold]{said['label']}[/] ({said['node']}) is admitted: {', '.join(said['roles'])}.")
        out.say(f"On that machine: [bold]clinicmesh join --response {response.name}[/]")


def restore_admin(
    data: Data,
    all_roles: Annotated[
        bool,
        typer.Option("--all-roles", help="Every role, as the first node had: it may open studies, too."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Let this node invite and revoke, by the recovery sheet, when the node that made the mesh is lost.

    Stop the node first. It can give the roles that it has itself; with --all-roles it gets every one, and
    the sheet opens for it the studies that are on this machine. When more of them have come from other nodes,
    do it once more.
    """
    from node import founding

    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json):
        home = Home(data)
        name = home.membership().genesis.name
        restored = founding.restore_admin(
            home, ask_sheet(out), all_roles=all_roles, clock=SystemClock(), random=random_octets
        )
        roles = sorted(restored.roles)
        out.value({"roles": roles, "opened": restored.opened})
        out.say(f"This node may now invite nodes into [bold]{name}[/]. Its roles: {', '.join(roles)}.")
        if restored.opened:
            out.say(f"It opens {restored.opened} studies that are here and that it could not open before.")
        out.say("Start it with [bold]clinicmesh run[/].")


# -- joining by files, for `invite` and `join` ----------------------------------------------------------


def write_invitation(remote: Remote, out: Output, data: Path, file: Path, body: dict[str, Any]) -> None:
    """Ask the running node for an invitation file and write it."""
    said = remote.post("/api/v1/admin/invitation-files", body)
    files.write_durably(file, b64decode(said["invitation"]))
    mesh = Home(data).membership().genesis.mesh_id
    out.value({"file": str(file), "expires_in": said["expires_in"], "mesh": mesh.hex()})
    out.say(f"The invitation is in {file}. It works once, for {said['expires_in'] // 3600} hours.")
    out.say(f"The mesh's fingerprint: [bold]{fingerprint(mesh)}[/]; the other machine must show the same.")
    out.say(f"There: [bold]clinicmesh join --from {file.name} --request request.cmi[/]")


def ask_by_file(
    data: Path, out: Output, *, invitation: Path, request: Path, label: str, passphrase: str | None
) -> None:
    """Answer an invitation file with a request file."""
    from node import founding

    genesis, me, content = founding.ask_to_join(
        Home(data), invitation=_read(invitation), label=label, passphrase=passphrase, random=random_octets
    )
    files.write_durably(request, content)
    out.value({"mesh": genesis.mesh_id.hex(), "node": me.hex(), "file": str(request)})
    out.say(f"The request is in {request}. This node is [bold]{short(me)}[/].")
    out.say(
        f"The mesh is called {genesis.name}; its fingerprint: [bold]{fingerprint(genesis.mesh_id)}[/]. "
        "Go on only if the inviting machine shows the same."
    )
    out.say(f"There: [bold]clinicmesh admit {request.name} --response response.cmi[/]")


def join_by_file(data: Path, response: Path) -> Membership:
    """Join with the response file."""
    from node import founding

    return founding.finish_joining(Home(data), response=_read(response), clock=SystemClock())


def fingerprint(mesh: MeshId) -> str:
    """Return what people compare on two screens: 80 bits of the mesh's id in groups."""
    text = mesh.hex()[:20].upper()
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


# -- steps ----------------------------------------------------------------------------------------------


def _chosen(facts: Sequence[Any], wanted: Sequence[str], *, everything: bool) -> list[str]:
    """Return the ids of the facts that are vouched for."""
    if everything:
        return [one["fact"] for one in facts]
    chosen: list[str] = []
    for text in wanted:
        digits = text.strip().lower()
        found = [
            one["fact"]
            for one in facts
            if len(digits) >= 8
            and (one["fact"].startswith(digits) or (one["entry_id"] or "").startswith(digits))
        ]
        if not found:
            raise Refused("not-its-fact", "It signed no fact with these digits; give at least eight.")
        chosen += found
    return sorted(set(chosen))


def _revoke_by_root(
    remote: Remote, membership: Membership, seen: Any, vouched: Sequence[str], reason: str, root: MeshRoot
) -> dict[str, Any]:
    """Sign in this process with the sheet's root; the node gets the signed facts only."""
    from node.revoking import signed_by_root

    genesis = membership.genesis
    if root.id not in genesis.roots:
        raise Refused("recovery-sheet-wrong", "This is the sheet of another mesh.")
    raws = signed_by_root(
        root,
        genesis.mesh_id,
        NodeId(bytes.fromhex(seen["node"])),
        reason=reason,
        vouched=[FactId(bytes.fromhex(one)) for one in vouched],
        revoked=seen["revoked"],
        newest_ms=seen["newest"][root.id.hex()],
        now_ms=seen["now_ms"],
    )
    facts: list[str] = []
    revived = 0
    for at in range(0, len(raws), _FACTS_AT_ONCE):
        batch = [b64encode(raw).decode() for raw in raws[at : at + _FACTS_AT_ONCE]]
        said = remote.post("/api/v1/admin/revocations/signed", {"facts": batch})
        facts += said["facts"]
        revived += said["announced_again"]
    return {"facts": facts, "announced_again": revived}


def _show(out: Output, seen: Any, vouched: int) -> None:
    could, lost = seen["could_open"], seen["lost"]
    revoked = " [bold](revoked already)[/]" if seen["revoked"] else ""
    out.say(
        f"[bold]{seen['label']}[/] ({seen['node'][:8]}): {', '.join(seen['roles']) or 'no role'}{revoked}"
    )
    studies = could["studies"]
    if studies or could["cannot_tell"] or could["delivered"]:
        out.say(
            f"  It could open {many(len(studies), 'study')} under way{_codes(studies)}; it says "
            f"that it holds {could['held']} of them. {could['cannot_tell']} more cannot be told from here. "
            f"It has delivered {could['delivered']}, which it could open then."
        )
    else:
        out.say("  It could open no study: none is sealed to it. It has seen sizes, times and labels.")
    if studies:
        out.say(
            "  Those are sealed anew without it, by a node that may open them; the old copies are erased."
        )
    if seen["waiting"]:
        out.say(
            f"  What it took in stays: {many(len(seen['waiting']), 'study')}{_codes(seen['waiting'])}. Each "
            "waits for a person: `clinicmesh troubles decide ENTRY retry --person NAME` if it is genuine."
        )
    if seen["facts"]:
        out.say(
            f"  It signed {len(seen['facts'])} facts that could hurt. Unless vouched for, "
            f"{lost['tombstones']} studies no longer count as ended, and travel again where copies are left"
            f"{_names('; no members any more', lost['members'])}"
            f"{_names('; devices that cannot log in any more', lost['devices'])}"
            f"{_names('; destinations that are gone', lost['destinations'])}."
        )
        out.say(f"  You vouch for {vouched} of them.")
    if seen["credentials"]:
        out.say(
            f"  [bold]Change the credentials[/] at the PACS {', '.join(seen['credentials'])}, then repeat "
            "`clinicmesh pacs add`."
        )


def _codes(studies: Sequence[Any]) -> str:
    names = [one["code"] for one in studies]
    return _names("", names) if names else ""


def _names(text: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{text}{': ' if text else ' ('}{', '.join(names[:_SHOWN])}{more}{'' if text else ')'}"


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _read(path: Path) -> bytes:
    """Return what is in a file of a stick; more than any can hold is not read."""
    with path.open("rb") as file:
        return file.read(MAX_FILE + 1)
