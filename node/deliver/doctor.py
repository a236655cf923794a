"""The destination doctor: what a PACS answers, and what that means, before a study depends on it.

Called by the API. Reads only: no study is opened, and what is asked for is a study that nobody has. What
writing finds out is in `node.deliver.doctor_write`. Findings are sentences for people, with advice; none
holds an address, a credential, or what a PACS said.
"""

import email.utils
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from node.deliver.access import HttpAuth, http_client
from node.deliver.association import COMMIT, FIND, GET, Line, gives_back, offers, release
from node.deliver.build import access_of, tls_of
from node.deliver.credentials import Credentials
from node.deliver.places import DICOMWEB, DIMSE, ORTHANC, Address, check_place
from node.errors import BadSettings, DestinationBusy, DestinationLocked, DestinationUnreachable
from sync.evidence import Evidence

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"

_NOBODYS_STUDY = "2.25.1"
_NOBODYS = {"StudyInstanceUID": _NOBODYS_STUDY, "limit": "1"}  # no patient's data are asked for
_SKEW_S = 120
_SOON_S = 30 * 86_400
# Where DICOMweb services of known archives usually answer.
_ROOTS = (
    *("/dicom-web", "/dicomweb", "/dicomWeb", "/orthanc/dicom-web", "/rs", "/wado-rs", "/v2", "/v1"),
    "/dcm4chee-arc/aets/DCM4CHEE/rs",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    check: str
    state: str
    detail: str
    advice: str = ""


@dataclass(slots=True)
class Examination:
    """What was found out, in the order of looking; `learnt` is what deliveries should know."""

    findings: list[Finding] = field(default_factory=list)
    learnt: dict[str, Any] = field(default_factory=dict)
    strongest: Evidence | None = None

    def add(self, check: str, state: str, detail: str, advice: str = "") -> bool:
        """Note a finding; say whether one may go on from there."""
        self.findings.append(Finding(check, state, detail, advice))
        return state != FAILED

    @property
    def sound(self) -> bool:
        """Say whether nothing failed."""
        return all(one.state != FAILED for one in self.findings)


def examine(
    kind: str,
    url: str,
    credentials: Credentials,
    quirks: Mapping[str, Any],
    demanded: Evidence,
    *,
    now_ms: int,
    idle_s: float = 20,
) -> Examination:
    """Look at a destination without changing anything there."""
    found = Examination()
    if not _reach(found, kind, url):
        return found
    try:
        tls = tls_of(url, credentials, quirks)
    except BadSettings as error:
        found.add("tls", FAILED, _sentence(error), "Give certificates and key again with `pacs add`.")
        return found
    if tls is not None and not _handshake(found, url, tls, now_ms):
        return found
    if kind == DIMSE:
        _look_at_dimse(found, url, quirks, tls, idle_s)
    else:
        _look_at_http(found, kind, url, credentials, quirks, tls, now_ms=now_ms, idle_s=idle_s)
    if found.sound and found.strongest is not None:
        _compare_with_demand(found, demanded)
    return found


def _reach(found: Examination, kind: str, url: str) -> bool:
    try:
        check_place(kind, url, resolve=True)
    except BadSettings as error:
        return found.add("address", FAILED, _sentence(error), "Correct the address with `pacs add`.")
    host, port = _host_port(kind, url)
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)}
    except (OSError, UnicodeError):
        return found.add(
            "address",
            FAILED,
            "The name of the PACS is not known here.",
            "Check the name. Is this machine in the hospital's network, or its VPN?",
        )
    found.add("address", OK, f"The name stands for {len(addresses)} address(es).")
    started = time.monotonic()
    try:
        socket.create_connection((host, port), timeout=10).close()
    except TimeoutError:
        advice = "A firewall may be in between. Is this machine in the hospital's network, or its VPN?"
        return found.add("reach", FAILED, "Nothing answers at the address.", advice)
    except OSError:
        advice = "Does the PACS run, and is the port right?"
        return found.add("reach", FAILED, "The connection is refused.", advice)
    ms = int((time.monotonic() - started) * 1000)
    return found.add("reach", OK, f"The PACS's machine answers within {ms} ms.")


