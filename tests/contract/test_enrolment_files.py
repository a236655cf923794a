"""Joining by files, without a line between the two nodes; and the text that a QR code shows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl import utils
from support.nodes import LocalNode, free_port
from typer.testing import CliRunner

from node import founding
from node.cli.main import app
from node.clock import SystemClock
from node.errors import BadSettings, Refused
from node.mesh import joining
from node.mesh.enrolment import InvitationFile, RequestFile, ResponseFile, link_of, parse_link
from sync import cbor
from sync.errors import BadInvitation
from sync.invitation import Invitation, encode_code

CODE = encode_code(Invitation(bytes(10), bytes(5)))


@pytest.fixture
def inviter(tmp_path: Path) -> Iterator[LocalNode]:
    with LocalNode(tmp_path / "cloud") as node:
        node.init()
        node.start()
        yield node


def invite(inviter: LocalNode, *roles: str) -> bytes:
    return inviter.service._inviter.invite_by_file(roles or ("ingest", "carry"))


def ask(node: LocalNode, invitation: bytes) -> bytes:
    _, _, request = founding.ask_to_join(
        node.home, invitation=invitation, label=node.label, passphrase=None, random=utils.random
    )
    return request


def finish(node: LocalNode, response: bytes) -> None:
    founding.finish_joining(node.home, response=response, clock=SystemClock())
    node.write_settings()


def admit(inviter: LocalNode, request: bytes) -> bytes:
    return inviter.service._inviter.welcome_by_file(request)[1]


def test_a_node_joins_by_three_small_files_and_meets_its_mesh(inviter: LocalNode, tmp_path: Path) -> None:
    """A clinic without any network gets its laptop ready; the stick goes to and fro by motorbike."""
    with LocalNode(tmp_path / "clinic") as clinic:
        invitation = invite(inviter)
        request = ask(clinic, invitation)
        assert not clinic.home.is_member
        response = admit(inviter, request)
        finish(clinic, response)

        assert max(map(len, (invitation, request, response))) < 10_000
        assert not (clinic.folder / "joining.cbor").exists()
        clinic.start([inviter])
        clinic.wait(lambda: clinic.get("/api/v1/status")["peers"][0]["met_s_ago"] is not None, "to meet")
        assert clinic.get("/api/v1/status")["roles"] == ["carry", "ingest"]


def test_an_invitation_file_lets_one_node_in(inviter: LocalNode, tmp_path: Path) -> None:
    """Whoever copies the stick later gets nothing; the same node may ask again when its answer was lost."""
    first, second = LocalNode(tmp_path / "first"), LocalNode(tmp_path / "second")
    invitation = invite(inviter)
    request = ask(first, invitation)
    admit(inviter, request)

    with pytest.raises(Refused) as refused:
        admit(inviter, ask(second, invitation))
    assert refused.value.code == "code-wrong"
    finish(first, admit(inviter, ask(first, invitation)))


def test_an_invitation_file_ends_after_a_day(inviter: LocalNode, tmp_path: Path) -> None:
    """A stick that is found next year opens nothing."""
    request = ask(LocalNode(tmp_path / "late"), invite(inviter))
    clock = inviter.service._inviter._clock
    inviter.service._inviter._clock = _Later(clock)  # type: ignore[assignment]

    with pytest.raises(Refused) as refused:
        admit(inviter, request)
    assert refused.value.code == "code-wrong"


class _Later:
    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock

    def monotonic_ms(self) -> int:
        return self._clock.monotonic_ms() + joining.FILE_LIFE_MS

    def now_ms(self) -> int:
        return self._clock.now_ms()


def test_wrong_codes_typed_by_a_stranger_do_not_end_an_invitation_file(
    inviter: LocalNode, tmp_path: Path
) -> None:
    """Its secret cannot be guessed, so a stranger on the network must not be able to use it up."""
    node = LocalNode(tmp_path / "clinic")
    request = ask(node, invite(inviter))
    for number in range(joining.TRIES):
        said = RequestFile.decode(request)
        guess = cbor.encode({**cbor.decode(said.request), "secret": bytes([number]) * 5})
        with pytest.raises(Refused):
            inviter.service._inviter.welcome(guess)

    finish(node, admit(inviter, request))


def test_who_may_not_invite_gives_out_no_file(inviter: LocalNode, tmp_path: Path) -> None:
    """The same rules as for a code."""
    with LocalNode(tmp_path / "clinic") as clinic:
        inviter.admit(clinic, "clinic")
        clinic.start()
        with pytest.raises(Refused) as refused:
            invite(clinic, "carry")
    assert refused.value.code == "may-not-admit"


def test_a_request_for_another_inviter_is_refused(inviter: LocalNode, tmp_path: Path) -> None:
    """Two sticks mixed up."""
    with LocalNode(tmp_path / "other") as other:
        other.init()
        other.start()
        request = ask(LocalNode(tmp_path / "clinic"), invite(other))
        with pytest.raises(BadInvitation, match="another node"):
            admit(inviter, request)


def test_a_response_is_for_the_node_that_asked(inviter: LocalNode, tmp_path: Path) -> None:
    """Nor does another's response, or one of another mesh, make anybody a member."""
    mine, theirs = LocalNode(tmp_path / "mine"), LocalNode(tmp_path / "theirs")
    ask(mine, invite(inviter))
    response = admit(inviter, ask(theirs, invite(inviter)))
    said = ResponseFile.decode(response)
    asked = ask(mine, invite(inviter))
    own = ResponseFile.decode(admit(inviter, asked))
    swapped = ResponseFile(said.mesh, own.node, said.welcome).encode()

    for wrong in (response, swapped):
        with pytest.raises(BadInvitation):
            finish(mine, wrong)
    assert not mine.home.is_member
    with LocalNode(tmp_path / "evil") as evil:
        evil.init()
        evil.start()
        for_evil = InvitationFile.decode(invite(evil))
        ask(mine, invite(inviter))
        pending = (mine.folder / "joining.cbor").read_bytes()
        forged = admit(evil, ask(mine, for_evil.encode()))
        (mine.folder / "joining.cbor").write_bytes(pending)
        with pytest.raises(BadInvitation):
            finish(mine, forged)


