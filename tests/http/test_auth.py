"""Enrolment, tokens and scopes over HTTP, with every attack that we know of."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from support.clock import FakeClock
from support.devices import GRANT_TYPE, FakeDevice, MemoryDevices, base64url
from support.servers import serve

from node.api import auth, problems
from node.api.auth import OPERATOR, SCOPES, Authoriser, Caller
from node.errors import DiskFull
from sync.ids import MeshId, NodeId

MESH = MeshId(bytes.fromhex("aabbccdd") + bytes(28))
NODE = NodeId(bytes([7] * 32))
TOKEN_KEY = bytes([9] * 32)
OPERATOR_TOKEN = "0123456789abcdef" * 4
HTTP = httpx.Client(trust_env=False, verify=False)  # one for all: loading certificates takes longest
ADMIN = Caller(OPERATOR, "admin", SCOPES["admin"])


@dataclass
class Node:
    url: str
    clock: FakeClock
    devices: MemoryDevices
    authoriser: Authoriser

    def enrol(self, device: FakeDevice, role: str = "clinician") -> FakeDevice:
        code = self.authoriser.issue_code(role, by=ADMIN)
        answer = self.post_device(code, device.jwk)
        assert answer.status_code == 201, answer.text
        device.id = answer.json()["device_id"]
        return device

    def post_device(self, code: str, key: Any, label: str = "Phone of the ward") -> httpx.Response:
        return HTTP.post(f"{self.url}/api/v1/devices", json={"code": code, "label": label, "key": key})

    def claims(self, device: FakeDevice) -> dict[str, Any]:
        return device.claims(self.clock.now // 1000, mesh="aabbccdd")

    def grant(self, assertion: str, **more: str) -> httpx.Response:
        form = {"grant_type": GRANT_TYPE, "assertion": assertion, **more}
        return HTTP.post(f"{self.url}/oauth/token", data=form)

    def token(self, device: FakeDevice, **more: str) -> str:
        answer = self.grant(device.sign(self.claims(device)), **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def get(self, token: str | None, scope: str = "upload") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return HTTP.get(f"{self.url}/needs/{scope}", headers=headers)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[Authoriser]]]:
    """One server for all tests; each test puts its own authoriser behind it."""
    current: list[Authoriser] = []
    current.append(new_authoriser(FakeClock(), MemoryDevices()))

    class Switch:
        def __getattr__(self, name: str) -> Any:
            return getattr(current[0], name)

        def require(self, scope: str) -> Callable[..., Caller]:
            itself: Any = self
            return Authoriser.require(itself, scope)

    switch: Any = Switch()
    app = FastAPI()
    problems.install(app)
    app.include_router(auth.router(switch))
    for scope in ("upload", "status", "enrol", "admin"):

        def needs(caller: Annotated[Caller, Depends(switch.require(scope))]) -> dict[str, Any]:
            return {"device": caller.device_id, "role": caller.role, "scopes": sorted(caller.scopes)}

        app.get(f"/needs/{scope}")(needs)
    with serve(app) as url:
        yield url, current
    HTTP.close()


def new_authoriser(clock: FakeClock, devices: MemoryDevices, **changes: Any) -> Authoriser:
    parts: dict[str, Any] = {
        "devices": devices,
        "clock": clock,
        "mesh": MESH,
        "node": NODE,
        "token_key": TOKEN_KEY,
        "operator_token": OPERATOR_TOKEN,
    }
    return Authoriser(**(parts | changes))


@pytest.fixture
def node(server: tuple[str, list[Authoriser]]) -> Node:
    url, current = server
    clock, devices = FakeClock(), MemoryDevices()
    current[0] = new_authoriser(clock, devices)
    clock.advance(3_600_000)
    return Node(url, clock, devices, current[0])


@pytest.mark.parametrize("kind", ["EC", "OKP"])
def test_a_phone_is_enrolled_once_and_gets_tokens_by_its_key(node: Node, kind: str) -> None:
    """The clinician sees a code once, and never a password."""
    device = node.enrol(FakeDevice(kind))
    answer = node.grant(device.sign(node.claims(device)))

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 900, "status upload")
    assert node.get(body["access_token"]).json() == {
        "device": device.id,
        "role": "clinician",
        "scopes": ["status", "upload"],
    }
    assert node.devices.labels[device.id] == "Phone of the ward"


def test_the_name_of_the_newer_standard_is_taken_too(node: Node) -> None:
    """RFC 9864 calls the algorithm Ed25519; browsers will follow."""
    device = node.enrol(FakeDevice("OKP"))
    device.alg = "Ed25519"

    assert node.token(device)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("clinician", {"upload", "status"}),
        ("lead", {"upload", "status", "enrol"}),
        ("admin", {"upload", "status", "enrol", "admin"}),
    ],
)
def test_a_role_has_its_scopes_and_no_others(node: Node, role: str, allowed: set[str]) -> None:
    """A lost phone of a clinician must not be able to admit nodes."""
    token = node.token(node.enrol(FakeDevice(), role))

    for scope in ("upload", "status", "enrol", "admin"):
        answer = node.get(token, scope)
        assert (answer.status_code == 200) == (scope in allowed)
        if scope not in allowed:
            assert (answer.status_code, answer.json()["code"]) == (403, "scope-missing")
            assert "insufficient_scope" in answer.headers["www-authenticate"]


def test_a_token_may_be_asked_for_with_less(node: Node) -> None:
    """A tool that only looks should not hold what can upload."""
    device = node.enrol(FakeDevice())
    token = node.token(device, scope="status")

    assert node.get(token, "status").status_code == 200
    assert node.get(token, "upload").status_code == 403
    for scope in ("admin", "status admin", "nonsense"):
        answer = node.grant(device.sign(node.claims(device)), scope=scope)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


# Enrolment -----------------------------------------------------------------------------------------


def test_a_code_is_read_as_people_type_it(node: Node) -> None:
    """In lower case, with spaces, with O for 0 and l for 1."""
    code = node.authoriser.issue_code("clinician", by=ADMIN)
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")

    assert node.post_device(typed, FakeDevice().jwk).status_code == 201


def test_a_code_enrols_one_device_only(node: Node) -> None:
    """A photo of the screen is worth nothing afterwards."""
    code = node.authoriser.issue_code("clinician", by=ADMIN)
    assert node.post_device(code, FakeDevice().jwk).status_code == 201

    answer = node.post_device(code, FakeDevice().jwk)
    assert (answer.status_code, answer.json()["code"]) == (403, "code-wrong")
    assert len(node.devices.records) == 1


def test_a_phone_that_lost_the_answer_asks_again(node: Node) -> None:
    """Clinic Wi-Fi drops answers; the person must not need another code."""
    code, device = node.authoriser.issue_code("clinician", by=ADMIN), FakeDevice()
    first, second = node.post_device(code, device.jwk), node.post_device(code, device.jwk)

    assert first.json() == second.json()
    assert len(node.devices.records) == 1


def test_two_phones_at_once_do_not_share_a_code(node: Node) -> None:
    """Both scanned the same screen."""
    code = node.authoriser.issue_code("clinician", by=ADMIN)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(node.post_device(code, FakeDevice().jwk).status_code))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses)[:1] == [201]
    assert len(node.devices.records) == 1


def test_a_code_ends_after_ten_minutes_whatever_the_wall_clock_says(node: Node) -> None:
    """A clock that is set back must not give an old code its life back."""
    code = node.authoriser.issue_code("clinician", by=ADMIN)
    node.clock.advance(601_000)
    node.clock.now -= 3_600_000

    assert node.post_device(code, FakeDevice().jwk).json()["code"] == "code-wrong"


def test_three_wrong_tries_end_a_code(node: Node) -> None:
    """Guessing must not pay."""
    code = node.authoriser.issue_code("clinician", by=ADMIN)
    for letter in "ABC":
        assert node.post_device(code[:-2] + letter * 2, FakeDevice().jwk).status_code == 403
        node.clock.advance(61_000)

    assert node.post_device(code, FakeDevice().jwk).status_code == 403


def test_who_guesses_waits_longer_and_longer(node: Node) -> None:
    """And a person who mistypes waits seconds."""
    good = node.authoriser.issue_code("clinician", by=ADMIN)
    for _ in range(3):
        assert node.post_device("0000-0000-0000", FakeDevice().jwk).status_code == 403

    answer = node.post_device(good, FakeDevice().jwk)
    assert (answer.status_code, answer.json()["code"]) == (429, "too-many-tries")
    node.clock.advance(1_001)
    assert node.post_device("0000-0000-0000", FakeDevice().jwk).status_code == 403
    node.clock.advance(1_001)
    assert node.post_device(good, FakeDevice().jwk).status_code == 429
    node.clock.advance(1_001)
    assert node.post_device(good, FakeDevice().jwk).status_code == 201


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": base64url(bytes(32)), "y": base64url(bytes(31) + b"\1")},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": base64url(bytes(32))},
        {"kty": "OKP", "crv": "Ed25519", "x": base64url(bytes([5] * 32)), "d": base64url(bytes(32))},
    ],
)
def test_a_key_that_cannot_be_used_costs_no_code(node: Node, key: dict[str, Any]) -> None:
    """Symmetric, weak, off the curve, or private: refused before the code is looked at."""
    code = node.authoriser.issue_code("clinician", by=ADMIN)

    answer = node.post_device(code, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-key")
    assert node.post_device(code, FakeDevice().jwk).status_code == 201


def test_only_the_public_numbers_of_a_key_are_kept(node: Node) -> None:
    """What a browser exports beside them is its own business, and would be signed for ever."""
    device = FakeDevice()
    device.jwk |= {"ext": True, "key_ops": ["verify"], "kid": "x", "alg": "ES256"}  # type: ignore[dict-item]
    node.enrol(device)

    assert set(node.devices.records[device.id].key) == {"kty", "crv", "x", "y"}


def test_a_code_survives_a_full_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person makes room and tries again."""

    def full(label: str, key: Any, role: str) -> str:
        raise DiskFull("The disk reserve is reached.")

    code, device = node.authoriser.issue_code("clinician", by=ADMIN), FakeDevice()
    with monkeypatch.context() as patch:
        patch.setattr(node.devices, "enrol", full)
        assert node.post_device(code, device.jwk).status_code == 507

    assert node.post_device(code, device.jwk).status_code == 201


