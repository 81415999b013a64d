"""The upload page in a real browser: dropped, typed and clicked as people do."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from tests.conftest import wait_for
from tests.datasette_line import query_path
from tests.e2e.conftest import System, running
from tests.e2e.page_kit import (
    PHONE,
    chromium,
    drop,
    find_barriers,
    find_overflow,
    sign_in,
    wait_looked_at,
)
from tests.e2e.tus_kit import kept_bytes
from tests.faults.links import Link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request, Response, Route

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "upload-in-a-browser.md"
PEOPLE = "id,name,born\n1,Ada,1815\n2,Grace,1906\n"
BAD = "a,b\n1,2\n3,4,5\n"
HTML_NAME = "<img src=x onerror=alert(1)>"
MIB = 1024**2
FIRST_PAINT_AT_MOST_BYTES = 100_000
LIVE_MS = 20_000  # the deadline is for broken programs


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give two readers, with a footer of their own."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "theme" / "templates").mkdir(parents=True)
    (folder / "theme" / "templates" / "_footer.html").write_text("The footer of Ada's data shop")
    flags = ("--workers", "1", "--datasette-dir", str(folder / "theme"))
    with running(folder / "data", *flags, readers=2) as system:
        yield system


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give one browser; each page has its own profile."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def session(browser: Browser, system: System) -> Any:
    """Give the cookies of somebody who has signed in."""
    with browser.new_context() as context:
        sign_in(context.new_page(), system.url, system.token)
        return context.storage_state()


@contextmanager
def page_of(browser: Browser, session: Any = None) -> Iterator[Page]:
    """Give a page on which no script ever fails, and no dialog opens."""
    with browser.new_context(storage_state=session) as context:
        page = context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        yield page
        assert not wrong


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Give a page to somebody who is not signed in."""
    with page_of(browser) as page:
        yield page


@pytest.fixture
def signed_in(browser: Browser, session: Any, system: System) -> Iterator[Page]:
    """Give the upload page to somebody who is signed in."""
    with page_of(browser, session) as page:
        page.goto(f"{system.url}/ingest")
        yield page


def test_page_file_that_is_dropped_is_read_by_the_link(signed_in: Page, system: System) -> None:
    """Who drops a file sees and hears its types, each step, then the link; the row is there."""
    drop(signed_in, ("people.csv", "image/png", PEOPLE))
    said = signed_in.get_by_role("status")
    said.get_by_text("people.csv: csv. people with 3 columns").wait_for()
    card = signed_in.locator(".headrace-card")
    card.locator("th", has_text="born").get_by_text("integer").wait_for()
    assert "csv · utf-8 · comma" in card.locator(".headrace-facts").inner_text()
    assert card.get_by_role("cell").all_inner_texts()[:3] == ["1", "Ada", "1815"]
    signed_in.get_by_role("button", name="Upload").click()
    assert card.get_by_role("progressbar").count() == 5
    link = card.get_by_role("link", name="/people/people")
    link.wait_for(timeout=LIVE_MS)
    assert said.inner_text() == "people.csv is live."
    assert card.locator("[data-is=done]").count() == 5
    lines = card.locator(".headrace-step").evaluate_all(
        "(steps) => steps.map((s) => s.offsetHeight)"
    )
    assert len(set(lines)) == 1, "the name of a step is broken into two lines"
    card.get_by_text("Regions: a, b").wait_for(timeout=LIVE_MS)
    link.click()
    signed_in.get_by_role("cell", name="Grace").wait_for()


