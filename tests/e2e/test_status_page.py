"""The status page in a real browser, before readers that come and go."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from datasette.app import Datasette

from tests.conftest import wait_for
from tests.e2e.page_kit import (
    PHONE,
    WIDE,
    chromium,
    find_barriers,
    find_overflow,
    sign_in,
)
from tests.e2e.primary_kit import TOKEN
from tests.e2e.readers_kit import Reader, world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Response

PEOPLE = b"id,name\n1,Ada\n2,Grace\n"
HTML_NAME = "<img src=x onerror=alert(1)>.csv"
OURS_AT_MOST_BYTES = 50_000  # besides Datasette's own styles: 16 KB of 0.65, 81 KB of 1.0
SOON_MS = 30_000  # the deadline is for broken programs
SILENT_MS = 60_000  # a reader that is gone is not missed at once


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Reader]]:
    """Give readers in Frankfurt, Ashburn and Sydney, and a few uploads."""
    folder = tmp_path_factory.mktemp("status")
    (folder / "config").mkdir()
    private = {"databases": {"wages": {"allow": {"id": "root"}}}}
    (folder / "config" / "metadata.json").write_text(json.dumps(private))
    with world(
        folder, "fra", "iad", "syd", flags=("--datasette-dir", f"{folder / 'config'}")
    ) as found:
        primary = found[0].primary
        primary.upload(PEOPLE, "people.csv")
        primary.upload(PEOPLE, "wages.csv")
        last = primary.upload(PEOPLE, HTML_NAME, database="people")
        for reader in found:
            reader.wait_until_ready(last["generation"])
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give one browser; each page has its own profile."""
    with chromium() as browser:
        yield browser


@contextmanager
def page_of(browser: Browser, **options: Any) -> Iterator[Page]:
    """Give a page on which no script ever fails or is refused anything, and no dialog opens."""
    with browser.new_context(**options) as context:
        page = context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("response", lambda answer: wrong.append(answer.url) if is_refusal(answer) else None)
        yield page
        assert not wrong


def is_refusal(answer: Response) -> bool:
    """Tell whether a script was refused what it asked for: the browser's console says so."""
    return answer.request.resource_type == "fetch" and 400 <= answer.status < 500


@pytest.fixture
def page(browser: Browser, readers: list[Reader]) -> Iterator[Page]:
    """Give the status page of the first reader to a stranger."""
    with page_of(browser, viewport=WIDE) as page:
        page.goto(f"{readers[0].url}/-/headrace")
        yield page


def row_of(page: Page, generation: int) -> Any:
    """Find a generation's line."""
    return page.locator(f'[data-generation="{generation}"]')


def test_generation_is_seen_in_all_regions_without_a_reload(
    page: Page, readers: list[Reader]
) -> None:
    """Who has the page open sees a new generation, how far it has come, and is told by words."""
    page.evaluate("window.notReloaded = true")
    made = readers[0].primary.upload(b"id,name\n3,Mary\n", "people.csv")
    row = row_of(page, made["generation"])
    row.get_by_text("people.csv → /people").wait_for(timeout=SOON_MS)
    row.get_by_text("everywhere after").wait_for(timeout=SOON_MS)
    lead = page.locator(".headrace-lead")
    lead.get_by_text(str(made["generation"]), exact=True).wait_for(timeout=SOON_MS)
    assert page.get_by_text(f"Generation {made['generation']} is published.").count() == 1
    assert page.get_by_role("heading", level=1).inner_text() == "Everything is up to date"
    names = page.locator(".headrace-regions h3").all_inner_texts()
    assert [name.split()[0] for name in names] == ["Frankfurt", "Ashburn", "Sydney"]
    assert page.locator(".headrace-map g").count() == 3
    line = page.get_by_role("img", name="Sydney: The last")
    assert line.locator("rect").count() >= 1
    assert row.locator("time").inner_text().endswith(" ago")
    assert page.evaluate("window.notReloaded")


