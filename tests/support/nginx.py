"""Debian's nginx as hospitals put it before a PACS: TLS, body limits, Basic auth, client certificates."""

import contextlib
import datetime
import ipaddress
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from support.ports import free_port

_START_S = 20
_EPOCH = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority:
    """A hospital's own certificate authority."""

    def __init__(self, name: str = "Hospital") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = _pem(_signed(self._name, self._key, self._name, self._key, authority=True))

    def issue(
        self, name: str, *, rsa_key: bool = False, ends: datetime.datetime | None = None
    ) -> tuple[str, str]:
        """Return a certificate for a name (and 127.0.0.1) and its key, both PEM."""
        key: Key = (
            rsa.generate_private_key(65_537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return _pem(_signed(subject, key, self._name, self._key, ends=ends)), _key_pem(key)


def _signed(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
    ends: datetime.datetime | None = None,
) -> x509.Certificate:
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    public = signer.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_EPOCH)
        .not_valid_after(ends or datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if authority:
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@contextlib.contextmanager
def running_nginx(
    folder: Path,
    upstream: str,
    *,
    largest: str = "0",
    password: str = "",
    server: tuple[str, str] | None = None,
    clients: str = "",
) -> Iterator[str]:
    """Put nginx before an HTTP service, and give its URL.

    Args:
        folder: for its configuration and files.
        upstream: the service's URL.
        largest: `client_max_body_size`; "0" for none.
        password: Basic auth as user "relay" with it.
        server: certificate and key for HTTPS.
        clients: the authority (PEM) whose client certificates are wanted.
    """
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert binary is not None
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [f"client_max_body_size {largest};", "proxy_request_buffering off;"]
    if password:
        (folder / "users").write_text(f"relay:{{PLAIN}}{password}\n")
        lines += ["auth_basic pacs;", f"auth_basic_user_file {folder}/users;"]
    if server is not None:
        (folder / "server.pem").write_text(server[0])
        (folder / "server.key").write_text(server[1])
        lines += [f"ssl_certificate {folder}/server.pem;", f"ssl_certificate_key {folder}/server.key;"]
    if clients:
        (folder / "clients.pem").write_text(clients)
        lines += [f"ssl_client_certificate {folder}/clients.pem;", "ssl_verify_client on;"]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in kinds)
    tls = " ssl" if server is not None else ""
    (folder / "nginx.conf").write_text(
        f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
{temporary}
  server {{
    listen 127.0.0.1:{port}{tls};
    {" ".join(lines)}
    location / {{ proxy_pass {upstream}; proxy_http_version 1.1; proxy_read_timeout 60s; }}
  }}
}}
"""
    )
    command = [binary, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scheme = "https" if server is not None else "http"
    try:
        _wait_until_up(f"{scheme}://127.0.0.1:{port}", process)
        yield f"{scheme}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_up(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    with httpx.Client(trust_env=False, timeout=5, verify=False) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                client.get(url)
                return
            time.sleep(0.05)
    raise RuntimeError("nginx did not start")
