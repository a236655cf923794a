"""Tokens as text: device keys, the assertions that devices sign, the access tokens that nodes give.

Each side's algorithm is pinned by its key, and a header says nothing but that algorithm and a type
(RFC 8725 §3.1, §3.11): whatever would fetch, choose or carry a key is refused. Times are the node's own,
handed in. Called by `node.api.auth`. Home of joserfc.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import JWSRegistry
from nacl.encoding import URLSafeBase64Encoder
from nacl.signing import SigningKey

from node.errors import Refused

MAX_TOKEN_CHARACTERS = 4096
ASSERTION_LIFE_S = 300
ACCESS_LIFE_S = 900
_CLOCK_SLACK_S = 60  # how far ahead a device's idea of the node's time may be
_MAX_JTI_CHARACTERS = 128
_ASSERTION_TYPES = {None, "JWT", "jwt"}
_ACCESS_TYPE = "at+jwt"  # RFC 9068 §2.1
_ACCESS_ALGORITHM = "Ed25519"  # RFC 9864
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)

Jwk = Mapping[str, str]


class _Pinned(JWSRegistry):
    """Knows the algorithms of one key and no other; without joserfc's warning for the name EdDSA.

    The name is deprecated by RFC 9864, and is all that browsers of today have.
    """

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(None)
        return self.algorithms[name]


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a device claims, not verified yet. `raw` goes to `verify_assertion`."""

    device_id: str
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """What a valid access token says."""

    device_id: str
    scopes: frozenset[str]


def public_jwk(value: Mapping[str, Any]) -> dict[str, str]:
    """Return the public key in a device's JWK, and nothing else of it.

    Raises:
        Refused: it is no P-256 or Ed25519 key, or a private one.
    """
    wanted = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}.get(str(value.get("kty")), ())
    key = {name: value.get(name) for name in wanted}
    if "d" in value:
        raise Refused("bad-key", "This is a private key; it must stay on the device.")
    if not wanted or not all(isinstance(part, str) for part in key.values()):
        raise Refused("bad-key", "The key must be a P-256 or Ed25519 public key.")
    text = {name: str(part) for name, part in key.items()}
    try:
        _imported(text)
    except _UNREADABLE:
        raise Refused("bad-key", "The key must be a P-256 or Ed25519 public key.") from None
    return text


def read_assertion(text: str) -> Assertion:
    """Tell which device an assertion claims to be from, before anything is verified.

    Raises:
        Refused: `bad-grant`; the text says why.
    """
    header, claims = _taken_apart(text, "bad-grant")
    if header.get("typ") not in _ASSERTION_TYPES:
        raise Refused("bad-grant", "The assertion is a token of another type.")
    device_id = claims.get("iss")
    if not isinstance(device_id, str) or claims.get("sub") != device_id:
        raise Refused("bad-grant", "The assertion must name the device as issuer and subject.")
    return Assertion(device_id, text)


def verify_assertion(assertion: Assertion, key: Jwk, *, audience: str, now_s: float, up_s: float) -> str:
    """Check an assertion's signature and claims (RFC 7523 §3), and return its `jti`.

    Args:
        assertion: what `read_assertion` gave.
        key: the device's enrolled key.
        audience: what `aud` must be.
        now_s: the node's time, seconds since 1970.
        up_s: for how many seconds the node has been keeping the `jti` it has seen.

    Raises:
        Refused: `bad-grant`; the text says why.
    """
    claims = _verified(assertion.raw, key, _algorithms(key), "bad-grant")
    if claims.get("aud") not in (audience, [audience]):
        raise Refused("bad-grant", "The assertion is for another mesh.")
    issued, expires, jti = claims.get("iat"), claims.get("exp"), claims.get("jti")
    if type(issued) is not int or type(expires) is not int:
        raise Refused("bad-grant", "The assertion must say when it was issued and when it expires.")
    if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI_CHARACTERS:
        raise Refused("bad-grant", "The assertion has no jti.")
    if expires - issued > ASSERTION_LIFE_S or expires > now_s + ASSERTION_LIFE_S + _CLOCK_SLACK_S:
        raise Refused("bad-grant", "The assertion is valid for more than five minutes.")
    if expires <= now_s or issued > now_s + _CLOCK_SLACK_S or _not_before(claims) > now_s + _CLOCK_SLACK_S:
        raise Refused("bad-grant", "The assertion is not for this node's time; /healthz tells it.")
    if issued < int(now_s - up_s):
        # Seen or not, nobody remembers: the node has started since.
        raise Refused("bad-grant", "The node has started anew; make a new assertion.")
    return jti