def test_a_response_without_a_request_is_told_apart(inviter: LocalNode, tmp_path: Path) -> None:
    """The person took the wrong data folder."""
    response = admit(inviter, ask(LocalNode(tmp_path / "one"), invite(inviter)))

    with pytest.raises(BadSettings, match="no request"):
        finish(LocalNode(tmp_path / "two"), response)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.7",
        cbor.encode([1]),
        cbor.encode({"clinicmesh": "invitation", "v": 2}),
        cbor.encode({"clinicmesh": "response", "v": 1}),
        cbor.encode({"clinicmesh": ["invitation"], "v": 1}),
        cbor.encode(
            {"clinicmesh": "invitation", "v": 1, "genesis": b"", "inviter": bytes(32), "secret": b""}
        ),
    ],
)
def test_a_file_that_is_none_is_refused_and_nothing_is_kept(tmp_path: Path, data: bytes) -> None:
    """People pick the wrong file; sticks have bad sectors."""
    node = LocalNode(tmp_path / "clinic")

    with pytest.raises(BadInvitation):
        ask(node, data)
    assert not (node.folder / "joining.cbor").exists()


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_file_that_was_cut_is_refused(inviter: LocalNode, tmp_path: Path, cut: int) -> None:
    """The stick was pulled out too early."""
    node = LocalNode(tmp_path / "clinic")
    invitation = invite(inviter)
    with pytest.raises(BadInvitation):
        ask(node, invitation[:-cut])
    request = ask(node, invitation)
    with pytest.raises(BadInvitation):
        admit(inviter, request[:-cut])
    response = admit(inviter, request)
    with pytest.raises(BadInvitation):
        finish(node, response[:-cut])


