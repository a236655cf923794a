"""Who may do what over the people's API: enrolment of devices, access tokens, scopes.

A device is enrolled once with a code that a person reads off another screen. From then on it signs an
assertion with its own key and gets an access token of this node for 15 minutes (RFC 7523, RFC 6750).
There are no passwords and no cookies. The node's own command line uses the operator's token instead.
Called by whoever builds the people's application: one `Authoriser`, `router(authoriser)`, and
`authoriser.require(scope)` as a dependency of each route.
"""

import hashlib
import hmac
import json
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from nacl import utils
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from node.api import tokens
from node.clock import Clock
from node.errors import Refused
from node.keys import Random
from sync.ids import MeshId, NodeId, short

Role = Literal["clinician", "lead", "admin"]

SCOPES: dict[str, frozenset[str]] = {
    "clinician": frozenset({"upload", "status"}),
    "lead": frozenset({"upload", "status", "enrol"}),
    "admin": frozenset({"upload", "status", "enrol", "admin"}),
}
OPERATOR = "operator"
CODE_LIFE_MS = 600_000
CODE_TRIES = 3
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FORM_BYTES = 16_384
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's
_CODE_NAME, _CODE_SECRET = 4, 8  # characters; the secret is 40 bits
_FREE_FAILURES = 3  # from one address, before it has to wait
_LONGEST_WAIT_MS = 60_000
_MAX_ADDRESSES = 1_000
_MAX_CODES = 100
_JTI_KEPT_MS = 900_000  # three times an assertion's life, as the wall clock may be set back meanwhile
_MAX_JTIS = 1_000  # of one device

_BEARER = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token of `/oauth/token`.")


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as the facts have it. `key` is its public JWK."""

    device_id: str
    key: Mapping[str, str] = field(repr=False)
    role: str
    revoked: bool


class Devices(Protocol):
    """The mesh's devices. Errors pass through."""

    def find(self, device_id: str) -> DeviceRecord | None:
        """Return what is known of a device; None if nothing is."""
        ...

    def enrol(self, label: str, key: Mapping[str, str], role: str) -> str:
        """Enrol a device for the whole mesh, durably, and return its id."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request."""

    device_id: str
    role: str
    scopes: frozenset[str]


@dataclass(slots=True)
class _Code:
    """An enrolment code that was given out."""

    secret: str = field(repr=False)
    role: str
    expires_ms: int
    tries: int = CODE_TRIES
    used_by: str | None = None  # digest of the key that was enrolled with it
    device_id: str | None = None