def test_readers_that_are_gone_are_told_of_in_words(
    browser: Browser, page: Page, readers: list[Reader]
) -> None:
    """One that sleeps and one that is killed are missed, and told of with what to do.

    The page of one that is killed says itself that it is gone, and goes on when it is back.
    """
    _here, killed, asleep = readers
    with page_of(browser) as lost:
        lost.goto(f"{killed.url}/-/headrace")
        lost.locator(".headrace-regions li").first.wait_for()
        asleep.signal(signal.SIGSTOP)
        killed.signal(signal.SIGKILL)
        killed.process.wait()
        lost.get_by_text("This reader does not answer.").wait_for(timeout=SOON_MS)
        trouble = page.locator(".headrace-troubles")
        trouble.get_by_text("Nothing is heard from Ashburn and Sydney.").wait_for(timeout=SILENT_MS)
        assert "start it" in trouble.inner_text()
        heading = page.get_by_role("heading", level=1)
        assert heading.inner_text() == "Up to date in every region that is awake"
        card = page.locator(".headrace-regions li", has_text="Sydney")
        assert "silent" in card.inner_text()
        assert find_barriers(page) == []
        asleep.signal(signal.SIGCONT)
        killed.start()
        page.get_by_role("heading", name="Everything is up to date").wait_for(timeout=SOON_MS)
        lost.locator(".headrace-lost").wait_for(state="hidden", timeout=SOON_MS)
        assert trouble.count() == 0


def test_last_uploads_are_shown_to_those_who_may_write(
    browser: Browser, page: Page, readers: list[Reader]
) -> None:
    """A stranger sees none of them, nor anything of a private database; who has signed in does."""
    reader = readers[0]
    page.get_by_role("link", name="Sign in…").wait_for()
    assert "wages" not in page.content()
    page.get_by_role("link", name="Sign in…").click()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/ingest/status")
    page.get_by_role("link", name="wages.csv").wait_for()
    page.goto(f"{reader.url}/-/headrace")
    uploads = page.locator('[data-part="uploads"]')
    uploads.get_by_role("link", name="wages.csv").wait_for()
    assert uploads.get_by_role("link", name=HTML_NAME).count() == 1
    assert page.locator("main img").count() == 0
    reader.primary.post(b"a,b\n1,2,3\n4\n", "broken.csv")
    uploads.get_by_role("link", name="broken.csv").wait_for(timeout=SOON_MS)
    assert "wages" not in page.locator('[data-part="generations"]').inner_text()
    root = {"Cookie": f"ds_actor={Datasette(secret=TOKEN).sign({'a': {'id': 'root'}}, 'actor')}"}
    text = httpx.get(f"{reader.url}/-/headrace", headers={"Accept": "text/html", **root}).text
    assert text.count("wages.csv") >= 2  # in the list of generations as well
    bob = {"Cookie": f"ds_actor={Datasette(secret=TOKEN).sign({'a': {'id': 'bob'}}, 'actor')}"}
    text = httpx.get(f"{reader.url}/-/headrace", headers={"Accept": "text/html", **bob}).text
    assert "There is none to a database that you may write to." in text
    assert "wages" not in text


