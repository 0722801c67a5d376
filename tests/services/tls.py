"""Authorities, certificates of theirs, and TLS in front of whatever listens on a loopback port."""

import contextlib
import selectors
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Somebody whose certificate nobody has unless it is given to them. `pem`: that certificate."""

    def __init__(self, name: str = "an authority", days: int = 30) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = self._builder(self._name, self._key.public_key(), days).add_extension(x509.BasicConstraints(True, 0), True)
        self._certificate = builder.add_extension(usage, True).sign(self._key, hashes.SHA256())
        self.pem = _pem(self._certificate)

    @property
    def expires(self) -> datetime:
        return self._certificate.not_valid_after_utc

    def issue(self, host: str = "localhost", days: int = 30) -> str:
        """Return a server's key and certificate in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = (
            self._builder(name, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
            .sign(self._key, hashes.SHA256())
        )
        return private_key(key) + _pem(certificate)

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        begin = datetime.now(UTC) - timedelta(days=60)
        end = datetime.now(UTC) + timedelta(days=days)
        builder = x509.CertificateBuilder(self._name, name, key, x509.random_serial_number(), begin, end)
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)


def private_key(key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """Return a private key in PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@contextlib.contextmanager
def tls_in_front_of(port: int, pem: str) -> Iterator[int]:
    """Pass on what comes by TLS to the port; yield the port that speaks TLS, with the key and certificate in `pem`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, context, port), daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            # Wakes the thread, which closing alone does not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, context, port), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with contextlib.ExitStack() as stack:
        # A client that refuses the certificate goes away.
        stack.enter_context(contextlib.suppress(OSError))
        stack.enter_context(client)
        secure = stack.enter_context(context.wrap_socket(client, server_side=True))
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        ready = stack.enter_context(selectors.DefaultSelector())
        ready.register(secure, selectors.EVENT_READ, plain)
        ready.register(plain, selectors.EVENT_READ, secure)
        while True:
            for key, _ in ready.select():
                source, target = key.fileobj, key.data
                piece = source.recv(1 << 16)  # type: ignore[union-attr]
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    piece += source.recv(1 << 16)
                if not piece:
                    return
                target.sendall(piece)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