class Authoriser:
    """Decides on every request of people and tools. Safe to use from many threads."""

    def __init__(
        self,
        *,
        devices: Devices,
        clock: Clock,
        mesh: MeshId,
        node: NodeId,
        token_key: bytes,
        operator_token: str | None = None,
        random: Random = utils.random,
    ) -> None:
        self._devices = devices
        self._clock = clock
        self._audience = f"clinicmesh:{short(mesh)}"
        self._node = f"clinicmesh-node:{node.hex()}"
        self._token_key = token_key
        self._operator = operator_token
        self._random = random
        self._lock = threading.Lock()
        self._started_ms = clock.monotonic_ms()
        self._codes: dict[str, _Code] = {}
        self._failures: dict[str, tuple[int, int]] = {}  # address → failures, and when it may try again
        self._seen: dict[str, dict[str, int]] = {}  # device → jti → when it may be forgotten

    def require(self, scope: str) -> Callable[..., Caller]:
        """Return a FastAPI dependency that gives the caller, or refuses the request."""

        def caller(
            request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
        ) -> Caller:
            found = self.authorise(credentials.credentials if credentials else None, scope)
            request.state.caller = found  # for the audit trail
            return found

        return caller

    def authorise(self, token: str | None, scope: str) -> Caller:
        """Return who sends a bearer token, if it has the scope.

        Raises:
            Refused: `token-missing`, `token-invalid`, `token-expired` or `scope-missing`.
        """
        if not token:
            raise Refused("token-missing", "An access token is needed.")
        caller = self._caller(token)
        if scope not in caller.scopes:
            raise Refused("scope-missing", f"This device may not do that; it needs the scope {scope}.")
        return caller

    def still(self, request: Request, scope: str) -> bool:
        """Say whether a request whose answer goes on and on would be let in now."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            self.authorise(token.strip() if kind.lower() == "bearer" else None, scope)
        except Refused:
            return False
        return True

    def issue_code(self, role: str, *, by: Caller) -> str:
        """Make an enrolment code, to be read or scanned off a screen.

        Raises:
            Refused: the caller may not enrol devices of that role.
        """
        if "enrol" not in by.scopes or not SCOPES[role] <= SCOPES[by.role]:
            raise Refused("scope-missing", "This device may not enrol devices of that role.")
        with self._lock:
            self._forget_codes()
            if len(self._codes) >= _MAX_CODES:
                raise Refused("too-many-tries", "Too many codes are open; wait ten minutes.")
            name, secret = self._letters(_CODE_NAME), self._letters(_CODE_SECRET)
            self._codes[name] = _Code(secret, role, self._clock.monotonic_ms() + CODE_LIFE_MS)
        return f"{name}-{secret[:4]}-{secret[4:]}"

    def enrol(self, code: str, label: str, key: Mapping[str, Any], *, address: str) -> tuple[str, str]:
        """Enrol a device that shows a valid code; return its id and role.

        The same code with the same key answers the same device, for a phone that lost the answer.

        Raises:
            Refused: `code-wrong`, `too-many-tries` or `bad-key`.
        """
        public = tokens.public_jwk(key)
        digest = hashlib.sha256(json.dumps(public, sort_keys=True).encode()).hexdigest()
        with self._lock:
            self._check_patience(address)
            found = self._find_code(code, digest)
            if found is None:
                self._note_failure(address)
                raise Refused("code-wrong", "The code is wrong, used or older than ten minutes.")
            self._failures.pop(address, None)
            if found.device_id is None:
                found.device_id = self._devices.enrol(label, public, found.role)
                found.used_by = digest
            return found.device_id, found.role

    def grant(self, assertion: str, scope: str | None) -> tuple[str, frozenset[str]]:
        """Exchange a device's assertion for an access token and its scopes.

        Args:
            assertion: the JWT that the device signed.
            scope: the scopes that are asked for, with spaces between; None for all that the role has.

        Raises:
            Refused: `bad-grant` or `bad-scope`.
        """
        claimed = tokens.read_assertion(assertion)
        device = self._devices.find(claimed.device_id)
        if device is None or device.revoked:
            raise Refused("bad-grant", "The device is not enrolled, or no longer.")
        now_s = self._clock.now_ms() / 1000
        up_s = (self._clock.monotonic_ms() - self._started_ms) / 1000
        jti = tokens.verify_assertion(claimed, device.key, audience=self._audience, now_s=now_s, up_s=up_s)
        allowed = SCOPES.get(device.role, frozenset())
        scopes = allowed if scope is None else frozenset(scope.split())
        if not scopes or not scopes <= allowed:
            raise Refused("bad-scope", "The device's role does not have these scopes.")
        self._spend(device.device_id, jti)
        token = tokens.make_access_token(
            self._token_key,
            node=self._node,
            device_id=device.device_id,
            scopes=scopes,
            now_s=now_s,
            jti=self._random(16).hex(),
        )
        return token, scopes

    def _caller(self, token: str) -> Caller:
        if self._operator and hmac.compare_digest(token.encode(), self._operator.encode()):
            return Caller(OPERATOR, "admin", SCOPES["admin"])
        access = tokens.read_access_token(
            token, self._token_key, node=self._node, now_s=self._clock.now_ms() / 1000
        )
        device = self._devices.find(access.device_id)
        if device is None or device.revoked:
            raise Refused("token-invalid", "The device is not enrolled, or no longer.")
        return Caller(device.device_id, device.role, access.scopes & SCOPES.get(device.role, frozenset()))

    def _spend(self, device_id: str, jti: str) -> None:
        """Note an assertion, so that it is not taken again."""
        now = self._clock.monotonic_ms()
        with self._lock:
            kept = {name: until for name, until in self._seen.get(device_id, {}).items() if until > now}
            if jti in kept:
                raise Refused("bad-grant", "The assertion was used before.")
            if len(kept) >= _MAX_JTIS:
                raise Refused("bad-grant", "The device asks for too many tokens.")
            kept[jti] = now + _JTI_KEPT_MS
            self._seen[device_id] = kept

    def _find_code(self, typed: str, digest: str) -> _Code | None:
        """Return the code that was typed, if it may be used with this key; else count the failure."""
        self._forget_codes()
        letters = "".join(c for c in typed.upper().translate(_LOOKALIKES) if c in _LETTERS)
        code = self._codes.get(letters[:_CODE_NAME])
        # Compared also when there is no such code: the time to answer tells nothing.
        right = hmac.compare_digest(letters[_CODE_NAME:], code.secret if code else "-" * _CODE_SECRET)
        if code is None:
            return None
        if not right:
            code.tries -= 1
            if code.tries <= 0:
                del self._codes[letters[:_CODE_NAME]]
            return None
        return code if code.used_by in (None, digest) else None

    def _forget_codes(self) -> None:
        now = self._clock.monotonic_ms()
        self._codes = {name: code for name, code in self._codes.items() if code.expires_ms > now}

    def _check_patience(self, address: str) -> None:
        _, again_ms = self._failures.get(address, (0, 0))
        if self._clock.monotonic_ms() < again_ms:
            raise Refused("too-many-tries", "Too many wrong codes; wait a minute.")

    def _note_failure(self, address: str) -> None:
        """Make an address wait twice as long after each wrong code, up to a minute: it may be a person's."""
        count = self._failures.pop(address, (0, 0))[0] + 1
        wait = (
            min(1000 * 2 ** min(count - _FREE_FAILURES, 10), _LONGEST_WAIT_MS)
            if count >= _FREE_FAILURES
            else 0
        )
        if len(self._failures) >= _MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        self._failures[address] = (count, self._clock.monotonic_ms() + wait)

    def _letters(self, count: int) -> str:
        return "".join(_LETTERS[octet & 31] for octet in self._random(count))