_TLS_ADVICE = (
    ("self-signed", "The PACS shows a certificate that no known authority signed.", "--ca"),
    ("self signed", "The PACS shows a certificate that no known authority signed.", "--ca"),
    ("unable to get", "The PACS's certificate is signed by an authority that is not known here.", "--ca"),
    ("expired", "The PACS's certificate has expired, or this machine's clock is wrong.", ""),
    ("not yet valid", "The PACS's certificate is not valid yet, or this machine's clock is wrong.", ""),
    ("mismatch", "The PACS's certificate is for another name.", "name"),
)
_TLS_HELP = {
    "--ca": "Ask the hospital for the certificate of its authority: `pacs add … --ca FILE`.",
    "name": "Use the name that the certificate is for.",
    "": "Check the clock here; else the hospital must renew its certificate.",
}


def _handshake(found: Examination, url: str, tls: ssl.SSLContext, now_ms: int) -> bool:
    host, port = _host_port(DIMSE if url.startswith("dicom") else DICOMWEB, url)
    try:
        with (
            socket.create_connection((host, port), timeout=10) as line,
            tls.wrap_socket(line, server_hostname=host) as secured,
        ):
            shown, version = secured.getpeercert() or {}, secured.version() or "TLS"
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message.lower()
        for word, detail, which in _TLS_ADVICE:
            if word in why:
                return found.add("tls", FAILED, detail, _TLS_HELP[which])
        return found.add("tls", FAILED, "The PACS's certificate is not trusted here.", _TLS_HELP["--ca"])
    except (OSError, ValueError):
        detail = "What answers does not speak TLS, or wants a certificate of ours."
        return found.add("tls", FAILED, detail, "Check the port; or give `--certificate` and `--key`.")
    ends = ssl.cert_time_to_seconds(str(shown.get("notAfter", "Jan 1 00:00:00 2100 GMT")))
    days = int((ends - now_ms / 1000) // 86_400)
    if ends - now_ms / 1000 < _SOON_S:
        detail = f"The PACS's certificate ends in {days} days."
        return found.add("tls", WARNING, detail, "Tell the hospital; deliveries stop on that day.")
    return found.add("tls", OK, f"{version}; the certificate is good for {days} days.")


# -- HTTP -------------------------------------------------------------------------------------------


def _look_at_http(
    found: Examination,
    kind: str,
    url: str,
    credentials: Credentials,
    quirks: Mapping[str, Any],
    tls: ssl.SSLContext | None,
    *,
    now_ms: int,
    idle_s: float,
) -> None:
    try:
        access = access_of(credentials, quirks)
    except BadSettings as error:
        found.add("credentials", FAILED, _sentence(error), "Correct it with `pacs add`.")
        return
    try:
        with http_client(access, idle_s=idle_s, tls=tls) as client:
            if not _token(found, client, access, credentials):
                return
            if kind == ORTHANC:
                _look_at_orthanc(found, client, url, now_ms)
            else:
                _look_at_dicomweb(found, client, url, now_ms)
    finally:
        access.close()


def _token(found: Examination, client: httpx.Client, access: Any, credentials: Credentials) -> bool:
    if not credentials.token_url:
        return True
    assert isinstance(client.auth, HttpAuth)
    try:
        access.as_headers()
    except DestinationLocked:
        advice = "Check client id, secret and scope; give them again with `pacs add`."
        return found.add("token", FAILED, "The token service refuses us.", advice)
    except (DestinationUnreachable, DestinationBusy):
        advice = "Check its address; without it nothing can be delivered."
        return found.add("token", FAILED, "The token service does not answer.", advice)
    return found.add("token", OK, "The token service gives tokens.")


def _look_at_dicomweb(found: Examination, client: httpx.Client, url: str, now_ms: int) -> None:
    answer = _get(found, client, f"{url}/studies", now_ms, params=_NOBODYS)
    if answer is None:
        return
    searched = answer.status_code in (200, 204) and _is_list(answer)
    root = "" if searched else _other_root(client, url)
    if root or answer.status_code in (404, 405, 410, 501) or _is_page(answer):
        advice = f"`pacs add` with the path {root}." if root else "Ask for the path of its DICOMweb service."
        detail = "No DICOMweb service answers at this path."
        found.add("root", FAILED, detail + (" One answers at another." if root else ""), advice)
        return
    found.add("root", OK, "A DICOMweb service answers at this path.")
    if not searched:
        advice = "Ask the hospital to allow searching (QIDO-RS); without it nothing can be proven."
        found.add("qido", FAILED, f"Searching is answered with {answer.status_code}.", advice)
        return
    found.add("qido", OK, "Studies can be searched for (QIDO-RS).")
    read = _get(
        found,
        client,
        f"{url}/studies/{_NOBODYS_STUDY}",
        now_ms,
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
    )
    if read is None:
        return
    if read.status_code in (404, 410, 204) or (read.status_code == 200 and not _is_page(read)):
        found.add("wado", OK, "Images can be asked for (WADO-RS); of a study that nobody has, none came.")
        found.strongest = Evidence.READ_BACK
        return
    found.strongest = Evidence.METADATA
    advice = "Ask the hospital to allow reading (WADO-RS), or demand less: `--evidence metadata`."
    found.add("wado", WARNING, f"Asking for images is answered with {read.status_code}.", advice)


def _look_at_orthanc(found: Examination, client: httpx.Client, url: str, now_ms: int) -> None:
    answer = _get(found, client, f"{url}/system", now_ms)
    if answer is None:
        return
    said = _json(answer)
    if answer.status_code != 200 or not isinstance(said, dict) or "DicomAet" not in said:
        advice = "Check the path: it is the one of Orthanc itself, without `/dicom-web`."
        found.add("root", FAILED, "No Orthanc answers at this path.", advice)
        return
    found.add("root", OK, "An Orthanc answers.")
    if said.get("OverwriteInstances"):
        advice = "Set `OverwriteInstances` to false there, so that nothing is replaced unseen."
        found.add("duplicates", WARNING, "It replaces images of the same identifier.", advice)
    asked = _get(found, client, f"{url}/tools/lookup", now_ms, method="POST", content=_NOBODYS_STUDY)
    if asked is None:
        return
    if asked.status_code != 200 or not _is_list(asked):
        advice = "Ask for a user that may use `/tools/lookup`, `/studies` and `/instances`."
        found.add("search", FAILED, f"Searching is answered with {asked.status_code}.", advice)
        return
    found.add("search", OK, "Studies can be searched for.")
    found.strongest = Evidence.READ_BACK


def _get(
    found: Examination, client: httpx.Client, url: str, now_ms: int, *, method: str = "GET", **more: Any
) -> httpx.Response | None:
    """Ask; note the clock and what is wrong with the credentials, each once."""
    try:
        answer = client.request(method, url, **more)
    except (DestinationLocked, DestinationUnreachable, DestinationBusy) as error:
        found.add("credentials", FAILED, _sentence(error), "See what the token service says.")
        return None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL):
        advice = "Does a proxy or a firewall stand in between? Is it https, and not http, or the other way?"
        found.add("http", FAILED, "The line breaks before an answer comes.", advice)
        return None
    _note_clock(found, answer.headers.get("Date"), now_ms)
    if answer.status_code in (401, 403, 407):
        advice = "Give user and password, or a token, again with `pacs add`."
        if answer.status_code == 403:
            advice = "We are known there, but not allowed to: the hospital must give us the right."
        found.add("credentials", FAILED, f"The PACS answers {answer.status_code} to us.", advice)
        return None
    if 300 <= answer.status_code < 400:
        advice = "Use the address that it leads to, if it is the hospital's; redirects are never followed."
        found.add("root", FAILED, "The PACS sends us to another address.", advice)
        return None
    if not any(one.check == "credentials" for one in found.findings):
        found.add("credentials", OK, "The PACS lets us in.")
    return answer


