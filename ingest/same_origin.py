"""Writes that a cookie authorises must come from a page of this very host.

A browser sends cookies along with whatever any page asks it to; the token in a header it does not.

Source: Go 1.25, net/http CrossOriginProtection: ``Sec-Fetch-Site`` says where a request comes from,
and where a browser does not send it, ``Origin`` is compared with the host asked; OWASP, Cross-Site
Request Forgery Prevention Cheat Sheet, "Fetch Metadata headers". Other than there, a request with
neither is refused: a browser that sends neither cannot be told from one that is misled, and
programs have tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def require_same_origin(headers: Mapping[str, str], *, said: bool = True) -> None:
    """Refuse what does not come from a page of the host that was asked.

    Args:
        headers: Of the request; ``X-Forwarded-Host`` is what a reader was asked for.
        said: Whether the request must say where it comes from.

    Raises:
        Refusal: ``cross-site``.
    """
    site = headers.get("Sec-Fetch-Site")
    origin = headers.get("Origin")
    if site is not None:
        same = site == "same-origin"
    elif origin is not None:
        # Hosts alone are compared: the scheme is not known behind a proxy that ends TLS.
        host = headers.get("X-Forwarded-Host") or headers.get("Host", "")
        same = urlsplit(origin).netloc.lower() == host.lower() != ""
    else:
        same = not said
    if not same:
        raise Refusal(
            "cross-site",
            "the request is authorised by a cookie and does not come from a page of this host",
            hint="programs send the header: Authorization: Bearer …",
        )