def test_page_makes_every_reader_wait_for_the_newest_upload(
    signed_in: Page, system: System
) -> None:
    """Also where the answer to another upload said so before, or an older receipt is looked at."""
    older = signed_in.evaluate(
        """fetch("/ingest?filename=older.csv", {method: "POST", body: "a\\n1\\n"})
          .then((answer) => answer.json())"""
    )
    assert _awaited(signed_in) == older["generation"]
    drop(signed_in, ("newer.csv", "text/csv", PEOPLE))
    wait_looked_at(signed_in)
    signed_in.get_by_role("button", name="Upload").click()
    signed_in.get_by_role("link", name="/newer/newer").wait_for(timeout=LIVE_MS)
    newest = _awaited(signed_in)
    assert newest > older["generation"]
    signed_in.goto(f"{system.url}/ingest/receipts/{older['id']}")
    signed_in.get_by_text("Regions: ").wait_for(timeout=LIVE_MS)
    assert _awaited(signed_in) == newest


def test_page_upload_over_a_connection_that_is_cut_goes_on(page: Page, system: System) -> None:
    """A connection that is cut costs what was on its way, and nobody has to do anything."""
    rows = 110_000
    body = "id,text\n" + "".join(f"{n},row {n:09}\n" for n in range(rows))
    link = Link(lambda: system.port)
    offsets: list[int] = []
    page.on("request", partial(_note_offset, offsets))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(link.listening()),
    ):
        sign_in(page, f"http://127.0.0.1:{link.port}", system.token)
        page.get_by_label("Choose files").set_input_files(
            {"name": "long.csv", "mimeType": "text/csv", "buffer": body.encode()}
        )
        wait_looked_at(page)
        link.silent_at_bytes = link.sent_bytes + len(body) // 2
        page.get_by_role("button", name="Upload").click(no_wait_after=True)
        wait_for(lambda: kept_bytes(system) >= MIB)
        portal.call(link.set_mode, "reset")
        portal.call(link.set_mode, "pass")
        page.get_by_role("link", name="/long/long").wait_for(timeout=LIVE_MS)
    assert offsets[0] == 0
    assert 0 < offsets[-1] < len(body)
    params = {"sql": "SELECT count(*) AS n FROM long", "_shape": "array"}
    counted = httpx.get(system.url + query_path("long"), params=params)
    assert counted.json() == [{"n": rows}]


def test_page_that_is_loaded_anew_goes_on_with_the_same_file(
    page: Page, system: System, tmp_path: Path
) -> None:
    """Who left the page in the middle chooses the file once more, and sends the rest."""
    rows = 110_000
    path = tmp_path / "anew.csv"
    path.write_text("id,text\n" + "".join(f"{n},row {n:09}\n" for n in range(rows)))
    link = Link(lambda: system.port)
    offsets: list[int] = []
    page.on("request", partial(_note_offset, offsets))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(link.listening()),
    ):
        sign_in(page, f"http://127.0.0.1:{link.port}", system.token)
        page.get_by_label("Choose files").set_input_files(path)
        wait_looked_at(page)
        link.silent_at_bytes = link.sent_bytes + path.stat().st_size // 2
        with page.expect_request(lambda request: request.method == "PATCH"):
            # Else Playwright waits for the page, whose requests get no answer from then on.
            page.get_by_role("button", name="Upload").click(no_wait_after=True)
        wait_for(lambda: kept_bytes(system) >= MIB)
        page.goto("about:blank")
        offsets.clear()
        portal.call(link.set_mode, "reset")
        portal.call(link.set_mode, "pass")
        page.goto(f"http://127.0.0.1:{link.port}/ingest")
        page.locator("body.headrace-scripted").wait_for()
        page.get_by_label("Choose files").set_input_files(path)
        wait_looked_at(page)
        page.get_by_role("button", name="Upload").click()
        page.get_by_role("link", name="/anew/anew").wait_for(timeout=LIVE_MS)
    assert offsets[0] >= MIB
    params = {"sql": "SELECT count(*) AS n FROM anew", "_shape": "array"}
    counted = httpx.get(system.url + query_path("anew"), params=params)
    assert counted.json() == [{"n": rows}]


