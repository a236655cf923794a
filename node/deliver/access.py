"""How a destination lets us in over HTTP: header fields, tokens that run out, certificates of our own.

Called by `node.deliver.build` and `node.deliver.dicomweb`. A token is fetched when it is needed, renewed
when it has run out by our own clock, and once more when a destination answers 401 to it: clocks differ,
and a token may end in mid-study. No proxy of the environment is used and no redirect followed, so that
credentials go nowhere but where an administrator said.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import requests
import requests.adapters

from node import tlskey
from node.deliver.destination import Auth
from node.errors import BadSettings, DestinationBusy, DestinationLocked, DestinationUnreachable

log = logging.getLogger(__name__)

_MARGIN_S = 60.0  # a token that ends sooner is not begun with
_SHORTEST_LIFE_S = 300.0  # of a token that does not say how long it lives
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


# How a connection shows that the other side closed it before any answer came.
CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Access(Protocol):
    """What lets us in. `Auth` is one for good; `ClientCredentials` gives tokens that end."""

    def as_headers(self) -> dict[str, str]:
        """Return the header fields of a request."""
        ...

    def renew(self, refused: Mapping[str, str]) -> bool:
        """After a 401 to these fields: say whether others may be let in."""
        ...

    def close(self) -> None:
        """Close what it opened."""
        ...


@dataclass(frozen=True, slots=True)
class TokenService:
    """Where tokens come from (RFC 6749 §4.4), and who we are there."""

    url: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    scope: str = ""


class ClientCredentials:
    """OAuth 2 client credentials (RFC 6749 §4.4) as bearer tokens (RFC 6750).

    Args:
        service: where tokens come from.
        headers: other fields of each request.
        client: asks for the tokens; closed with this.
        now_s: a clock that does not jump.
    """

    def __init__(
        self,
        service: TokenService,
        headers: Mapping[str, str],
        client: httpx.Client,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._headers = dict(headers)
        self._client = client
        self._now_s = now_s
        self._lock = threading.Lock()
        self._token = ""
        self._ends_s = 0.0

    def as_headers(self) -> dict[str, str]:
        """Return the header fields of a request, with a token that lives.

        Raises:
            DestinationLocked: the service refuses us.
            DestinationBusy, DestinationUnreachable: it gives no token now.
        """
        with self._lock:
            if not self._token or self._now_s() >= self._ends_s:
                self._fetch()
            return {**self._headers, "Authorization": f"Bearer {self._token}"}

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Forget the token that was refused; another request may have brought a new one meanwhile."""
        with self._lock:
            if refused.get("Authorization") == f"Bearer {self._token}":
                self._token = ""
        return True

    def close(self) -> None:
        """Close the line to the token service."""
        self._client.close()

    def _fetch(self) -> None:
        answer = self._ask()
        token, life = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise DestinationLocked("the token service answers without a token")
        try:
            life_s = float(life) if life is not None else _SHORTEST_LIFE_S
        except (TypeError, ValueError):
            life_s = _SHORTEST_LIFE_S
        self._token = token
        # Half of a short life is better than fetching a token for each request.
        self._ends_s = self._now_s() + max(life_s - _MARGIN_S, life_s / 2)
        log.info("token fetched seconds=%d", int(life_s))

    def _ask(self) -> Mapping[str, Any]:
        form = {"grant_type": "client_credentials"}
        if self._service.scope:
            form["scope"] = self._service.scope
        basic = httpx.BasicAuth(self._service.client_id, self._service.client_secret)
        status, said = self._post(form, basic)
        if status in (400, 401):
            # Services that know clients by the form only (RFC 6749 §2.3.1 allows both).
            known = {"client_id": self._service.client_id, "client_secret": self._service.client_secret}
            status, said = self._post({**form, **known}, None)
        if status in _LATER:
            raise DestinationBusy
        if status in (400, 401, 403):
            raise DestinationLocked(f"the token service answers {status}")
        if status != 200:
            raise DestinationUnreachable(f"no token service answers at its address ({status})")
        return said

    def _post(self, form: dict[str, str], auth: httpx.BasicAuth | None) -> tuple[int, Mapping[str, Any]]:
        try:
            answer = self._client.post(
                self._service.url,
                data=form,
                auth=auth or httpx.USE_CLIENT_DEFAULT,
                headers={"Accept": "application/json"},
            )
            said = answer.json() if answer.status_code == 200 else {}
            return answer.status_code, said if isinstance(said, dict) else {}
        except ValueError:
            return 200, {}
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            kind = type(error).__name__
        # Outside of the handler: the error of httpx holds the request, and must not be chained.
        log.info("token service does not answer error=%s", kind)
        raise DestinationUnreachable("the token service does not answer")


