"""Who asks, over what, and for which host: what a trusted proxy says, else what the socket says."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import ConfigError, Refusal

if TYPE_CHECKING:
    from aiohttp import web

_SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Where a request comes from.

    Attributes:
        address: Of the client.
        scheme: ``http`` or ``https``, as the client sees it.
        host: The host that the client asked for, as it wrote it.
    """

    address: str
    scheme: str
    host: str


class Callers:
    """Tells callers, believing only proxies of these networks.

    Args:
        trusted: CIDRs, comma-separated; ``""``: nobody is believed.
        client_header: In which they name the client.

    Raises:
        ConfigError: One is no network.
    """

    def __init__(self, trusted: str, client_header: str = "X-Forwarded-For") -> None:
        self._client_header = client_header
        try:
            self._networks = [
                ipaddress.ip_network(part.strip()) for part in trusted.split(",") if part.strip()
            ]
        except ValueError as exc:
            raise ConfigError(
                f"cannot use --trusted-proxies: {exc}", hint="such as 10.0.0.0/8,fd00::/8"
            ) from exc

    def tell(self, request: web.BaseRequest) -> Caller:
        """Tell who sent a request.

        Raises:
            Refusal: ``bad-request``: there is not exactly one host. RFC 9112, 3.2.
        """
        headers = request.headers
        hosts = headers.getall("Host", [])
        if len(hosts) != 1 and (hosts or request.version >= (1, 1)):
            raise Refusal("bad-request", "the request names no host, or several")
        host = hosts[0] if hosts else ""
        peer = request.remote or "unknown"
        if not self._networks or not self._is_trusted(peer):
            return Caller(address=peer, scheme=request.scheme, host=host)
        scheme = _last(headers.getall("X-Forwarded-Proto", [])).lower()
        return Caller(
            address=self._find_client(peer, headers.getall(self._client_header, [])),
            scheme=scheme if scheme in _SCHEMES else request.scheme,
            host=_last(headers.getall("X-Forwarded-Host", [])) or host,
        )

    def _find_client(self, peer: str, claims: list[str]) -> str:
        """Walk from the nearest proxy outwards, up to the first that is not ours."""
        client = peer
        for claim in reversed([part.strip() for value in claims for part in value.split(",")]):
            try:
                client = str(ipaddress.ip_address(claim))
            except ValueError:
                break
            if not self._is_trusted(client):
                break
        return client

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)


def _last(values: list[str]) -> str:
    """Give what the nearest proxy said."""
    return values[-1].rpartition(",")[2].strip() if values else ""