_LOOKALIKES = str.maketrans({"O": "0", "I": "1", "L": "1"})


class EnrolDevice(BaseModel):
    """A device asks to be enrolled."""

    model_config = ConfigDict(extra="forbid")
    code: Annotated[str, StringConstraints(max_length=40)]
    label: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
    key: Annotated[dict[str, Any], Field(max_length=16)]


class EnrolledDevice(BaseModel):
    """The device is enrolled."""

    device_id: str
    role: str


class WantCode(BaseModel):
    """A person wants to enrol another device."""

    model_config = ConfigDict(extra="forbid")
    role: Role = "clinician"


class DeviceCode(BaseModel):
    """The code for it."""

    code: str
    role: str
    expires_in: int


def router(authoriser: Authoriser) -> APIRouter:
    """Return the routes of enrolment and tokens."""
    routes = APIRouter(tags=["access"])
    may_enrol = authoriser.require("enrol")

    @routes.post("/api/v1/devices", status_code=201)
    def enrol_device(body: EnrolDevice, request: Request) -> EnrolledDevice:
        """Enrol a device's key with a one-time code."""
        address = request.client.host if request.client else ""
        device_id, role = authoriser.enrol(body.code, body.label, body.key, address=address)
        return EnrolledDevice(device_id=device_id, role=role)

    @routes.post("/api/v1/admin/device-codes", status_code=201)
    def make_code(body: WantCode, caller: Annotated[Caller, Depends(may_enrol)]) -> DeviceCode:
        """Make a code that enrols one device within ten minutes."""
        code = authoriser.issue_code(body.role, by=caller)
        return DeviceCode(code=code, role=body.role, expires_in=CODE_LIFE_MS // 1000)

    @routes.post("/oauth/token", openapi_extra=_TOKEN_FORM, responses={400: _OAUTH_PROBLEM})
    async def token(request: Request) -> JSONResponse:
        """Exchange an assertion that the device signed for an access token (RFC 7523 §2.1)."""
        try:
            form = await _form(request)
            if "grant_type" not in form:
                return _oauth_error("invalid_request", "The grant type is missing.")
            if form["grant_type"] != _GRANT_TYPE:
                return _oauth_error("unsupported_grant_type", f"The grant type must be {_GRANT_TYPE}.")
            if "assertion" not in form:
                return _oauth_error("invalid_request", "The assertion is missing.")
            access, scopes = await run_in_threadpool(authoriser.grant, form["assertion"], form.get("scope"))
        except Refused as refused:
            return _oauth_error(_OAUTH_CODES.get(refused.code, "invalid_request"), str(refused))
        answer = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": tokens.ACCESS_LIFE_S,
            "scope": " ".join(sorted(scopes)),
        }
        return JSONResponse(answer, headers=_NO_STORE)

    return routes


_OAUTH_CODES = {"bad-grant": "invalid_grant", "bad-scope": "invalid_scope"}
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 §5.1
_OAUTH_PROBLEM: dict[str, Any] = {
    "description": "The token is refused (RFC 6749 §5.2).",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
            }
        }
    },
}
_TOKEN_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type", "assertion"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": [_GRANT_TYPE]},
                        "assertion": {"type": "string"},
                        "scope": {"type": "string"},
                    },
                }
            }
        },
    }
}


async def _form(request: Request) -> dict[str, str]:
    """Read the form: small, URL-encoded, each field once (RFC 6749 §3.2)."""
    if (
        request.headers.get("content-type", "").partition(";")[0].strip()
        != "application/x-www-form-urlencoded"
    ):
        raise Refused("bad-request", "The body must be a URL-encoded form.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES:
            raise Refused("bad-request", "The body is too long.")
    try:
        pairs = urllib.parse.parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            max_num_fields=16,
            errors="strict",
        )
    except ValueError:
        raise Refused("bad-request", "The body must be a URL-encoded form.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Refused("bad-request", "A field is there twice.")
    return {name: value for name, value in form.items() if value}  # an empty one counts as omitted


def _oauth_error(error: str, description: str) -> JSONResponse:
    """Answer as RFC 6749 §5.2 says."""
    return JSONResponse(
        {"error": error, "error_description": description}, status_code=400, headers=_NO_STORE
    )