def test_a_lead_enrols_clinicians_and_never_an_admin(node: Node) -> None:
    """Roles only narrow."""
    headers = {"Authorization": f"Bearer {node.token(node.enrol(FakeDevice(), 'lead'))}"}
    url = f"{node.url}/api/v1/admin/device-codes"

    made = HTTP.post(url, json={"role": "clinician"}, headers=headers)
    assert made.status_code == 201
    assert made.json()["expires_in"] == 600
    assert node.post_device(made.json()["code"], FakeDevice().jwk).json()["role"] == "clinician"
    assert HTTP.post(url, json={"role": "admin"}, headers=headers).json()["code"] == "scope-missing"
    assert HTTP.post(url, json={"role": "root"}, headers=headers).status_code == 422
    assert HTTP.post(url, json={"role": "clinician"}).json()["code"] == "token-missing"


# Assertions ----------------------------------------------------------------------------------------

Claims = dict[str, Any]
HMAC_SIGNED = "signed with the public key as a secret"


def _hs256(device: FakeDevice, claims: Claims, secret: bytes) -> str:
    signed = f"{base64url(json.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{base64url(json.dumps(claims))}"
    return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _unsigned(claims: Claims, alg: str = "none") -> str:
    return f"{base64url(json.dumps({'alg': alg}))}.{base64url(json.dumps(claims))}."