class HttpAuth(httpx.Auth):
    """Gives each request its header fields, and sends it once more with new ones after a 401.

    A body that is sent again must be one that can be iterated over again.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request as `access` says."""
        fields = self._access.as_headers()
        request.headers.update(fields)
        response = yield request
        if response.status_code == 401 and self._access.renew(fields):
            request.headers.update(self._access.as_headers())
            yield request


def tls_context(ca: str = "", *, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """Return whom we trust and how we show ourselves in TLS.

    Args:
        ca: certificates to trust (PEM) instead of the public ones.
        certificate: our own (PEM), before those that signed it.
        key: the private key of `certificate` (PEM, not encrypted); it never touches a disk in the clear.

    Raises:
        BadSettings: one of them cannot be read, or key and certificate do not belong together.
    """
    try:
        trusted = ssl.create_default_context(cadata=ca) if ca else httpx.create_ssl_context(trust_env=False)
    except (ssl.SSLError, ValueError):
        raise BadSettings("the certificates to trust cannot be read; they are expected as PEM") from None
    trusted.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate or key:
        tlskey.load_pem(trusted, key, certificate)
    return trusted


def http_client(
    access: Access | None = None, *, idle_s: float = 120, tls: ssl.SSLContext | None = None
) -> httpx.Client:
    """Return the client that streams: HTTP/1.1, no proxy from the environment, no redirects.

    Args:
        access: what lets us in.
        idle_s: how long a connection may stand still; there is no limit to a whole transfer.
        tls: whom to trust and how to show ourselves, or None for the public certificates.
    """
    limits = httpx.Limits(max_connections=4, max_keepalive_connections=2)
    return httpx.Client(
        auth=HttpAuth(access or Auth()),
        trust_env=False,
        follow_redirects=False,
        transport=_AskingAgain(verify=tls or True, trust_env=False, http2=False, limits=limits),
        timeout=httpx.Timeout(idle_s, connect=min(10, idle_s)),
    )


class _AskingAgain(httpx.HTTPTransport):
    """Asks once more where a connection that rested was closed as it was used again; for reading only."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        try:
            return super().handle_request(request)
        except CLOSED:
            if request.method != "GET":
                raise
        return super().handle_request(request)


class _OwnTls(requests.adapters.HTTPAdapter):
    """Makes requests use a TLS context as it is; else it would add the public certificates to it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(max_retries=_again())

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: object, cert: object) -> None:
        """Leave the verification, which is on, to the context."""


def session(tls: ssl.SSLContext | None = None) -> requests.Session:
    """Return the session that dicomweb-client asks with: no proxy, no redirects, the same TLS."""
    made = requests.Session()
    made.trust_env = False
    made.max_redirects = 0
    made.mount("http://", requests.adapters.HTTPAdapter(max_retries=_again()))
    made.mount("https://", _OwnTls(tls or tls_context()))
    return made


def _again() -> requests.adapters.Retry:
    """As `_AskingAgain` does."""
    return requests.adapters.Retry(total=1, connect=0, read=1, redirect=0, status=0, allowed_methods={"GET"})