def test_the_text_of_a_qr_code_is_read_as_it_was_written() -> None:
    """Code and addresses, also an IPv6 one."""
    addresses = ("192.168.1.5:8444", "cloud.example:8444", "[fe80::1]:8444")
    link = link_of(CODE, addresses)

    assert link.startswith(f"clinicmesh:join?code={CODE}&at=192.168.1.5:8444")
    assert parse_link(link) == (CODE, addresses)
    assert parse_link(CODE.lower()) == (CODE.lower(), ())


@pytest.mark.parametrize(
    "text", ["https://join?code=1", "clinicmesh:leave?code=1", "clinicmesh:join?at=a:1", "clinicmesh:join"]
)
def test_a_text_of_another_kind_is_refused(text: str) -> None:
    """A QR code from somewhere else."""
    with pytest.raises(BadInvitation):
        parse_link(text)


def command(node: LocalNode, *words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--data", str(node.folder), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_commands_go_hand_in_hand(inviter: LocalNode, tmp_path: Path) -> None:
    """Four commands, two machines, one stick; both screens show the same fingerprint."""
    stick = tmp_path / "STICK"
    stick.mkdir()
    clinic = LocalNode(tmp_path / "clinic")
    invitation, request, response = (str(stick / f"{name}.cmi") for name in ("a", "b", "c"))

    made = command(inviter, "invite", "--as", "clinic", "--label", "Post 3", "--file", invitation)
    asked = command(clinic, "join", "--from", invitation, "--request", request)
    admitted = command(inviter, "admit", request, "--response", response)
    joined = command(clinic, "join", "--response", response)

    assert made["mesh"] == asked["mesh"] == joined["mesh"]
    assert (admitted["label"], admitted["node"]) == ("Post 3", asked["node"][:8])
    assert sorted(path.name for path in stick.iterdir()) == ["a.cmi", "b.cmi", "c.cmi"]
    assert clinic.home.is_member


def test_a_code_is_shown_to_cameras_and_its_text_is_taken(inviter: LocalNode, tmp_path: Path) -> None:
    """What was read from the other screen is pasted; of its addresses the one that answers is used."""
    shown = CliRunner().invoke(app, ["invite", "--as", "courier", "--data", str(inviter.folder)])
    assert shown.exit_code == 0
    assert "clinicmesh:join?code=" in shown.stdout
    assert any(block in shown.stdout for block in "\u2580\u2584\u2588")
    code = command(inviter, "invite", "--as", "courier")
    assert code["link"].startswith(f"clinicmesh:join?code={code['code']}&at=")
    assert not any("127.0.0.1" in one for one in code["addresses"]) or len(code["addresses"]) == 1
    courier = LocalNode(tmp_path / "courier")
    link = link_of(code["code"], [f"127.0.0.1:{free_port()}", inviter.mesh_address])

    assert command(courier, "join", link)["name"] == "Test"
    assert courier.home.is_member


def test_a_code_alone_finds_the_node_that_made_it(tmp_path: Path) -> None:
    """Nobody at a clinic knows what an address is. Another mesh's node near by is passed over."""
    with (
        LocalNode(tmp_path / "cloud", discovery=True) as cloud,
        LocalNode(tmp_path / "other", discovery=True) as other,
    ):
        for node in (other, cloud):
            node.init()
            node.start()
        roles = {"roles": ["carry"], "label": "courier"}
        code = cloud.ask("POST", "/api/v1/admin/invitations", roles)["code"]
        courier = LocalNode(tmp_path / "courier")

        assert command(courier, "join", code)["mesh"] == cloud.home.membership().genesis.mesh_id.hex()
        courier.write_settings()
        courier.start()
        with courier:
            assert courier.get("/api/v1/status")["peers"] == []  # what was found is found again


def test_a_code_whose_node_is_not_near_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a code with a slip is told before anybody is looked for."""
    monkeypatch.setattr("node.cli.mesh._SEARCH_S", 0.5)

    for code, expected in (
        (CODE, "peer-unreachable"),
        (CODE[:-1] + "Z", "bad-invitation"),
        ("", "bad-invitation"),
    ):
        result = CliRunner().invoke(app, ["join", code, "--data", str(tmp_path / "x"), "--json"])
        assert result.exit_code == 1
        assert json.loads(result.stdout)["error"]["code"] == expected