def _note_clock(found: Examination, date: str | None, now_ms: int) -> None:
    if date is None or any(one.check == "clock" for one in found.findings):
        return
    try:
        skew = int(email.utils.parsedate_to_datetime(date).timestamp() - now_ms / 1000)
    except (TypeError, ValueError):
        return
    if abs(skew) <= _SKEW_S:
        found.add("clock", OK, "Its clock and ours agree.")
        return
    direction = "ahead of" if skew > 0 else "behind"
    advice = "Set the wrong one right: tokens and certificates may be refused over it."
    found.add("clock", WARNING, f"Its clock is {abs(skew) // 60} minutes {direction} ours.", advice)


def _other_root(client: httpx.Client, url: str) -> str:
    """Return the path at which a DICOMweb service answers on the same machine; "" for none."""
    parts = urlsplit(url)
    for root in _ROOTS:
        there = urlunsplit((parts.scheme, parts.netloc, root, "", ""))
        try:
            answer = client.get(f"{there}/studies", params=_NOBODYS)
        except (httpx.HTTPError, httpx.StreamError):
            continue
        if answer.status_code in (200, 204) and _is_list(answer):
            return root
    return ""


def _is_page(answer: httpx.Response) -> bool:
    return "html" in answer.headers.get("Content-Type", "").lower()


