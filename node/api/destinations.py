"""Destinations: the PACS that the mesh delivers to (scope `admin`; to list them, `status`)."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from node import destinations
from node.api.auth import Caller
from node.deliver.credentials import Credentials
from node.parts import Node
from node.revoking import find_key
from sync.bodies import DestinationBody
from sync.evidence import Evidence

Require = Callable[[str], Callable[..., Caller]]
_Secret = Annotated[str, StringConstraints(max_length=4000)]
_Pem = Annotated[str, StringConstraints(max_length=32_000)]


class NewDestination(BaseModel):
    """A PACS. Credentials are sealed to the forwarders and never given back."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    url: Annotated[
        str,
        StringConstraints(
            pattern=r"^(https?://[^\s@]+|dicom(\+tls)?://[^\s@/]{1,16}@[^\s@/]+)$", max_length=500
        ),
    ]
    type: Literal["dicomweb", "orthanc", "dimse"] = "dicomweb"
    evidence: Evidence = Evidence.READ_BACK
    user: _Secret = ""
    password: _Secret = ""
    bearer: _Secret = ""
    headers: dict[str, _Secret] = Field(default_factory=dict, max_length=16)
    token_url: Annotated[str, StringConstraints(max_length=500)] = ""
    client_id: _Secret = ""
    client_secret: _Secret = ""
    scope: _Secret = ""
    certificate: _Pem = ""
    key: _Pem = ""
    ca: _Pem = ""
    calling: Annotated[str, StringConstraints(pattern=r"^[\x21-\x5b\x5d-\x7e]{0,16}$")] = ""
    modalities: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,16}$")]] = Field(
        default_factory=list, max_length=32
    )
    origins: list[Annotated[str, StringConstraints(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=32
    )


class Test(BaseModel):
    """How to look; `write` sends a synthetic study."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    write: bool = False


def router(node: Node, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1", tags=["admin"])
    admin = [Depends(require("admin"))]

    @routes.get("/destinations", dependencies=[Depends(require("status"))])
    def list_destinations() -> dict[str, list[dict[str, Any]]]:
        """List the PACS by name; no addresses, no secrets."""
        known = node.facts.ask(lambda ledger: ledger.destinations())
        return {"destinations": [_shown(node, name, body) for name, body in sorted(known.items())]}

    @routes.post("/destinations", status_code=201, dependencies=admin)
    def add_destination(body: NewDestination) -> dict[str, str]:
        """Tell the whole mesh of a PACS, or change one of the same name."""
        wanted = destinations.Wanted(
            name=body.name,
            kind=body.type,
            url=body.url,
            evidence=body.evidence,
            credentials=Credentials(
                **{name: getattr(body, name) for name in Credentials.__slots__},
            ),
            ca=body.ca,
            calling=body.calling,
            modalities=tuple(body.modalities),
            origins=tuple(find_key(node, text) for text in body.origins),
        )
        fact = destinations.tell(node, wanted)
        return {"name": body.name, "fact": fact.id.hex()}

    @routes.delete("/destinations/{name}", dependencies=admin)
    def remove_destination(name: str) -> dict[str, str]:
        """Take a PACS away."""
        return {"name": name, "fact": destinations.remove(node, name).id.hex()}

    @routes.post("/destinations/{name}/test", dependencies=admin)
    def test_destination(name: str, body: Test) -> dict[str, Any]:
        """Look at a PACS; with `write`, also send it a synthetic study, and remember what was learnt."""
        return destinations.test(node, name, write=body.write)

    return routes


def _shown(node: Node, name: str, body: DestinationBody) -> dict[str, Any]:
    seals = node.facts.ask(lambda ledger: ledger.membership.forwarder_seals())
    quirks = body.quirks
    return {
        "name": name,
        "type": body.type,
        "evidence": body.evidence,
        "modalities": _list(quirks.get("modalities")),
        "origins": [one.hex() for one in _list(quirks.get("origins")) if isinstance(one, bytes)],
        "credentials": bool(body.secrets),
        "forwarders_without": destinations.without_credentials(body, seals),
    }


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
