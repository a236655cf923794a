"""The command `status`: this node, the others as far as it has heard, sticks, and what is on its way."""

from collections.abc import Sequence
from typing import Any

from node.cli.options import Data, Json
from node.cli.output import SETBACKS, Output, many, size, told_plainly, when
from node.cli.remote import running
from node.cli.studies import NodeUrl

_ENDED = frozenset({"delivered", "partly-delivered", "withdrawn"})
_SHOWN = 20


def status(data: Data, node: NodeUrl = None, as_json: Json = False) -> None:
    """Say how this node is, what the others last reported, and where each study on its way is."""
    out = Output(as_json=as_json)
    with told_plainly(as_json=as_json), running(data, node) as remote:
        said = remote.get("/api/v1/status")
        stories = remote.get("/api/v1/studies")["studies"]
        out.value({**said, "entries": stories})
        _say_self(out, said)
        _say_uplink(out, said["uplink"])
        _show_nodes(out, said["members"])
        _show_addresses(out, said["peers"])
        _show_sticks(out, said["sticks"])
        _show_on_their_way(out, [one for one in stories if one["state"] not in _ENDED])
        _show_not_erased(out, [one for one in stories if one["state"] in _ENDED])


def _say_self(out: Output, said: Any) -> None:
    locked = " [bold red]locked[/]" if said["locked"] else ""
    out.say(f"[bold]{said['label']}[/] ({said['node']}) of {said['mesh']}{locked}, version {said['version']}")
    out.say(f"Roles: {', '.join(said['roles']) or 'none'}.  Destinations: {_list(said['destinations'])}.")
    counts = ", ".join(f"{count} {state}" for state, count in said["studies"].items())
    disk = said["disk"]
    out.say(f"Studies: {counts or 'none'}.  Held: {size(disk['held'])}, free {size(disk['free'])}.")
    if not said["destinations"]:
        out.say("No PACS is known yet, so studies wait: [bold]clinicmesh pacs add[/] on the cloud node.")


def _say_uplink(out: Output, said: Any) -> None:
    """Say how fast the way to the PACS is, and what keeps studies from it."""
    if said["bytes_per_s"]:
        limit = f", held to {said['limit_kbit_s']:g} kbit/s" if said["limit_kbit_s"] else ""
        metered = ", paid by the byte: urgent studies first" if said["metered"] else ""
        out.say(f"To the PACS: {size(said['bytes_per_s'])} a second{limit}{metered}.")
    for setback, count in said["setbacks"].items():
        out.say(f"  {count} waiting: {SETBACKS.get(setback, setback)}")


def _show_nodes(out: Output, members: Sequence[Any]) -> None:
    """Show every node of the mesh: when it was heard of, and what it said then."""
    rows = [
        [
            one["label"] + (" (revoked)" if one["revoked"] else ""),
            "this node" if one["me"] else _ago(one["heard_s_ago"]),
            one["holds"] or "",
            size(one["report"]["free"]) if one["report"] else "",
            one["to_erase"] or "",
            one["report"]["version"] if one["report"] else "",
        ]
        for one in members
    ]
    out.table(["node", "last heard of", "holds", "free", "to erase", "version"], rows)


def _show_addresses(out: Output, peers: Sequence[Any]) -> None:
    rows = [[one["address"], one["node"], _ago(one["met_s_ago"])] for one in peers]
    if rows:
        out.table(["address", "node", "last met"], rows)


def _show_sticks(out: Output, sticks: Sequence[Any]) -> None:
    for one in sticks:
        if not one["given_up"]:
            erase = f", {one['to_erase']} delivered to be erased" if one["to_erase"] else ""
            out.say(
                f"Stick [bold]{one['name']}[/]: {many(one['on_their_way'], 'study')} aboard{erase}; "
                f"last at {one['seen_by']}, {when(one['seen_at'])}."
            )


def _show_on_their_way(out: Output, stories: Sequence[Any]) -> None:
    """Show what has not ended: where each study is, on how many copies, and who has them."""
    rows = [
        [
            one["code"],
            one["state"]
            + (" !" if one["priority"] == "urgent" else "")
            + (", needs a person" if one["trouble"] is not None else ""),
            one["copies"],
            ", ".join([one["origin"] or "?", *one["holders"]]) + _silent(one["silent"]),
            size(one["bytes"]),
        ]
        for one in stories[:_SHOWN]
    ]
    if rows:
        out.table(["study", "where it is", "copies", "on", "size"], rows)
    if len(stories) > _SHOWN:
        out.say(f"… and {len(stories) - _SHOWN} more: `clinicmesh studies`.")


def _show_not_erased(out: Output, stories: Sequence[Any]) -> None:
    """Show what has ended and may still lie somewhere, and where."""
    left = [one for one in stories if one["erased"]["missing"]]
    rows = [
        [
            one["code"],
            one["state"],
            f"{one['erased']['n']} of {one['erased']['of']}",
            ", ".join(one["erased"]["missing"]),
        ]
        for one in left[:_SHOWN]
    ]
    if rows:
        out.table(["study", "ended", "erased on", "not known of"], rows)
    if len(left) > _SHOWN:
        out.say(f"… and {len(left) - _SHOWN} more that may still lie somewhere.")


def _silent(labels: Sequence[str]) -> str:
    return f" (not heard of for two weeks: {', '.join(labels)})" if labels else ""


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _ago(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
