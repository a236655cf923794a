"""Every route as every role, with every kind of token; and made-up requests break nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from support.devices import GRANT_TYPE, FakeDevice
from support.fuzzing import made_up_requests
from support.nodes import LocalNode
from support.routes import walk

from node import operator
from node.api.tokens import make_access_token

ROLES = ("clinician", "lead", "admin")
SCOPES = {
    "clinician": {"upload", "status"},
    "lead": {"upload", "status", "enrol"},
    "admin": {"upload", "status", "enrol", "admin"},
}
# Route → the scope that it wants; those that are missing here want `admin`. "" is open to all.
WANTED = {
    ("GET", "/healthz"): "",
    ("GET", "/readyz"): "",
    ("GET", "/metrics"): "",
    ("GET", "/openapi.json"): "",
    ("HEAD", "/openapi.json"): "",
    ("GET", "/"): "",
    ("GET", "/{name:path}"): "",
    ("POST", "/api/v1/devices"): "",
    ("POST", "/oauth/token"): "",
    ("OPTIONS", "/api/v1/uploads"): "",
    ("OPTIONS", "/api/v1/uploads/{upload_id}"): "",
    ("POST", "/api/v1/submissions"): "upload",
    ("GET", "/api/v1/submissions/{submission_id}"): "upload",
    ("DELETE", "/api/v1/submissions/{submission_id}"): "upload",
    ("POST", "/api/v1/submissions/{submission_id}/confirm"): "upload",
    ("POST", "/api/v1/uploads"): "upload",
    ("HEAD", "/api/v1/uploads/{upload_id}"): "upload",
    ("PATCH", "/api/v1/uploads/{upload_id}"): "upload",
    ("POST", "/api/v1/uploads/{upload_id}"): "upload",
    ("DELETE", "/api/v1/uploads/{upload_id}"): "upload",
    ("GET", "/api/v1/studies"): "status",
    ("GET", "/api/v1/studies/{entry_id}"): "status",
    ("GET", "/api/v1/status"): "status",
    ("GET", "/api/v1/events"): "status",
    ("GET", "/api/v1/troubles"): "status",
    ("GET", "/api/v1/destinations"): "status",
    ("POST", "/api/v1/admin/device-codes"): "enrol",
    ("POST", "/api/v1/studies/{entry_id}/withdraw"): "enrol",
    ("POST", "/api/v1/admin/setup-page"): "enrol",
}


@dataclass
class Setting:
    """A node, and an enrolled device of each role."""

    node: LocalNode
    other: LocalNode
    devices: dict[str, FakeDevice]

    def token(self, role: str, *, of: "LocalNode | None" = None) -> str:
        """Return a fresh access token of this role's device, at this node or another one."""
        node, device = of or self.node, self.devices[role]
        with httpx.Client(base_url=f"http://127.0.0.1:{node.local_port}", trust_env=False) as client:
            health = client.get("/healthz").json()
            assertion = device.sign(device.claims(int(health["time"]), mesh=health["mesh"]))
            form = {"grant_type": GRANT_TYPE, "assertion": assertion}
            answer = client.post("/oauth/token", data=form)
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("matrix")
    with LocalNode(folder / "cloud", setup_port=0) as node, LocalNode(folder / "ward", setup_port=0) as other:
        node.init()
        node.start()
        node.admit(other, "clinic")
        other.start([node])
        devices = {}
        for role in ROLES:
            code = node.ask("POST", "/api/v1/admin/device-codes", {"role": role})["code"]
            device = FakeDevice()
            said = node.ask("POST", "/api/v1/devices", {"code": code, "label": role, "key": device.jwk})
            device.id = said["device_id"]
            devices[role] = device
        other.wait(lambda: len(other.get("/api/v1/admin/devices")["devices"]) == len(ROLES), "the devices")
        yield Setting(node, other, devices)


def routes_of(setting: Setting) -> dict[tuple[str, str], str]:
    """Return each route, and the scope that it wants."""
    routes = set(walk(setting.node.service.people_app().routes))
    return {route: WANTED.get(route, "admin") for route in routes}