def _is_list(answer: httpx.Response) -> bool:
    return answer.status_code == 204 or isinstance(_json(answer), list)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


# -- DIMSE ------------------------------------------------------------------------------------------


def _look_at_dimse(
    found: Examination, url: str, quirks: Mapping[str, Any], tls: ssl.SSLContext | None, idle_s: float
) -> None:
    calling = quirks.get("calling")
    title = calling if isinstance(calling, str) and calling else "CLINICMESH"
    ct = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    way = Line(Address.of(url), title, idle_s, tls, lambda *_: None, lambda _: None)
    try:
        line = way.open([ct])
    except DestinationLocked as error:
        advice = f"Ask the hospital to enter our title, {title}, and check the title in the address."
        found.add("credentials", FAILED, _sentence(error), advice)
        return
    except (DestinationUnreachable, DestinationBusy):
        advice = "Is it the port of its DICOM server?"
        found.add("association", FAILED, "No DICOM node answers at this address.", advice)
        return
    try:
        status = line.send_c_echo()
        answered = status.get("Status") == 0x0000
    except (RuntimeError, ValueError):
        answered = False
    found.add(
        "association", OK, "An association was made" + (", and an echo came back." if answered else ".")
    )
    if not offers(line, ct[0]):
        found.add("store", FAILED, "It takes no CT images.", "Ask the hospital to let us store (C-STORE).")
    reads = gives_back(line)
    names = [(FIND, "C-FIND"), (GET, "C-GET"), (COMMIT, "storage commitment")]
    offered = [name for service, name in names if offers(line, service)]
    found.add("services", OK, f"Besides C-STORE it offers: {', '.join(offered) or 'nothing'}.")
    found.strongest = Evidence.ANSWERED
    if offers(line, FIND):
        found.strongest = Evidence.READ_BACK if reads else Evidence.LISTED
    if offers(line, COMMIT):
        detail = "It offers storage commitment; whether its report reaches us, only `--write` shows."
        found.add("commitment", OK, detail)
    release(line)


def _compare_with_demand(found: Examination, demanded: Evidence) -> None:
    strongest = found.strongest
    assert strongest is not None
    if demanded <= strongest or demanded is Evidence.COMMITTED:
        found.add("evidence", OK, f"What is demanded of it, {demanded.value}, it may be able to show.")
        return
    found.add(
        "evidence",
        FAILED,
        f"It is to show {demanded.value} of each image, and can show {strongest.value} at most.",
        f"Let the hospital allow more, or accept less: `pacs add … --evidence {strongest.value}`.",
    )


def _host_port(kind: str, url: str) -> tuple[str, int]:
    if kind == DIMSE:
        address = Address.of(url)
        return address.host, address.port
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + "."
