"""The people's API of a whole node: what needs a token, how errors look, and what each route promises."""

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.devices import GRANT_TYPE, FakeDevice
from support.nodes import HandIn, LocalNode
from support.routes import walk
from support.slices import made_slice

OPEN = {  # docs/architecture.md §3, marked with a ring there
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),  # on this machine's own port only
    ("POST", "/api/v1/devices"),
    ("POST", "/oauth/token"),
    ("OPTIONS", "/api/v1/uploads"),  # tus 1.0: what the server can do, asked before anything else
    ("OPTIONS", "/api/v1/uploads/{upload_id}"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("GET", "/"),  # the app, or that it was not built
    ("GET", "/{name:path}"),
}
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """The node that founded the mesh: it may do everything."""
    with LocalNode(tmp_path_factory.mktemp("people") / "cloud") as node:
        node.init()
        node.start()
        yield node


@pytest.fixture(scope="module")
def clinic(cloud: LocalNode) -> Iterator[LocalNode]:
    """A clinic's node: it takes studies in and enrols devices, no more."""
    with LocalNode(cloud.folder.parent / "clinic") as node:
        cloud.admit(node, "clinic")
        node.start()
        yield node


@pytest.fixture
def api(cloud: LocalNode) -> Iterator[httpx.Client]:
    """The operator's client."""
    with cloud.api() as client:
        yield client


_NAMES = ("submission_id", "upload_id", "entry_id", "address", "node_id", "device_id", "name", "number")


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error, which is a problem as RFC 9457 says, in words for people."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    said = answer.json()
    assert said["status"] == answer.status_code
    assert said["title"]
    assert said["detail"].endswith(".")
    return answer.status_code, said["code"]


def test_every_route_but_the_listed_ones_wants_a_token(cloud: LocalNode, api: httpx.Client) -> None:
    """A route that somebody adds without thinking of it is found here."""
    routes = set(walk(cloud.service.people_app().routes))
    closed = routes - OPEN
    assert {path for _, path in closed} > {"/api/v1/studies", "/api/v1/admin/salvage", "/api/v1/uploads"}

    for method, path in sorted(closed):
        url = path
        for name in _NAMES:
            url = url.replace("{" + name + "}", "0" * 32)
        assert "{" not in url, "give this test a value for it"
        bare = api.request(method, url, headers={"Authorization": ""})
        wrong = api.request(method, url, headers={"Authorization": f"Bearer {'0' * 64}"})
        if method == "HEAD":  # has no body
            assert (bare.status_code, wrong.status_code) == (401, 401), path
            continue
        assert problem(bare) == (401, "token-missing"), path
        assert bare.headers["www-authenticate"] == "Bearer"
        assert problem(wrong) == (401, "token-invalid"), path


def test_what_is_open_tells_nothing_of_anybody(cloud: LocalNode, api: httpx.Client) -> None:
    """Whoever is on the network may ask whether the node lives, and nothing else."""
    health = api.get("/healthz", headers={"Authorization": ""})

    assert set(health.json()) == {"status", "time", "node", "mesh", "version", "url"}
    assert api.get("/readyz", headers={"Authorization": ""}).json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", f"/api/v1/studies/{'0' * 64}", None, (404, "study-unknown")),
        ("GET", "/api/v1/studies/nonsense", None, (404, "study-unknown")),
        ("GET", "/api/v1/nothing", None, (404, "not-found")),
        ("GET", "/oauth/nothing", None, (404, "not-found")),
        ("PUT", "/api/v1/studies", None, (405, "method-not-allowed")),
        ("GET", f"/api/v1/submissions/{'0' * 32}", None, (404, "submission-unknown")),
        ("GET", "/api/v1/submissions/1", None, (422, "bad-request")),
        ("POST", "/api/v1/submissions", {"kind": "zip"}, (422, "bad-request")),
        ("POST", "/api/v1/submissions", {"client_id": "Doe^Jane", "kind": "zip"}, (422, "bad-request")),
        ("POST", "/api/v1/destinations", {"name": "a b", "url": "http://x/"}, (422, "bad-request")),
        ("POST", "/api/v1/destinations", {"name": "a", "url": "http://u:p@x/"}, (422, "bad-request")),
        ("POST", "/api/v1/admin/invitations", {"roles": []}, (422, "bad-request")),
        ("POST", "/api/v1/admin/invitations", {"roles": ["root"]}, (422, "bad-request")),
        ("POST", "/api/v1/admin/peers", {"address": "http://x"}, (422, "bad-request")),
        ("DELETE", "/api/v1/admin/peers/10.0.0.1:1", None, (404, "not-found")),
        ("POST", "/api/v1/admin/salvage", {"folder": "/no/such/folder"}, (400, "no-such-folder")),
        (
            "POST",
            "/api/v1/admin/decisions",
            {"entry_id": "0" * 64, "decision": "retry", "person": "Dr Test"},
            (404, "study-unknown"),
        ),
        ("POST", "/api/v1/devices", {"code": "0", "label": "x", "key": {}}, (422, "bad-request")),
    ],
)
def test_an_error_is_a_problem_with_a_stable_code(
    api: httpx.Client, method: str, path: str, body: Any, expected: tuple[int, str]
) -> None:
    """Programs read the code, people the sentence; neither hears what was sent."""
    answer = api.request(method, path, json=body)

    if expected == (422, "bad-request") and path == "/api/v1/devices":
        assert problem(answer)[0] in (400, 403, 422)  # which of its faults is told is not promised
    else:
        assert problem(answer) == expected
    assert "Doe" not in answer.text
    assert "u:p" not in answer.text