def ask(client: httpx.Client, route: tuple[str, str], token: str | None) -> int:
    """Return the status of a request that says nothing sensible, which is judged by its token first."""
    method, path = route
    url = path.replace("{name:path}", "index.html")
    for name in ("submission_id", "upload_id", "device_id"):
        url = url.replace("{" + name + "}", "0" * 32)
    for name in ("entry_id", "node_id"):
        url = url.replace("{" + name + "}", "0" * 64)
    url = url.replace("{address}", "10.0.0.1:1").replace("{number}", "1").replace("{name}", "nowhere")
    assert "{" not in url, f"give this test a value for {path}"
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with client.stream(method, url, headers=headers, timeout=30) as answer:  # events never end
        return answer.status_code


@pytest.fixture
def client(setting: Setting) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{setting.node.local_port}", trust_env=False) as client:
        yield client


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_its_scopes_say_and_nothing_else(
    setting: Setting, client: httpx.Client, role: str
) -> None:
    """A clinician's stolen phone administrates nothing; a lead's adds phones and no more."""
    token = setting.token(role)
    for route, wanted in sorted(routes_of(setting).items()):
        status = ask(client, route, token)
        if wanted and wanted not in SCOPES[role]:
            assert status == 403, route
        else:
            assert status not in (401, 403), route


def _bad_tokens(setting: Setting, role: str) -> Iterator[tuple[str, str | None]]:
    good = setting.token(role)
    head, body, signature = good.split(".")
    node, device = setting.node.node, setting.devices[role]
    now = node.clock.now_ms() / 1000

    def made(seed: bytes, *, audience: str = "", at: float = now, subject: str = device.id) -> str:
        return make_access_token(
            seed,
            node=audience or f"clinicmesh-node:{node.facts.node_id.hex()}",
            device_id=subject,
            scopes=frozenset(SCOPES["admin"]),
            now_s=at,
            jti="0" * 32,
        )

    yield "none", None
    yield "not a token", "0" * 64
    yield "tampered claims", f"{head}.{body[:-2]}{'A' if body[-2] != 'A' else 'B'}{body[-1]}.{signature}"
    yield "tampered signature", f"{head}.{body}.{signature[:-4]}AAAA"
    yield "no signature", f"{head}.{body}."
    yield "expired", made(node.keystore.token_key, at=now - 1000)
    yield "of another key", made(bytes(32))
    yield "of another node", setting.token(role, of=setting.other)
    yield "for another node", made(node.keystore.token_key, audience="clinicmesh-node:" + "0" * 64)
    yield "of a device nobody knows", made(node.keystore.token_key, subject="0" * 32)
    yield "the assertion itself", device.sign(device.claims(int(now), mesh=node.facts.ledger.mesh.hex()[:8]))


def test_a_token_that_does_not_count_opens_no_route(setting: Setting, client: httpx.Client) -> None:
    """Not with any of its faults, on any route, whatever it says of itself."""
    closed = sorted(route for route, wanted in routes_of(setting).items() if wanted)
    for fault, token in _bad_tokens(setting, "admin"):
        for route in closed:
            assert ask(client, route, token) == 401, (fault, route)


def test_a_scope_that_the_role_lacks_is_worth_nothing_in_a_token(
    setting: Setting, client: httpx.Client
) -> None:
    """The role counts as the mesh has it now, not as a token says."""
    node = setting.node.node
    token = make_access_token(
        node.keystore.token_key,
        node=f"clinicmesh-node:{node.facts.node_id.hex()}",
        device_id=setting.devices["clinician"].id,
        scopes=frozenset(SCOPES["admin"]),
        now_s=node.clock.now_ms() / 1000,
        jti="1" * 32,
    )

    assert ask(client, ("GET", "/api/v1/admin/devices"), token) == 403


@pytest.mark.parametrize("who", ["nobody", *ROLES])
def test_made_up_requests_break_nothing(setting: Setting, tmp_path: Path, who: str) -> None:
    """No 500, nothing that the contract does not say, as each role. In full: `bench/contract.py`."""
    token = None if who == "nobody" else setting.token(who)
    code, said = made_up_requests(setting.node, token, tmp_path, examples=1, phases="fuzzing,stateful")

    assert code == 0, said
    assert setting.node.get("/healthz")["status"] == "ok"


def test_a_revoked_device_is_out_on_every_route(setting: Setting, client: httpx.Client) -> None:
    """With a token that it got before."""
    token = setting.token("lead")
    setting.node.ask("DELETE", f"/api/v1/admin/devices/{setting.devices['lead'].id}")

    closed = sorted(route for route, wanted in routes_of(setting).items() if wanted)
    assert {ask(client, route, token) for route in closed} == {401}
    assert operator.read(setting.node.home.run).token not in (token,)
