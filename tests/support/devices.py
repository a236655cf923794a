"""People's devices for tests: a store in memory, and devices that sign as a browser does."""

import base64
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from node.api.auth import DeviceRecord

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class MemoryDevices:
    """The devices of a mesh, as `node.api.auth.Devices` wants them."""

    def __init__(self) -> None:
        self.records: dict[str, DeviceRecord] = {}
        self.labels: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def find(self, device_id: str) -> DeviceRecord | None:
        return self.records.get(device_id)

    def enrol(self, label: str, key: Mapping[str, str], role: str) -> str:
        device_id = f"{next(self._numbers):032x}"
        self.records[device_id] = DeviceRecord(device_id, key, role, revoked=False)
        self.labels[device_id] = label
        return device_id

    def change(self, device_id: str, **changes: Any) -> None:
        self.records[device_id] = replace(self.records[device_id], **changes)


def base64url(data: bytes | str) -> str:
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class FakeDevice:
    """A phone with its own key: "EC" as most browsers, "OKP" as the newest."""

    def __init__(self, kind: str = "EC") -> None:
        self._jtis = itertools.count(1)
        self.id = ""
        if kind == "EC":
            self._ec = ec.generate_private_key(ec.SECP256R1())
            point = self._ec.public_key().public_numbers()
            self.jwk = {
                "kty": "EC",
                "crv": "P-256",
                "x": base64url(point.x.to_bytes(32, "big")),
                "y": base64url(point.y.to_bytes(32, "big")),
            }
            self.alg = "ES256"
        else:
            self._ed = Ed25519PrivateKey.generate()
            public = self._ed.public_key().public_bytes_raw()
            self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64url(public)}
            self.alg = "EdDSA"

    def claims(self, now_s: int, *, mesh: str) -> dict[str, Any]:
        """The claims of a proper assertion; `mesh` are the 8 digits of /healthz."""
        return {
            "iss": self.id,
            "sub": self.id,
            "aud": f"clinicmesh:{mesh}",
            "iat": now_s,
            "exp": now_s + 300,
            "jti": f"{id(self)}-{next(self._jtis)}",
        }

    def signature(self, data: bytes) -> bytes:
        if self.jwk["kty"] == "OKP":
            return self._ed.sign(data)
        r, s = decode_dss_signature(self._ec.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def sign(self, claims: Any, **header: Any) -> str:
        """Return a JWT; `header` replaces members of the usual one, None takes one away."""
        members = {"alg": self.alg, "typ": "JWT"} | header
        members = {name: value for name, value in members.items() if value is not None}
        signed = f"{base64url(json.dumps(members))}.{base64url(json.dumps(claims))}"
        return f"{signed}.{base64url(self.signature(signed.encode()))}"
