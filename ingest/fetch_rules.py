"""From where files may be fetched: what ``--fetch`` says, and which addresses are public.

A URL comes from whoever may upload, and the primary stands in a private network, beside things
that trust it: cloud metadata services, databases, itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from yarl import URL

from headrace.errors import ConfigError, Refusal
from headrace.fetching import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Sequence

OFF, PUBLIC = "off", "public"
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
_UNICAST = IPv6Network("2000::/3")  # all that is given out of IPv6
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What a URL may be fetched from.

    Attributes:
        private: Whether its name may stand for an address that is not public.
        literal: The address that the operator wrote out, if he did.
    """

    private: bool
    literal: str | None = None

    def allows(self, address: str) -> bool:
        """Say whether one address may be connected to."""
        if address == self.literal or is_public(address):
            return True
        # Metadata services of clouds are link-local: a name is never meant to lead there.
        return self.private and not _is_never_meant(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What ``--fetch`` says.

    Attributes:
        public: Whether any host is allowed.
        hosts: Names that are allowed, lower case; ``*.`` stands for all below.
        origins: Schemes with hosts and ports that are allowed, wherever they lie.
    """

    public: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[URL, ...] = ()

    @classmethod
    def parse(cls, text: str) -> FetchRules:
        """Read the setting.

        Raises:
            ConfigError: It is none.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        if words in ([], [OFF]):
            return cls()
        rest = [word for word in words if word != PUBLIC]
        origins = [word for word in rest if "://" in word]
        hosts = [word for word in rest if "://" not in word]
        for host in hosts:
            if not _HOST.fullmatch(host) or host == OFF:
                raise _bad(host)
        return cls(
            public=PUBLIC in words,
            hosts=tuple(host.lower().rstrip(".") for host in hosts),
            origins=tuple(map(_read_origin, origins)),
        )

    @property
    def on(self) -> bool:
        """Whether anything is allowed."""
        return self.public or bool(self.hosts or self.origins)

    def permit(self, url: URL) -> Permit:
        """Say what a URL may be fetched from.

        Raises:
            Refusal: ``fetch-off`` or ``fetch-forbidden``.
        """
        if not self.on:
            raise Refusal(
                "fetch-off",
                "files are not fetched from URLs here",
                hint="who runs this can allow it: --fetch public, or the hosts that are meant",
            )
        host = (url.host or "").lower().rstrip(".")
        if url.origin() in self.origins:
            return Permit(private=True, literal=host if _is_address(host) else None)
        if url.scheme not in SCHEMES or url.port != _PORTS[url.scheme]:
            raise _forbid(url, "of other ports than 80 and 443 only what --fetch names is allowed")
        if not self.public and not any(_matches(host, each) for each in self.hosts):
            raise _forbid(url, "the host is none of those that --fetch names")
        return Permit(private=False)


def check_addresses(url: URL, permit: Permit, addresses: Sequence[str]) -> None:
    """Refuse a URL whose name stands for an address that may not be connected to.

    Raises:
        Refusal: ``fetch-forbidden``.
    """
    if not all(map(permit.allows, addresses)):
        # Which address it is would tell strangers about the network.
        raise _forbid(url, "the host has an address that is not public")


def is_public(text: str) -> bool:
    """Say whether an address lies in the public internet, with what is embedded in it."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    if address in _NAT64:
        return is_public(str(IPv4Address(int(address) & 0xFFFF_FFFF)))
    embedded = [address.sixtofour] if address.sixtofour else list(address.teredo or ())
    return (
        address in _UNICAST
        and address.is_global
        and not address.is_multicast
        and all(is_public(str(each)) for each in embedded)
    )


def _is_never_meant(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address == IPv6Address("fd00:ec2::254"):  # Amazon's, which is not link-local
        return True
    return address.is_link_local or address.is_multicast or address.is_unspecified


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _matches(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


def _read_origin(word: str) -> URL:
    try:
        url = URL(word)
        if url.scheme in SCHEMES and url.host and url.path == "/" and not url.user:
            return url.origin()
    except ValueError:
        pass
    raise _bad(word)


def _bad(word: str) -> ConfigError:
    return ConfigError(
        f"cannot use --fetch: {word!r}",
        hint="off, public, or with commas between: data.example.org, *.example.org, "
        "http://127.0.0.1:8080",
    )


def _forbid(url: URL, why: str) -> Refusal:
    return Refusal("fetch-forbidden", f"{url.host} is not fetched from: {why}")