def test_page_is_whole_without_a_script(browser: Browser, readers: list[Reader]) -> None:
    """What there is to see is in the page as it comes, with times of day."""
    with page_of(browser, java_script_enabled=False, viewport=PHONE) as page:
        page.goto(f"{readers[0].url}/-/headrace")
        assert page.locator(".headrace-regions li").count() == 3
        assert page.locator("[data-generation]").count() >= 3
        assert page.locator("[data-generation] time").first.inner_text().endswith(" UTC")
        assert page.locator(".headrace-footer time").inner_text().endswith(" UTC")
        page.get_by_role("link", name="Sign in…").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="wages.csv").wait_for()
        cells = page.locator('[data-part="uploads"] td:nth-child(-n + 3)')
        assert cells.count() >= 6
        lefts = "cells => cells.map(cell => cell.getBoundingClientRect().left)"
        assert len(set(cells.evaluate_all(lefts))) == 1  # whatever the names of the files


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_page_has_no_barriers_and_asks_nobody_else(
    browser: Browser, readers: list[Reader], colours: str
) -> None:
    """axe-core finds nothing, nothing is wider than a phone, and it is small and of one host."""
    responses: list[Response] = []

    def note(response: Response) -> None:
        responses.append(response)

    with page_of(browser, color_scheme=colours) as page:
        page.on("response", note)
        page.goto(f"{readers[0].url}/-/headrace", wait_until="load")
        page.get_by_text("ago").first.wait_for()
        hosts = {each.url.partition("//")[2].partition("/")[0] for each in responses}
        not_files = ("/-/static/", "/-/headrace/events")
        files = [each for each in responses if not any(part in each.url for part in not_files)]
        sizes = [len(each.body()) for each in files]
        assert find_barriers(page) == []
        assert find_overflow(page) == []
        sign_in(page, readers[0].url, TOKEN)
        page.goto(f"{readers[0].url}/ingest/status")
        page.get_by_role("link", name="wages.csv").wait_for()
        assert find_barriers(page) == []
        assert find_overflow(page) == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(18, 23, 30)") == (colours == "dark")
    assert hosts == {readers[0].url.partition("//")[2]}
    assert len(sizes) > 3
    assert sum(sizes) < OURS_AT_MOST_BYTES


def test_page_works_by_keyboard_and_under_a_strict_policy(
    page: Page, readers: list[Reader]
) -> None:
    """The sign-in is reached by Tab, and what is new comes without a script or style within."""

    def with_policy(route: Any) -> None:
        response = route.fetch()
        policy = {"content-security-policy": "default-src 'self'"}
        route.fulfill(response=response, headers={**response.headers, **policy})

    page.route("**/-/headrace", with_policy)
    page.reload()
    made = readers[0].primary.upload(b"id,name\n4,Joan\n", "people.csv")
    row_of(page, made["generation"]).wait_for(timeout=SOON_MS)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href')") == "/ingest/status":
            break
    page.keyboard.press("Enter")
    page.get_by_label("Token").wait_for()


def test_themed_instance_has_a_themed_page(browser: Browser, tmp_path: Any) -> None:
    """An instance with a style and a footer of its own keeps both, by day and by night."""
    config = tmp_path / "config"
    (config / "static").mkdir(parents=True)
    (config / "templates").mkdir()
    (config / "static" / "theme.css").write_text("body { background: rgb(255, 240, 200); }")
    (config / "templates" / "_footer.html").write_text("The footer of Ada's data shop")
    for name in ("metadata.json", "datasette.json"):  # of Datasette 0.65, and of 1.0
        (config / name).write_text(json.dumps({"extra_css_urls": ["/static/theme.css"]}))
    with (
        world(tmp_path, "home", flags=("--datasette-dir", str(config))) as [reader],
        page_of(browser, color_scheme="dark") as page,
    ):
        made = reader.primary.upload(PEOPLE, "people.csv")
        reader.wait_until_ready(made["generation"])
        page.goto(f"{reader.url}/-/headrace")
        page.get_by_text("you read", exact=False).or_(page.get_by_text("You read")).first.wait_for()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(255, 240, 200)"
        footer = page.locator("footer").inner_text()
        assert "The footer of Ada's data shop" in footer
        assert "read in region home" in footer
        assert page.locator(".headrace-map").count() == 0  # nobody knows where that is
        assert find_barriers(page) == []


def test_foot_of_a_page_tells_the_age_by_a_script(page: Page, readers: list[Reader]) -> None:
    """A reader of a table sees how old it is, from which file it comes, and where he is."""
    page.goto(f"{readers[0].url}/wages")
    page.goto(f"{readers[0].url}/people/people")
    foot = page.locator(".headrace-footer")
    foot.get_by_text(" ago").wait_for()
    newest = httpx.get(f"{readers[0].url}/-/headrace.json").json()["generation"]
    assert f"from people.csv, generation {newest}, read in Frankfurt" in foot.inner_text()
    foot.get_by_role("link", name="read in Frankfurt").click()
    page.get_by_role("heading", name="Everything is up to date").wait_for()
    wait_for(lambda: page.title() == "Status: Everything is up to date")