def _altered(token: str) -> str:
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return f"{header}.{base64url(json.dumps(claims | {'jti': 'another'}))}.{signature}"


ATTACKS: dict[str, Callable[[FakeDevice, Claims], str]] = {
    "no algorithm": lambda d, c: _unsigned(c),
    "no algorithm, in capitals": lambda d, c: _unsigned(c, "NONE"),
    "no algorithm, but a signature": lambda d, c: d.sign(c, alg="none"),
    "the public key as a secret": lambda d, c: _hs256(d, c, json.dumps(d.jwk).encode()),
    "an empty secret": lambda d, c: _hs256(d, c, b""),
    "another algorithm's name": lambda d, c: d.sign(c, alg="ES384"),
    "an algorithm of another key": lambda d, c: d.sign(c, alg="EdDSA" if d.alg == "ES256" else "ES256"),
    "an algorithm that is a list": lambda d, c: d.sign(c, alg=["ES256"]),
    "no algorithm named": lambda d, c: d.sign(c, alg=None),
    "a key in the header": lambda d, c: d.sign(c, jwk=d.jwk),
    "a key's address in the header": lambda d, c: d.sign(c, jku="https://192.0.2.1/keys"),
    "a certificate's address in the header": lambda d, c: d.sign(c, x5u="https://192.0.2.1/cert"),
    "a certificate in the header": lambda d, c: d.sign(c, x5c=["AA=="]),
    "a key's name in the header": lambda d, c: d.sign(c, kid="../../etc/passwd"),
    "an unknown critical header": lambda d, c: d.sign(c, crit=["wonder"], wonder=1),
    "an empty critical header": lambda d, c: d.sign(c, crit=[]),
    "a critical header that is a number": lambda d, c: d.sign(c, crit=1),
    "an unencoded payload": lambda d, c: d.sign(c, b64=False, crit=["b64"]),
    "compression": lambda d, c: d.sign(c, zip="DEF"),
    "an access token's type": lambda d, c: d.sign(c, typ="at+jwt"),
    "altered claims": lambda d, c: _altered(d.sign(c)),
    "no signature": lambda d, c: d.sign(c).rpartition(".")[0] + ".",
    "half a signature": lambda d, c: d.sign(c)[:-43],
    "another device's signature": lambda d, c: FakeDevice().sign(c),
    "an unknown device": lambda d, c: d.sign(c | {"iss": "f" * 32, "sub": "f" * 32}),
    "the operator": lambda d, c: d.sign(c | {"iss": OPERATOR, "sub": OPERATOR}),
    "another subject": lambda d, c: d.sign(c | {"sub": "f" * 32}),
    "no issuer": lambda d, c: d.sign({k: v for k, v in c.items() if k != "iss"}),
    "an issuer that is a list": lambda d, c: d.sign(c | {"iss": [d.id], "sub": [d.id]}),
    "another mesh": lambda d, c: d.sign(c | {"aud": "clinicmesh:00000000"}),
    "this mesh and another": lambda d, c: d.sign(c | {"aud": [c["aud"], "https://elsewhere"]}),
    "no audience": lambda d, c: d.sign({k: v for k, v in c.items() if k != "aud"}),
    "expired": lambda d, c: d.sign(c | {"iat": c["iat"] - 301, "exp": c["iat"]}),
    "valid for an hour": lambda d, c: d.sign(c | {"exp": c["iat"] + 3600}),
    "valid for an hour, issued later": lambda d, c: d.sign(
        c | {"iat": c["iat"] + 3300, "exp": c["iat"] + 3600}
    ),
    "issued in an hour": lambda d, c: d.sign(c | {"iat": c["iat"] + 3600, "exp": c["iat"] + 3700}),
    "not before an hour": lambda d, c: d.sign(c | {"nbf": c["iat"] + 3600}),
    "no expiry": lambda d, c: d.sign({k: v for k, v in c.items() if k != "exp"}),
    "an expiry that is a text": lambda d, c: d.sign(c | {"exp": str(c["exp"])}),
    "an expiry that is true": lambda d, c: d.sign(c | {"exp": True}),
    "an expiry that is infinite": lambda d, c: d.sign(c | {"exp": float("inf")}),
    "no time of issue": lambda d, c: d.sign({k: v for k, v in c.items() if k != "iat"}),
    "from before the node's start": lambda d, c: d.sign(c | {"iat": c["iat"] - 4000, "exp": c["iat"] - 3700}),
    "no jti": lambda d, c: d.sign({k: v for k, v in c.items() if k != "jti"}),
    "an empty jti": lambda d, c: d.sign(c | {"jti": ""}),
    "a jti that is a number": lambda d, c: d.sign(c | {"jti": 7}),
    "a very long jti": lambda d, c: d.sign(c | {"jti": "x" * 200}),
    "claims that are a list": lambda d, c: d.sign([c]),
    "claims that are nothing": lambda d, c: d.sign(None),
    "claims nested without end": lambda d, c: d.sign(c)[:20] + "." + base64url("[" * 2900) + ".AA",
    "five parts": lambda d, c: d.sign(c) + ".AA.AA",
    "letters beyond ASCII": lambda d, c: "é.è.ê",
    "a very long token": lambda d, c: d.sign(c | {"more": "x" * 5000}),
}


