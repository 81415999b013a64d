"""The last look before a socket is made."""

from __future__ import annotations

import asyncio

import pytest
from yarl import URL

from headrace.errors import Refusal
from ingest import fetch
from ingest.fetch import Fetcher
from ingest.fetch_rules import FetchRules


async def test_name_that_comes_to_stand_for_another_address_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the look at a name's addresses was passed, no socket is made for a private one."""
    reached = asyncio.Event()
    server = await asyncio.start_server(lambda *_: reached.set(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rules = FetchRules(public=True)
    public = rules.permit(URL("http://example.org/"))
    monkeypatch.setattr(FetchRules, "permit", lambda *_: public)  # on this port as well
    monkeypatch.setattr(fetch, "check_addresses", lambda *_: None)
    async with server:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(Refusal) as refused:
                async with Fetcher(rules, 5).open(URL(f"http://{host}:{port}/")):
                    pass
            assert refused.value.code == "fetch-failed"
            assert "not public" in refused.value.detail
    assert not reached.is_set()
