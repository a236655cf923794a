"""Gives a TLS context its private key without leaving it on disk.

OpenSSL, as Python's ssl module has it, reads keys from files only. The file is encrypted under a password
that exists in memory alone, and is gone when the context has it. Called by `node.mesh.tls`,
`node.webcert`, and `node.deliver.access` for the certificate that a PACS wants to see.
"""

import re
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from nacl import utils

from node.errors import BadSettings

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def load(
    context: ssl.SSLContext,
    key: Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey,
    chain: Sequence[bytes],
) -> None:
    """Let `context` show `chain` (DER, its own certificate first) and prove to have `key`.

    Raises:
        ssl.SSLError: the key is not the first certificate's.
    """
    password = utils.random(32).hex()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    certificates = "".join(ssl.DER_cert_to_PEM_cert(der) for der in chain)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "identity.pem"
        file.touch(mode=0o600)
        file.write_bytes(private + certificates.encode())
        context.load_cert_chain(file, password=password)


def load_pem(context: ssl.SSLContext, key: str, chain: str) -> None:
    """Do the same with a key and certificates in PEM.

    Raises:
        BadSettings: they cannot be read, or do not belong together.
    """
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
        if not isinstance(private, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey):
            raise BadSettings("a private key of this kind is not known here")
        load(context, private, [ssl.PEM_cert_to_DER_cert(one) for one in _CERTIFICATE.findall(chain)])
    except (ValueError, TypeError, UnsupportedAlgorithm, ssl.SSLError):
        raise BadSettings(
            "the client certificate and its private key cannot be read or do not belong together; "
            "both are expected as PEM, the key without a password"
        ) from None