@pytest.mark.parametrize("kind", ["EC", "OKP"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_assertion_is_refused_with(node: Node, attack: str, kind: str) -> None:
    """Each of these has opened somebody's system before."""
    device = node.enrol(FakeDevice(kind))
    answer = node.grant(ATTACKS[attack](device, node.claims(device)))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
    assert node.token(device), "the device itself must still get in"


def test_an_assertion_is_taken_once(node: Node) -> None:
    """Who listened cannot use it again."""
    device = node.enrol(FakeDevice())
    assertion = device.sign(node.claims(device))
    assert node.grant(assertion).status_code == 200

    assert node.grant(assertion).json()["error"] == "invalid_grant"
    node.clock.now -= 200_000
    node.clock.advance(400_000)
    assert node.grant(assertion).json()["error"] == "invalid_grant"


def test_an_assertion_of_before_a_restart_is_not_taken(node: Node, server: Any) -> None:
    """The node has forgotten which it has seen."""
    device = node.enrol(FakeDevice())
    node.clock.advance(5_000)
    assertion = device.sign(node.claims(device))
    assert node.grant(assertion).status_code == 200

    node.clock.advance(1_000)
    server[1][0] = new_authoriser(node.clock, node.devices)
    answer = node.grant(assertion)
    assert answer.json()["error"] == "invalid_grant"
    assert "new assertion" in answer.json()["error_description"]
    assert node.token(device)


def test_a_device_of_the_same_role_cannot_flood_the_memory(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each assertion that was used is remembered for a while."""
    monkeypatch.setattr(auth, "_MAX_JTIS", 3)
    device, other = node.enrol(FakeDevice()), node.enrol(FakeDevice())
    answers = [node.grant(device.sign(node.claims(device))).status_code for _ in range(4)]

    assert answers == [200, 200, 200, 400]
    assert node.token(other)
    node.clock.advance(900_001)
    assert node.token(device)


@pytest.mark.parametrize("offset_s", [-290, -60, 0, 55])
def test_a_phone_whose_time_is_a_little_off_gets_in(node: Node, offset_s: int) -> None:
    """It knows the node's time from /healthz, some seconds late."""
    device = node.enrol(FakeDevice())
    claims = device.claims(node.clock.now // 1000 + offset_s, mesh="aabbccdd")

    assert node.grant(device.sign(claims)).status_code == 200


def test_a_node_whose_clock_is_set_back_years_lets_phones_in(node: Node) -> None:
    """Its time is what /healthz says; the phone follows."""
    device = node.enrol(FakeDevice())
    node.clock.now -= 20 * 365 * 86_400_000

    assert node.get(node.token(device)).status_code == 200


@pytest.mark.parametrize(
    ("content", "media_type", "error"),
    [
        (
            "grant_type=password&username=a&password=b",
            "application/x-www-form-urlencoded",
            "unsupported_grant_type",
        ),
        ("assertion=a", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=&assertion=a", "application/x-www-form-urlencoded", "invalid_request"),
        (f"grant_type={GRANT_TYPE}&assertion=", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type", "application/x-www-form-urlencoded", "invalid_request"),
        (f"grant_type={GRANT_TYPE}", "application/x-www-form-urlencoded", "invalid_request"),
        (
            f"grant_type={GRANT_TYPE}&assertion=a&assertion=b",
            "application/x-www-form-urlencoded",
            "invalid_request",
        ),
        ("", "application/x-www-form-urlencoded", "invalid_request"),
        ("a=%ff", "application/x-www-form-urlencoded", "invalid_request"),
        ("&".join(f"a{n}=b" for n in range(99)), "application/x-www-form-urlencoded", "invalid_request"),
        ("assertion=" + "a" * 20_000, "application/x-www-form-urlencoded", "invalid_request"),
        ('{"grant_type": "x"}', "application/json", "invalid_request"),
        ("--x--", "multipart/form-data; boundary=x", "invalid_request"),
    ],
)
def test_a_malformed_request_for_a_token_is_told_so(
    node: Node, content: str, media_type: str, error: str
) -> None:
    """In the form that OAuth clients know."""
    answer = HTTP.post(f"{node.url}/oauth/token", content=content, headers={"Content-Type": media_type})

    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.headers["cache-control"] == "no-store"


# Access tokens -------------------------------------------------------------------------------------


def test_without_a_token_a_route_says_that_one_is_needed(node: Node) -> None:
    """The app then renews by itself."""
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
        answer = HTTP.get(f"{node.url}/needs/upload", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "token-missing")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert HTTP.get(f"{node.url}/needs/upload?access_token={OPERATOR_TOKEN}").status_code == 401


def test_a_token_ends_after_fifteen_minutes(node: Node) -> None:
    """And says that it is only that."""
    token = node.token(node.enrol(FakeDevice()))
    node.clock.advance(899_000)
    assert node.get(token).status_code == 200

    node.clock.advance(1_000)
    answer = node.get(token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token-expired")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_revoked_device_is_out_at_once(node: Node) -> None:
    """Its token would have lasted for minutes."""
    device = node.enrol(FakeDevice())
    token = node.token(device)
    node.devices.change(device.id, revoked=True)

    assert node.get(token).json()["code"] == "token-invalid"
    assert node.grant(device.sign(node.claims(device))).json()["error"] == "invalid_grant"


def test_a_device_that_lost_its_role_keeps_no_scope_of_it(node: Node) -> None:
    """What the token says is the most, not the least."""
    device = node.enrol(FakeDevice(), "admin")
    token = node.token(device)
    node.devices.change(device.id, role="clinician")

    assert node.get(token, "admin").status_code == 403
    assert node.get(token, "upload").status_code == 200


@pytest.mark.parametrize(
    "what", ["assertion", "none", "hs256", "other node", "other key", "other type", "scope"]
)
def test_a_token_is_refused_that_is(node: Node, what: str) -> None:
    """Only what this node signed, as an access token, opens this node."""
    device = node.enrol(FakeDevice("OKP"))
    now_s = node.clock.now // 1000
    name = f"clinicmesh-node:{NODE.hex()}"
    claims = {
        "iss": name,
        "aud": name,
        "sub": device.id,
        "client_id": device.id,
        "scope": "upload",
        "iat": now_s,
        "exp": now_s + 900,
        "jti": "1",
    }
    other = new_authoriser(node.clock, node.devices, node=NodeId(bytes([8] * 32)))
    stranger = new_authoriser(node.clock, node.devices, token_key=bytes([1] * 32))
    header, _, signature = node.token(device).split(".")
    token = {
        "assertion": device.sign(node.claims(device)),
        "none": _unsigned(claims),
        "hs256": _hs256(device, claims, TOKEN_KEY),
        "other node": other.grant(device.sign(node.claims(device)), None)[0],
        "other key": stranger.grant(device.sign(node.claims(device)), None)[0],
        "other type": device.sign(claims, alg="Ed25519", typ="at+jwt"),
        "scope": f"{header}.{base64url(json.dumps(claims | {'scope': 'admin'}))}.{signature}",
    }[what]

    answer = node.get(token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token-invalid")


def test_the_operators_token_is_an_admins(node: Node) -> None:
    """The command line on this machine needs no device."""
    answer = node.get(OPERATOR_TOKEN, "admin")

    assert answer.json()["device"] == OPERATOR
    for wrong in (OPERATOR_TOKEN[:-1], OPERATOR_TOKEN + "0", OPERATOR_TOKEN.upper(), "é"):
        headers = {"Authorization": b"Bearer " + wrong.encode("latin-1")}
        assert HTTP.get(f"{node.url}/needs/admin", headers=headers).json()["code"] == "token-invalid"


@pytest.mark.parametrize("operator", [None, ""])
def test_without_an_operator_there_is_no_operators_token(
    node: Node, server: Any, operator: str | None
) -> None:
    """Nothing must not match nothing."""
    server[1][0] = new_authoriser(node.clock, node.devices, operator_token=operator)

    assert node.get("None", "admin").status_code == 401