def test_a_body_that_is_too_large_is_broken_off(api: httpx.Client) -> None:
    """JSON is read whole, so it must be small."""
    body = b'{"client_id": "' + b"x" * 1_100_000 + b'"}'

    answer = api.post("/api/v1/submissions", content=body, headers={"Content-Type": "application/json"})

    assert problem(answer) == (413, "too-large")


def test_the_contract_is_there_to_be_read(cloud: LocalNode, api: httpx.Client) -> None:
    """Tools are made from it; it names every route that has a contract."""
    contract = api.get("/openapi.json", headers={"Authorization": ""}).json()

    told = {(m.upper(), path) for path, methods in contract["paths"].items() for m in methods}
    routes = set(walk(cloud.service.people_app().routes))
    assert contract["openapi"].startswith("3.")
    override = ("POST", "/api/v1/uploads/{upload_id}")  # X-HTTP-Method-Override, as tus allows
    assert {path for _, path in routes - told - {override}} <= {
        *("/openapi.json", "/", "/{name:path}", "/metrics")
    }
    assert told <= routes
    assert all("summary" in one for methods in contract["paths"].values() for one in methods.values())


def test_credentials_of_a_pacs_are_told_to_nobody(cloud: LocalNode, api: httpx.Client) -> None:
    """They are sealed to those who deliver; not even the disk of their own node holds them in the clear."""
    body = {"name": "guarded", "url": "http://127.0.0.1:9/dicom-web", "user": "mesh", "password": PASSWORD}
    assert api.post("/api/v1/destinations", json=body).status_code == 201

    listed = api.get("/api/v1/destinations").text

    assert "guarded" in listed
    assert PASSWORD not in listed
    assert [path.name for path in cloud.files() if PASSWORD.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/destinations", {"name": "main", "url": "http://127.0.0.1:9/"}),
        ("/api/v1/admin/invitations", {"roles": ["carry"]}),
    ],
)
def test_a_node_that_may_not_says_so(clinic: LocalNode, path: str, body: Any) -> None:
    """Its facts would have no effect; to answer "done" would be a lie."""
    with clinic.api() as client:
        assert problem(client.post(path, json=body)) == (403, "may-not-admit")


def test_nobody_gives_roles_that_he_lacks_and_a_code_is_told_once(api: httpx.Client) -> None:
    """Two invitations are two secrets."""
    made = [api.post("/api/v1/admin/invitations", json={"roles": ["carry"]}).json() for _ in range(2)]

    assert made[0]["code"] != made[1]["code"]
    assert made[0]["expires_in"] == 600


def test_peers_are_remembered_and_forgotten(cloud: LocalNode, api: httpx.Client) -> None:
    """An address that was typed wrongly can be taken away."""
    address = "127.0.0.1:9"

    assert api.post("/api/v1/admin/peers", json={"address": address}).status_code == 201
    assert [one["address"] for one in api.get("/api/v1/status").json()["peers"]] == [address]
    assert api.delete(f"/api/v1/admin/peers/{address}").status_code == 204
    assert api.get("/api/v1/status").json()["peers"] == []


def test_a_study_is_told_without_the_patient_and_as_it_happens(clinic: LocalNode) -> None:
    """The list hangs on a screen in a corridor; it moves when something happens."""
    with clinic.api() as client, client.stream("GET", "/api/v1/events") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith(":")
        (entry,) = HandIn(clinic, {"IM1": made_slice(5, 1)}, impression="fracture").until_kept()
        events = []
        for line in lines:
            events.append(line)
            if line == f"data: {json.dumps({'id': entry})}":
                break
    told = clinic.get(f"/api/v1/studies/{entry}")

    assert "event: submissions" in events
    assert "event: studies" in events
    assert told["state"] == "waiting"
    assert told["origin"] == "clinic"
    text = json.dumps([told, clinic.get("/api/v1/studies"), clinic.get("/api/v1/status")])
    assert not any(word in text for word in ("Doe", "2.25.5", "P5", "fracture"))


