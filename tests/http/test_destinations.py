"""Destinations by the API and commands: what is refused, what is sealed to whom, and where studies go."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.nodes import LocalNode
from support.servers import serve
from support.slices import made_slice
from typer.testing import CliRunner

from node.cli.main import app
from node.deliver.credentials import open_credentials
from node.sandbox_pacs import sandbox_app

URL = "http://127.0.0.1:9/dicom-web"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNode(tmp_path_factory.mktemp("destinations") / "cloud") as node:
        node.init()
        node.start()
        yield node


@pytest.fixture
def api(cloud: LocalNode) -> Iterator[httpx.Client]:
    with cloud.api() as client:
        yield client
        for one in client.get("/api/v1/destinations").json()["destinations"]:
            client.delete(f"/api/v1/destinations/{one['name']}")


def add(api: httpx.Client, **more: Any) -> tuple[int, str]:
    answer = api.post("/api/v1/destinations", json={"name": "one", "url": URL, **more})
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"url": "http://169.254.169.254/dicom-web"}, "address-not-allowed"),
        ({"url": "http://[::ffff:169.254.169.254]/"}, "address-not-allowed"),
        ({"url": "https://[fe80::1]/dicom-web"}, "address-not-allowed"),
        ({"url": "http://8.8.8.8/dicom-web"}, "address-not-allowed"),
        ({"url": "http://0.0.0.0/dicom-web"}, "address-not-allowed"),
        ({"url": "https://pacs.example/dicom-web?token=1"}, "address-not-allowed"),
        ({"url": "dicom://A@224.0.0.1:104", "type": "dimse"}, "address-not-allowed"),
        ({"url": "dicom://A@127.0.0.1", "type": "dimse"}, "address-not-allowed"),
        ({"url": "http://127.0.0.1/", "type": "dimse"}, "address-not-allowed"),
        ({"token_url": "http://login.example/token", "client_id": "x"}, "address-not-allowed"),
        ({"token_url": "https://127.0.0.1/token"}, "bad-credentials"),
        ({"certificate": "none", "key": "none"}, "bad-credentials"),
        ({"ca": "none"}, "bad-credentials"),
        ({"evidence": "answered"}, "evidence-not-offered"),
        ({"evidence": "committed", "type": "orthanc"}, "evidence-not-offered"),
        ({"origins": ["nobody"]}, "node-unknown"),
        ({"type": "ftp"}, "bad-request"),
    ],
)
def test_what_cannot_be_meant_is_refused(api: httpx.Client, given: dict[str, Any], code: str) -> None:
    """A slip must not send images, or a secret, to where a machine keeps its own, or in the clear."""
    status, told = add(api, **given)

    assert told == code
    assert 400 <= status < 500
    assert api.get("/api/v1/destinations").json() == {"destinations": []}


def test_each_kind_is_told_listed_changed_and_taken_away(api: httpx.Client, cloud: LocalNode) -> None:
    assert add(api, modalities=["ct"], origins=[cloud.label])[0] == 201
    assert add(api, name="two", type="orthanc", evidence="checksum")[0] == 201
    assert add(api, name="three", type="dimse", url="dicom://A@127.0.0.1:104", evidence="committed")[0] == 201

    listed = api.get("/api/v1/destinations").json()["destinations"]
    assert [(one["name"], one["type"], one["evidence"]) for one in listed] == [
        ("one", "dicomweb", "read-back"),
        ("three", "dimse", "committed"),
        ("two", "orthanc", "checksum"),
    ]
    assert listed[0]["modalities"] == ["CT"]
    assert len(listed[0]["origins"]) == 1

    assert add(api)[0] == 201
    assert api.get("/api/v1/destinations").json()["destinations"][0]["modalities"] == []
    assert api.delete("/api/v1/destinations/one").status_code == 200
    assert api.delete("/api/v1/destinations/one").status_code == 404


def test_what_was_learnt_stays_while_the_address_does(api: httpx.Client, cloud: LocalNode) -> None:
    """`pacs add` to change a password must not forget what `pacs test --write` found out."""
    from node import destinations

    add(api)
    node = cloud.service._node
    assert destinations.learn(node, "one", {"largest": 1_000_000})
    assert not destinations.learn(node, "one", {"largest": 1_000_000})

    add(api, user="x", password="y")
    assert destinations.known(node, "one").body.quirks == {"largest": 1_000_000}
    add(api, url="http://127.0.0.1:10/")
    assert destinations.known(node, "one").body.quirks == {}


def test_credentials_reach_a_forwarder_that_joins_later(api: httpx.Client, cloud: LocalNode) -> None:
    """Nobody has to remember to repeat `pacs add`."""
    add(api, user="relay", password="hunter2", headers={"X-Site": "north"})

    with LocalNode(cloud.folder.parent / "newcomer") as newcomer:
        cloud.admit(newcomer, "cloud")
        newcomer.start([cloud])

        def sealed() -> bool:
            (one,) = cloud.get("/api/v1/destinations")["destinations"]
            assert one["credentials"]
            return one["forwarders_without"] == 0 and len(cloud.get("/api/v1/status")["members"]) == 2

        cloud.wait(sealed, "to seal the credentials to the newcomer")

        def opened() -> bool:
            node = newcomer.service._node
            bodies = node.facts.ask(lambda ledger: ledger.destinations())
            if "one" not in bodies or len(bodies["one"].secrets) < 2:
                return False
            said = open_credentials(bodies["one"], node.keystore.seal_secret)
            return (said.user, said.password, said.headers) == ("relay", "hunter2", {"X-Site": "north"})

        newcomer.wait(opened, "to hear of them, and to open them")


def test_studies_go_where_rules_send_them(api: httpx.Client, cloud: LocalNode, tmp_path: Path) -> None:
    """A study goes to one PACS by its modality, one by a person's choice, and one waits for a person."""
    with serve(sandbox_app(tmp_path / "a")) as first, serve(sandbox_app(tmp_path / "b")) as second:
        add(api, name="ct", url=f"{first}/dicom-web", modalities=["CT"])
        add(api, name="us", url=f"{second}/dicom-web", modalities=["US"])
        (by_rule,) = cloud.submit({"a": made_slice(70_001, 1)})
        (by_person,) = cloud.submit({"a": made_slice(70_002, 1)}, destination="us")
        other = made_slice(70_003, 1).replace(b"CS\x02\x00CT", b"CS\x02\x00MR")
        (by_nobody,) = cloud.submit({"a": other})

        cloud.wait(lambda: cloud.states([by_rule, by_person]) == {"delivered"}, "to deliver")
        cloud.wait(lambda: cloud.troubles() == [(by_nobody, "destination-open", 0)], "to ask a person")

        def studies(url: str) -> set[str]:
            answer = httpx.get(f"{url}/dicom-web/studies", trust_env=False).json()
            return {one["0020000D"]["Value"][0] for one in answer}

        assert studies(first) == {"2.25.70001"}
        assert studies(second) == {"2.25.70002"}

        decision = {
            "entry_id": by_nobody,
            "decision": "destination",
            "person": "Amina",
            "destination": "us",
        }
        assert api.post("/api/v1/admin/decisions", json=decision).status_code == 201
        cloud.wait(lambda: cloud.states([by_nobody]) == {"delivered"}, "to deliver what a person decided")
        assert studies(second) == {"2.25.70002", "2.25.70003"}


