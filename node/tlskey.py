"""Gives a TLS context its private key without leaving it on disk.

OpenSSL, as Python's ssl module has it, reads keys from files only. The file is encrypted under a password
that exists in memory alone, and is gone when the context has it. Called by `node.mesh.tls` and
`node.webcert`.
"""

import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl import utils


def load(
    context: ssl.SSLContext, key: Ed25519PrivateKey | EllipticCurvePrivateKey, chain: Sequence[bytes]
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