def test_the_submission_forgets_the_patient_once_it_is_kept(clinic: LocalNode) -> None:
    """What was shown for the confirmation is gone; what is on its way is named by entries alone."""
    hand = HandIn(clinic, {"IM1": made_slice(6, 1)})
    (entry,) = hand.until_kept()
    with clinic.api() as client:
        again = client.post("/api/v1/submissions", json={"client_id": hand.client_id, "kind": "zip"}).json()
        view = client.get(f"/api/v1/submissions/{again['id']}").json()

    assert view["state"] == "kept"
    assert view["examination"] is None
    assert view["entries"] == [entry]


def test_a_study_that_is_handed_in_twice_is_recognised(clinic: LocalNode) -> None:
    """The person should hear that it is on its way already, and that one image is no longer the same."""
    files = {f"{n}": made_slice(71, n) for n in (1, 2, 3)}
    clinic.submit(files)
    again = HandIn(clinic, {**files, "3": made_slice(71, 3, octets=999), "4": made_slice(71, 4)})
    (study,) = again.examined()["examination"]["studies"]

    assert (study["instances"], study["known"], study["changed"]) == (4, 2, 1)


def test_phones_reach_the_same_by_https_with_the_mesh_s_own_root(cloud: LocalNode) -> None:
    """The certificate chains to the root that a phone installs once."""
    root = cloud.home.membership().genesis.web_root
    context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(root))
    with httpx.Client(verify=context, trust_env=False) as phone:
        answer = phone.get(f"https://127.0.0.1:{cloud.people_port}/healthz")

    assert answer.json()["status"] == "ok"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_revoked_phone_logs_in_no_more_and_uses_no_token_that_it_has(
    cloud: LocalNode, api: httpx.Client
) -> None:
    """A phone that is lost on Monday must not read the list on Tuesday, whatever it still holds."""
    phone = FakeDevice()
    code = api.post("/api/v1/admin/device-codes", json={"role": "clinician"}).json()["code"]
    enrolled = api.post("/api/v1/devices", json={"code": code, "label": "Nurse's phone", "key": phone.jwk})
    phone.id = enrolled.json()["device_id"]
    health = api.get("/healthz").json()

    def log_in() -> httpx.Response:
        assertion = phone.sign(phone.claims(int(health["time"]), mesh=health["mesh"]))
        return api.post("/oauth/token", data={"grant_type": GRANT_TYPE, "assertion": assertion})

    bearer = {"Authorization": f"Bearer {log_in().json()['access_token']}"}
    listed = [one["device_id"] for one in api.get("/api/v1/admin/devices").json()["devices"]]
    assert phone.id in listed
    assert api.get("/api/v1/studies", headers=bearer).status_code == 200
    assert problem(api.delete(f"/api/v1/admin/devices/{phone.id}", headers=bearer)) == (403, "scope-missing")

    ended = api.delete(f"/api/v1/admin/devices/{phone.id}")

    assert ended.json()["label"] == "Nurse's phone"
    assert problem(api.get("/api/v1/studies", headers=bearer)) == (401, "token-invalid")
    assert log_in().json()["error"] == "invalid_grant"
    assert phone.id not in [one["device_id"] for one in api.get("/api/v1/admin/devices").json()["devices"]]
    assert problem(api.delete(f"/api/v1/admin/devices/{phone.id}")) == (404, "device-unknown")


def test_a_node_that_may_not_enrol_ends_no_device_in_the_mesh(cloud: LocalNode, clinic: LocalNode) -> None:
    """A courier's operator must not lock a whole district's phones out: his fact would not count anyway."""
    with LocalNode(cloud.folder.parent / "courier") as courier:
        cloud.admit(courier, "courier")
        courier.start([cloud])
        with cloud.api() as client:
            code = client.post("/api/v1/admin/device-codes", json={"role": "lead"}).json()["code"]
            body = {"code": code, "label": "Lead's PC", "key": FakeDevice("OKP").jwk}
            device = client.post("/api/v1/devices", json=body).json()["device_id"]
        courier.wait(
            lambda: any(d["device_id"] == device for d in courier.get("/api/v1/admin/devices")["devices"]),
            "to hear of the device",
        )

        with courier.api() as client:
            assert problem(client.delete(f"/api/v1/admin/devices/{device}")) == (403, "may-not-enrol")