def command(cloud: LocalNode, *words: str, typed: str = "") -> tuple[int, Any]:
    result = CliRunner().invoke(app, [*words, "--data", str(cloud.folder), "--json"], input=typed)
    return result.exit_code, json.loads(result.stdout)


def test_the_commands_say_it_all(api: httpx.Client, cloud: LocalNode) -> None:
    code, _ = command(
        cloud,
        "pacs",
        "add",
        "archive",
        "dicom://ARCHIVE@127.0.0.1:104",
        "--evidence",
        "listed",
        "--modality",
        "CT",
    )
    assert code == 0
    _, listed = command(cloud, "pacs", "list")
    assert [(one["name"], one["type"]) for one in listed["destinations"]] == [("archive", "dimse")]

    code, said = command(cloud, "pacs", "add", "web", URL, "--header", "nonsense")
    assert (code, said["error"]["code"]) == (1, "bad-request")
    code, _ = command(
        cloud, "pacs", "add", "web", URL, "--token-url", f"{URL}/token", "--client-id", "me", typed="secret\n"
    )
    assert code == 0
    assert command(cloud, "pacs", "remove", "archive", "--yes")[0] == 0
    assert command(cloud, "pacs", "remove", "archive", "--yes")[0] == 1

    shown = CliRunner().invoke(app, ["pacs", "list", "--data", str(cloud.folder)]).stdout
    assert "for all that deliver" in shown
    assert "secret" not in shown


def test_the_doctor_looks_asks_before_it_writes_and_tells_what_it_learnt(
    api: httpx.Client, cloud: LocalNode, tmp_path: Path
) -> None:
    with serve(sandbox_app(tmp_path)) as url:
        add(api, url=f"{url}/dicom-web")
        code, said = command(cloud, "pacs", "test", "one")
        assert (code, said["sound"], said["strongest"]) == (0, True, "read-back")
        assert {one["state"] for one in said["findings"]} == {"ok"}

        refused = CliRunner().invoke(
            app, ["pacs", "test", "one", "--write", "--data", str(cloud.folder)], input="n\n"
        )
        assert refused.exit_code == 1
        assert httpx.get(f"{url}/dicom-web/studies", trust_env=False).json() == []

        code, said = command(cloud, "pacs", "test", "one", "--write", "--yes")
        assert (code, said["learnt"], said["told"]) == (0, {}, False)
        assert {one["check"] for one in said["findings"]} >= {"codings", "duplicates", "largest", "removed"}
        shown = CliRunner().invoke(app, ["pacs", "test", "one", "--data", str(cloud.folder)])
        assert "can be reached and asked" in shown.stdout

    code, said = command(cloud, "pacs", "test", "one")
    assert (code, said["sound"]) == (1, False)
    assert command(cloud, "pacs", "test", "nothing")[1]["error"]["code"] == "not-found"
