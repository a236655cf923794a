"""People's phones and PCs as facts: what `node.api.auth` asks of them, and ending the trust in one."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from node.api.auth import Caller, DeviceRecord
from node.errors import Refused
from node.keys import random_octets
from node.parts import Node
from node.store.factlog import FactLog
from sync.bodies import Device, Role
from sync.ids import NodeId, short

Require = Callable[[str], Callable[..., Caller]]
_DeviceId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


def router(node: Node, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(
        prefix="/api/v1/admin/devices", tags=["admin"], dependencies=[Depends(require("admin"))]
    )

    @routes.get("")
    def devices() -> dict[str, list[dict[str, Any]]]:
        """List the devices that may log in, by label."""
        known = node.facts.ask(lambda ledger: ledger.devices())
        told = [{"device_id": one.hex(), "label": d.label, "role": d.role} for one, d in known.items()]
        return {"devices": sorted(told, key=lambda one: (str(one["label"]), str(one["device_id"])))}

    @routes.delete("/{device_id}")
    def revoke(device_id: _DeviceId) -> dict[str, str]:
        """End a device for ever, in the whole mesh; what it has handed in stays."""
        device = bytes.fromhex(device_id)
        body = node.facts.ask(lambda ledger: ledger.devices().get(device))
        if body is None:
            raise Refused("device-unknown", "No such device may log in.")
        me = node.facts.node_id
        if Role.ENROL not in node.facts.ask(lambda ledger: ledger.membership.roles(me)):
            raise Refused("may-not-enrol", "This node may not enrol devices, nor end them.")
        ended = Device(device=device, key=body.key, label=body.label, role=body.role, revokes=True)
        fact = node.facts.issue(ended)
        return {"device_id": device_id, "label": body.label, "fact": short(fact.id)}

    return routes


class MeshDevices:
    """The mesh's devices, as facts."""

    def __init__(self, facts: FactLog) -> None:
        self._facts = facts

    def find(self, device_id: str) -> DeviceRecord | None:
        """Return what is known of a device."""
        try:
            device = bytes.fromhex(device_id)
        except ValueError:
            return None
        body = self._facts.ask(lambda ledger: ledger.devices().get(device))
        if body is None:
            return None
        return DeviceRecord(device_id, json.loads(body.key), body.role, revoked=False)

    def label_of(self, device_id: str) -> str:
        """Return what people call a device; nothing if it has no name, as the command line's own."""
        try:
            device = bytes.fromhex(device_id)
        except ValueError:
            return ""
        body = self._facts.ask(lambda ledger: ledger.devices().get(device))
        return "" if body is None else body.label

    def enrol(self, label: str, key: Mapping[str, str], role: str) -> str:
        """Enrol a device for the whole mesh.

        Raises:
            Refused: this node may not (`may-not-enrol`).
        """
        me: NodeId = self._facts.node_id
        if Role.ENROL not in self._facts.ask(lambda ledger: ledger.membership.roles(me)):
            raise Refused("may-not-enrol", "This node may not enrol devices.")
        device = random_octets(16)
        self._facts.issue(
            Device(device=device, key=json.dumps(dict(key), sort_keys=True), label=label, role=role)
        )
        return device.hex()