def test_page_has_what_its_guide_names(signed_in: Page) -> None:
    """Whoever follows the guide finds each thing under the name that it has there."""
    drop(signed_in, ("guide.csv", "text/csv", PEOPLE))
    wait_looked_at(signed_in)
    card = signed_in.locator(".headrace-card")
    card.locator("summary").click()
    named = re.findall(r"(?<![*!])\*([^*]+)\*", GUIDE.read_text())
    assert {"More options", "Upload"} <= set(named)
    for name in named:
        place = signed_in.locator("form.headrace-upload").get_by_text(name, exact=True)
        place.locator("visible=true").first.wait_for()


def test_page_files_for_one_table_are_told_before_one_is_lost(signed_in: Page) -> None:
    """Two files of one name would take each other's place: both cards say so, and what helps."""
    drop(
        signed_in,
        ("same.csv", "text/csv", PEOPLE),
        ("Same.csv", "text/csv", "id\n1\n"),
        ("alone.csv", "text/csv", PEOPLE),
    )
    wait_looked_at(signed_in)
    first, second, third = signed_in.locator(".headrace-card").all()
    database = first.get_by_label("Database")
    warning = "only one of the two would be there"
    assert first.get_by_text(warning).count() == 0  # databases are told apart by capitals
    database.fill("Same")
    first.get_by_text(f"Same.csv goes to Same/same, too: {warning}").wait_for()
    second.get_by_text(f"same.csv goes to Same/Same, too: {warning}").wait_for()
    assert third.get_by_text(warning).is_hidden()
    for card in (first, second):
        card.get_by_label("If the table exists").select_option("append")
    first.get_by_text(warning).wait_for(state="hidden")
    second.get_by_label("If the table exists").select_option("create")
    first.get_by_text(warning).wait_for()
    first.get_by_role("button", name="Remove same.csv").click()
    second.get_by_text(warning).wait_for(state="hidden")


def test_page_file_that_is_wrong_says_where_and_what_to_do(signed_in: Page) -> None:
    """A broken file names its line before it is sent; an option that mends it makes it ready."""
    drop(signed_in, ("bad.csv", "text/csv", BAD))
    problem = signed_in.locator(".headrace-card .headrace-problem")
    problem.get_by_text("Line 3 has").wait_for()
    said = problem.inner_text()
    assert "What to do" in said
    assert said.lower().count("line 3") == 1
    assert "on_bad_rows" not in said
    assert signed_in.get_by_role("button", name="Upload").is_hidden()
    problem.get_by_role("button", name="Put bad rows in a table of their own").click()
    signed_in.get_by_role("button", name="Upload").wait_for()
    assert (
        signed_in.locator(".headrace-card").get_by_label("Bad rows").input_value() == "quarantine"
    )
    assert problem.is_hidden()
    assert signed_in.locator(".headrace-card details[open]").count() == 1


def test_page_of_uploads_says_what_became_of_each(signed_in: Page, system: System) -> None:
    """Also of one that changed nothing, and of one without a name; times are of people."""
    for _ in range(2):
        system.wait_until_live(system.upload(b"id\n1\n", "twice.csv"))
    refused = system.client.post("/ingest", content=b"id\n1\n", headers=system.auth).json()
    failed = system.post(BAD.encode(), "odd.csv").json()
    signed_in.goto(f"{system.url}/ingest/receipts")
    listed = signed_in.locator(".headrace-files li")
    said = [" ".join(each.split()) for each in listed.all_inner_texts()]
    assert any(each.startswith("twice.csv: nothing changed: /twice/twice 20") for each in said)
    assert any(each.startswith("twice.csv: published: /twice/twice 20") for each in said)
    assert any(each.startswith("without a name: ") for each in said), refused
    signed_in.goto(f"{system.url}{failed['instance']}")
    problem = signed_in.locator(".headrace-problem")
    assert "That is on the upload page." in problem.inner_text()
    received = signed_in.locator("dt", has_text="Received").locator("+ dd").inner_text()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", received)


