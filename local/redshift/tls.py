"""
A certificate of our own, so that clients that insist on TLS connect: redshift_connector does so by default.

It trusts what the machine trusts: OpenSSL reads the folders in SSL_CERT_DIR. ``Authority.folder`` is one for that list.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "polku local redshift"


class Authority:
    """
    A certificate authority and one server certificate, in files.

    Args:
        folder: Where they are, or are made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ca"
        self._server = folder / "server.pem"
        self._authority = self.folder / f"{_subject_hash(_NAME)}.0"
        if not self._fresh():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make()

    @property
    def file(self) -> Path:
        """The authority's certificate, for SSL_CERT_FILE or psql's sslrootcert."""
        return self._authority

    def context(self) -> ssl.SSLContext:
        """Return the server's side of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._server)
        return context

    def _fresh(self) -> bool:
        if not (self._server.exists() and self._authority.exists()):
            return False
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(self._server.read_bytes())
        return certificate.not_valid_after_utc > dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=2)

    def _make(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        now = dt.datetime.now(dt.timezone.utc)
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])

        def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
            return (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(root_name)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - dt.timedelta(days=1))
                .not_valid_after(now + dt.timedelta(days=365))
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            )

        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
        )
        root = (
            builder(root_name, root_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        names = [
            x509.DNSName("localhost"), x509.DNSName("redshift"), x509.DNSName("host.docker.internal"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.IPAddress(ipaddress.ip_address("::1")),
        ]  # fmt: skip
        leaf = (
            builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._server.touch(mode=0o600)
        self._server.write_bytes(private + leaf.public_bytes(pem))
        self._authority.write_bytes(root.public_bytes(pem))


def _subject_hash(common_name: str) -> str:
    """Return the file name under which OpenSSL looks an authority up in a folder: SHA-1 of its name in canonical DER."""
    value = common_name.lower().encode()
    inner = b"\x06\x03\x55\x04\x03" + b"\x0c" + bytes([len(value)]) + value
    sequence = b"\x30" + bytes([len(inner)]) + inner
    whole = b"\x31" + bytes([len(sequence)]) + sequence
    digest = hashlib.sha1(whole, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"
