"""Acknowledging the head of an answer at once, so that its body comes.

Ceph's gateway writes head and body apart, and (with its `tcp_nodelay=0`) its kernel keeps a small body back until the head is
acknowledged, which ours puts off for 40 ms. Measured: on loopback a GET of 5 kB takes 2 ms instead of 48, a list 2 instead of 45.
"""

import socket
from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool

TCP_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class _Prompt:
    sock: socket.socket | None

    def getresponse(self, *arguments: Any, **options: Any) -> Any:
        """Return the answer once its head is here, and acknowledge what came. The kernel forgets the wish, so each time."""
        response = super().getresponse(*arguments, **options)  # type: ignore[misc]
        if self.sock is not None and TCP_QUICKACK is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 1)
        return response


class _HTTPConnection(_Prompt, AWSHTTPConnection): ...


class _HTTPSConnection(_Prompt, AWSHTTPSConnection): ...


class _HTTPPool(AWSHTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(AWSHTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


def acknowledge_promptly(client: Any) -> None:
    """Have the connections that a boto3 client opens from now on do so."""
    # botocore has no public place for it; what it hands to urllib3 is that one's documented way.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_HTTPPool, https=_HTTPSPool)