def test_page_file_that_no_option_helps_offers_none(signed_in: Page) -> None:
    """Nothing can be chosen for a file without a byte, and it can be removed."""
    drop(signed_in, ("empty.csv", "text/csv", ""))
    card = signed_in.locator(".headrace-card")
    card.get_by_text("The file has no bytes.").wait_for()
    assert card.get_by_label("Database").is_hidden()
    card.get_by_role("button", name="Remove empty.csv").click()
    assert card.count() == 0


def test_page_upload_that_fails_says_so_and_can_be_tried_again(
    signed_in: Page, system: System
) -> None:
    """What only the merge can refuse is shown on the card, and the person can choose otherwise."""
    system.upload(b"id\n1\n", "taken.csv")
    drop(signed_in, ("taken.csv", "text/csv", "id\n2\n"))
    card = signed_in.locator(".headrace-card")
    card.get_by_label("If the table exists").select_option("create")
    card.get_by_text("Cannot be made, because it is there").wait_for()
    signed_in.get_by_role("button", name="Upload").click()
    card.get_by_text("The name is taken.").wait_for(timeout=LIVE_MS)
    card.get_by_role("button", name="Try taken.csv again").click()
    card.get_by_label("If the table exists").select_option("append")
    signed_in.get_by_role("button", name="Upload").click()
    card.get_by_role("link", name="/taken/taken").wait_for(timeout=LIVE_MS)
    assert [row["id"] for row in system.rows("/taken/taken")] == [1, 2]


def test_page_says_before_which_columns_stay(signed_in: Page, system: System) -> None:
    """Who replaces a table by a file that has less sees what is left, and can choose otherwise."""
    system.upload(b"id,zip,town\n1,2,x\n", "stays.csv")
    drop(signed_in, ("stays.csv", "text/csv", "id\n3\n"))
    card = signed_in.locator(".headrace-card")
    card.get_by_text("the file does not have stay, and are empty: zip, town").wait_for()
    card.get_by_label("If the table exists").select_option("append")
    card.get_by_text("the file does not have are empty in its rows: zip, town").wait_for()


def test_page_hostile_names_are_text_everywhere(signed_in: Page, system: System) -> None:
    """HTML in the names of a file, a table and a column is shown, and never done.

    The page works under a policy that allows no script within it.
    """
    signed_in.route("**/ingest", _with_policy)
    signed_in.reload()
    body = f'"{HTML_NAME}"\n"<script>alert(2)</script>"\n'
    drop(signed_in, (f"{HTML_NAME}.csv", "text/csv", body))
    card = signed_in.locator(".headrace-card")
    card.get_by_role("cell").get_by_text("<script>alert(2)</script>").wait_for()
    assert card.get_by_role("heading").first.inner_text() == f"{HTML_NAME}.csv"
    card.get_by_label("Table", exact=True).fill(HTML_NAME)
    card.get_by_role("heading", name=f"/{HTML_NAME}").wait_for()
    signed_in.get_by_role("button", name="Upload").click()
    card.get_by_role("link", name="Receipt").wait_for(timeout=LIVE_MS)
    card.get_by_role("link", name="Receipt").click()
    assert signed_in.get_by_role("heading", level=1).inner_text() == f"{HTML_NAME}.csv"
    signed_in.get_by_role("cell", name=HTML_NAME).wait_for()
    assert signed_in.locator("img, .content script").count() == 0


def test_page_can_be_used_by_keyboard_alone(page: Page, system: System) -> None:
    """Sign in, choose, upload and follow the link, without a mouse."""
    page.goto(f"{system.url}/ingest")
    _tab_to(page, "#headrace-token")
    page.keyboard.type(system.token)
    page.keyboard.press("Enter")
    page.get_by_label("Choose files").wait_for()
    page.locator("body.headrace-scripted").wait_for()
    _tab_to(page, "#headrace-files")
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Space")
    chosen.value.set_files({"name": "keys.csv", "mimeType": "", "buffer": PEOPLE.encode()})
    wait_looked_at(page)
    _tab_to(page, ".headrace-buttons button")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="/keys/keys").wait_for(timeout=LIVE_MS)
    _tab_to(page, ".headrace-link a")
    page.keyboard.press("Enter")
    page.get_by_role("cell", name="Grace").wait_for()