def make_access_token(
    seed: bytes, *, node: str, device_id: str, scopes: frozenset[str], now_s: float, jti: str
) -> str:
    """Return a signed access token (RFC 9068) for the node that gives it.

    Args:
        seed: the node's Ed25519 seed for tokens.
        node: issuer and audience.
        device_id: subject.
        scopes: what it may be used for.
        now_s: the node's time; the token is valid for `ACCESS_LIFE_S` from then.
        jti: a random name.
    """
    claims = {
        "iss": node,
        "aud": node,
        "sub": device_id,
        "client_id": device_id,
        "scope": " ".join(sorted(scopes)),
        "iat": int(now_s),
        "exp": int(now_s) + ACCESS_LIFE_S,
        "jti": jti,
    }
    header = {"alg": _ACCESS_ALGORITHM, "typ": _ACCESS_TYPE}
    return jwt.encode(header, claims, _imported(_jwk_of(seed, private=True)), [_ACCESS_ALGORITHM])


def read_access_token(text: str, seed: bytes, *, node: str, now_s: float) -> Access:
    """Check an access token that this node gave.

    Raises:
        Refused: `token-invalid` or `token-expired`.
    """
    header, _ = _taken_apart(text, "token-invalid")
    claims = _verified(text, _jwk_of(seed), (_ACCESS_ALGORITHM,), "token-invalid")
    device_id, scope = claims.get("sub"), claims.get("scope")
    issued, expires = claims.get("iat"), claims.get("exp")
    if (
        header.get("typ") != _ACCESS_TYPE
        or claims.get("iss") != node
        or claims.get("aud") != node
        or not isinstance(device_id, str)
        or not isinstance(scope, str)
        or type(issued) is not int
        or type(expires) is not int
        or expires - issued > ACCESS_LIFE_S
        or issued > now_s + _CLOCK_SLACK_S
    ):
        raise Refused("token-invalid", "The access token is not one of this node.")
    if expires <= now_s:
        raise Refused("token-expired", "The access token has expired.")
    return Access(device_id, frozenset(scope.split()))


def _taken_apart(text: str, code: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the header and the claims, and refuse what no honest token has."""
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise Refused(code, "The token is too long.")
    try:
        message = jws.extract_compact(text.encode("ascii"))
        header, claims = message.headers(), json.loads(message.payload or b"")
        wrong = not isinstance(claims, dict) or not {"alg"} <= set(header) <= {"alg", "typ"}
    except _UNREADABLE:
        raise Refused(code, "This is not a signed token.") from None
    if wrong:
        raise Refused(code, "The token's header may say its algorithm and its type, nothing else.")
    return header, claims


def _verified(text: str, key: Jwk, algorithms: tuple[str, ...], code: str) -> dict[str, Any]:
    try:
        return dict(jwt.decode(text, _imported(key), registry=_Pinned(algorithms=algorithms)).claims)
    except _UNREADABLE:
        raise Refused(code, "The token's signature is wrong.") from None


def _algorithms(key: Jwk) -> tuple[str, ...]:
    return ("ES256",) if key["kty"] == "EC" else ("Ed25519", "EdDSA")


def _imported(key: Jwk) -> ECKey | OKPKey:
    if (key["kty"], key["crv"]) == ("EC", "P-256"):
        imported: ECKey | OKPKey = ECKey.import_key(dict(key))
    elif (key["kty"], key["crv"]) == ("OKP", "Ed25519"):
        imported = OKPKey.import_key(dict(key))
    else:
        raise ValueError
    _ = imported.public_key  # a point that is not on the curve shows here
    return imported


def _jwk_of(seed: bytes, *, private: bool = False) -> dict[str, str]:
    public = bytes(SigningKey(seed).verify_key)
    key = {"kty": "OKP", "crv": "Ed25519", "x": _base64url(public)}
    return {**key, "d": _base64url(seed)} if private else key


def _base64url(data: bytes) -> str:
    return URLSafeBase64Encoder.encode(data).rstrip(b"=").decode()


def _not_before(claims: Mapping[str, Any]) -> float:
    value = claims.get("nbf", 0)
    return value if type(value) is int else float("inf")