def test_page_works_without_a_script(browser: Browser, system: System) -> None:
    """A plain form signs in, uploads, says what is wrong, and leads to the rows."""
    with browser.new_context(java_script_enabled=False, viewport=PHONE) as context:  # type: ignore[arg-type]
        page = context.new_page()
        sign_in(page, system.url, system.token, database="plain")
        choose = page.get_by_label("Choose files")
        choose.set_input_files({"name": "bad.csv", "mimeType": "", "buffer": BAD.encode()})
        page.get_by_role("button", name="Upload").click()
        page.get_by_text("Line 3 has").wait_for()
        page.get_by_role("link", name="Upload a file…").click()
        page.get_by_label("Database").fill("plain")
        choose.set_input_files({"name": "people.csv", "mimeType": "", "buffer": PEOPLE.encode()})
        page.get_by_role("button", name="Upload").click()
        page.wait_for_url("**/ingest/receipts/*")
        page.get_by_role("link", name="/plain/people").click(timeout=LIVE_MS)
        page.get_by_role("cell", name="Grace").wait_for()


def test_page_has_no_barriers_in_any_state(signed_in: Page, system: System) -> None:
    """axe-core finds nothing in any page, and none is wider than a phone."""
    states = {"empty": find_barriers(signed_in)}
    drop(signed_in, ("axe.csv", "text/csv", PEOPLE), ("bad.csv", "text/csv", BAD))
    wait_looked_at(signed_in)
    for summary in signed_in.locator(".headrace-card summary").all():
        summary.click()
    states["preview and error"] = find_barriers(signed_in)
    signed_in.get_by_role("button", name="Upload").click()
    signed_in.get_by_role("link", name="/axe/axe").wait_for(timeout=LIVE_MS)
    states["done"] = find_barriers(signed_in)
    signed_in.get_by_role("link", name="Receipt").click()
    signed_in.get_by_text("SHA-256").wait_for()
    states["receipt"] = find_barriers(signed_in)
    signed_in.goto(f"{system.url}/ingest/receipts/{'0' * 32}")
    states["problem"] = find_barriers(signed_in)
    signed_in.goto(f"{system.url}/ingest/receipts")
    states["uploads"] = find_barriers(signed_in) + find_overflow(signed_in)
    signed_in.goto(f"{system.url}/ingest/audit")
    states["audit log"] = find_barriers(signed_in) + find_overflow(signed_in)
    signed_in.goto(f"{system.url}/axe")
    states["database"] = find_overflow(signed_in)
    signed_in.goto(f"{system.url}/ingest")
    signed_in.get_by_role("button", name="Sign out").click()
    signed_in.get_by_label("Token").wait_for()
    states["signed out"] = find_barriers(signed_in)
    assert states == {state: [] for state in states}


def test_page_is_small_and_asks_nobody_else(browser: Browser, session: Any, system: System) -> None:
    """The first paint takes less than 100 KB in all, and everything is of this host."""
    sizes: dict[str, int] = {}

    def note(response: Response) -> None:
        found = response.request.sizes()
        sizes[response.url] = found["responseHeadersSize"] + found["responseBodySize"]

    with page_of(browser, session) as page:
        page.on("response", note)
        page.goto(f"{system.url}/ingest", wait_until="networkidle")
    assert {urlsplit(url).netloc for url in sizes} == {urlsplit(system.url).netloc}
    assert any(url.endswith("/upload.js") for url in sizes)
    assert sum(sizes.values()) < FIRST_PAINT_AT_MOST_BYTES


def test_page_asked_for_is_where_who_signs_in_goes_on(page: Page, system: System) -> None:
    """Also after a wrong token; from there the uploads and the audit log are a click away."""
    receipt = system.upload(b"a\n" + b"1\n" * 750_000, "large.csv")
    page.goto(f"{system.url}/ingest/audit?limit=5")
    for token in ("wrong", system.token):
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Audit log").wait_for()
    assert page.url.endswith("/ingest/audit?limit=5")
    page.get_by_role("link", name="Upload a file…").click()
    page.get_by_text("Signed in as root; may write to every database.").wait_for()
    page.get_by_role("link", name="Audit log").wait_for()
    page.get_by_role("link", name="Uploads").click()
    page.locator(f"a[href='/ingest/receipts/{receipt['id']}']").click()
    page.get_by_text("large.csv, 1.5 MB").wait_for()


def test_page_of_one_database_knows_it(page: Page, system: System) -> None:
    """Who may write to one database sees which, and need not type it; no link is refused."""
    made = system.client.post(
        "/ingest/tokens", json={"scopes": ["ingest:only"]}, headers=system.auth
    ).json()
    sign_in(page, system.url, made["token"])
    page.get_by_text("may write to: only.").wait_for()
    drop(page, ("people.csv", "text/csv", PEOPLE))
    page.get_by_role("heading", name="New table only/people").wait_for()
    assert page.get_by_role("link", name="Audit log").count() == 0


def test_page_is_linked_and_looks_like_the_instance(page: Page, system: System) -> None:
    """Home and database pages lead to it, with the database chosen; the theme is the instance's."""
    system.wait_until_live(system.upload(b"a\n1\n", "linked.csv"))
    page.goto(f"{system.url}/linked")
    page.locator(".content").get_by_role("link", name="Upload a file…").click()
    page.get_by_text("The footer of Ada's data shop").wait_for()
    page.get_by_label("Token").fill(system.token)
    page.get_by_role("button", name="Sign in").click()
    drop(page, ("other.csv", "", PEOPLE))
    page.get_by_role("heading", name="New table linked/other").wait_for()
    page.goto(f"{system.url}/")
    page.locator(".content").get_by_role("link", name="Upload a file…").click()
    assert urlsplit(page.url).path == "/ingest"


def test_preview_needs_the_right_to_write_and_leaves_nothing(system: System) -> None:
    """A token of another database learns nothing; nothing is kept on the disk or in a receipt."""
    made = system.client.post(
        "/ingest/tokens", json={"scopes": ["ingest:mine"]}, headers=system.auth
    ).json()
    other = {"Authorization": f"Bearer {made['token']}"}
    before = system.client.get("/ingest/receipts", headers=system.auth).json()["receipts"]
    codes = {}
    for name, headers in {"none": {}, "other": other, "root": system.auth}.items():
        answer = system.client.post(
            "/ingest/preview?filename=secret.csv", content=b"a\n1\n", headers=headers
        )
        codes[name] = answer.status_code
    assert codes == {"none": 401, "other": 403, "root": 200}
    large = system.client.post(
        "/ingest/preview?filename=a.csv", content=b"a\n" * 2**19 + b"1", headers=system.auth
    )
    assert large.json()["code"] == "too-large"
    assert system.client.get("/ingest/receipts", headers=system.auth).json()["receipts"] == before
    assert list((system.data / "primary").rglob("preview-*")) == []


def _note_offset(offsets: list[int], request: Request) -> None:
    if request.method == "PATCH":
        offsets.append(int(request.headers["upload-offset"]))


def _with_policy(route: Route) -> None:
    response = route.fetch()
    policy = {"content-security-policy": "default-src 'self'"}
    route.fulfill(response=response, headers={**response.headers, **policy})


def _awaited(page: Page) -> int:
    """Give the generation that a browser asks every reader for."""
    cookies = {each["name"]: each["value"] for each in page.context.cookies()}
    return int(cookies["headrace_min_generation"])


def _tab_to(page: Page, selector: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
            return
    pytest.fail(f"no way to {selector} by Tab")
