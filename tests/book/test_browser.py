"""The built pages in a browser: no errors, search, solutions that unfold, mathematics, accessibility in light and in dark mode."""

from collections.abc import Iterator
from pathlib import Path

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'dev')")
axe_api = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed (extra 'dev')"
)

Browser, Page = playwright_api.Browser, playwright_api.Page
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def in_mode(browser: Browser, mode: str) -> Page:
    context = browser.new_context(color_scheme=mode, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.add_init_script(f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}')")
    return context.new_page()


def watch(page: Page, own: str) -> list[str]:
    """Collect what goes wrong on a page, and every request that leaves the site."""
    problems: list[str] = []

    def on_console(message: playwright_api.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"console: {message.text}")

    def on_request(request: playwright_api.Request) -> None:
        if not request.url.startswith((own, "data:", "blob:")):
            problems.append(f"request to another server: {request.url}")

    def on_failure(request: playwright_api.Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the test went on to the next page
            problems.append(f"failed: {request.url} ({request.failure})")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.on("request", on_request)
    page.on("requestfailed", on_failure)
    return problems


def pages_with(mark: str, site: Path, pages: list[Path]) -> list[Path]:
    """Pages whose HTML holds `mark`; at least one has to."""
    found = [path for path in pages if mark in (site / path).read_text(encoding="utf-8")]
    assert found, mark
    return found


FORMULA = 'class="math'
SOLUTION = 'class="solution'


def test_every_page_loads_without_an_error(page: Page, address: str, pages: list[Path]) -> None:
    problems = watch(page, address)
    for path in pages:
        page.goto(address + path.as_posix(), wait_until="networkidle")
        assert problems == [], path


def test_first_address_leads_to_the_landing_page(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").first.is_visible()


def test_pages_work_from_a_folder_on_disk(page: Page, site: Path, pages: list[Path]) -> None:
    problems = watch(page, "file://")
    for path in pages:
        page.goto((site / path).resolve().as_uri())
    for path in pages_with(FORMULA, site, pages):
        page.goto((site / path).resolve().as_uri())
        page.wait_for_selector("mjx-container", timeout=10_000)
        assert page.locator("article h1").first.is_visible()
    assert problems == []


def test_formulas_are_drawn(page: Page, address: str, site: Path, pages: list[Path]) -> None:
    for path in pages_with(FORMULA, site, pages):
        page.goto(address + path.as_posix())
        page.wait_for_selector("mjx-container", timeout=10_000)
        formulas = page.locator("mjx-container")
        assert formulas.first.bounding_box()["width"] > 5, path
        assert page.locator("mjx-merror").count() == 0, path


def test_icons_are_drawn_and_none_is_left_as_an_empty_box(page: Page, address: str, pages: list[Path]) -> None:
    for path in pages:
        page.goto(address + path.as_posix())
        page.wait_for_selector("svg.svg-inline--fa", timeout=10_000, state="attached")
        assert page.locator("i.fa-solid, i.fas, i.fa-regular, i.fa-brands, svg.fa-circle-question").count() == 0, path


LETTERS_DRAWN = """document.fonts.ready.then(() =>
  [...document.fonts].some(font => font.family.includes("Font Awesome") && font.status === "loaded"))"""


def test_titles_of_notes_have_their_icons(page: Page, address: str, site: Path, pages: list[Path]) -> None:
    for path in pages_with('class="exercise admonition', site, pages):
        page.goto(address + path.as_posix())
        assert page.evaluate(LETTERS_DRAWN), path


def test_search_finds_a_word(page: Page, address: str) -> None:
    page.goto(address + "search.html?q=sparsity")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    targets = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any("glossary" in target for target in targets)


def test_the_search_field_opens_and_leads_to_results(page: Page, address: str) -> None:
    page.goto(address + "book/index.html")
    page.locator(".search-button__button:visible").first.click()
    page.locator("input[type=search]:visible").first.fill("calibration")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert "q=calibration" in page.url


def test_solutions_unfold(page: Page, address: str, site: Path, pages: list[Path]) -> None:
    for path in pages_with(SOLUTION, site, pages):
        page.goto(address + path.as_posix())
        solutions = page.locator(".solution")
        assert solutions.count() > 0, path
        for number in range(solutions.count()):
            solution = solutions.nth(number)
            content = solution.locator("section").first
            button = solution.locator("button.toggle-button")
            button.wait_for()
            assert not content.is_visible(), path
            assert button.get_attribute("aria-expanded") == "false"
            button.click()
            assert button.get_attribute("aria-expanded") == "true"
            assert content.is_visible(), path
            assert content.inner_text().strip(), path


def test_a_claim_on_the_scoreboard_leads_to_its_card(page: Page, address: str) -> None:
    page.goto(address + "book/scoreboard.html")
    links = page.locator("#scoreboard-table tbody th a:has(code)")
    targets = links.evaluate_all("links => links.map(link => link.href)")
    assert targets
    for target in targets:
        page.goto(target)
        card = page.locator(f"[id='{target.split('#')[1]}']")
        assert card.is_visible(), target
        assert "effnotes-claim" in card.get_attribute("class").split()


def test_the_scoreboard_is_filtered_from_the_keyboard(page: Page, address: str) -> None:
    page.goto(address + "book/scoreboard.html")
    rows = page.locator("#scoreboard-table tbody tr")
    everything = rows.count()
    assert rows.evaluate_all("rows => rows.filter(row => row.checkVisibility()).length") == everything
    for group, chosen in (("is", "is-shown"), ("in", "in-1")):
        page.locator(f"#board-{group}-all").focus()
        page.keyboard.press("ArrowDown")
        assert page.locator(f"#board-{chosen}").is_checked()
    kept = page.locator("#scoreboard-table tbody tr.effnotes-is-shown.effnotes-in-1").count()
    assert rows.evaluate_all("rows => rows.filter(row => row.checkVisibility()).length") == kept < everything


def test_every_picture_is_drawn(page: Page, address: str, pages: list[Path]) -> None:
    for path in pages:
        page.goto(address + path.as_posix())
        images = page.locator("img").evaluate_all("images => images.map(image => [image.src.slice(-80), image.naturalWidth])")
        assert [name for name, width in images if width == 0] == [], path


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_do_not_scroll_sideways(browser: Browser, address: str, pages: list[Path], width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    for path in pages:
        page.goto(address + path.as_posix())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


OUTSIDE = """(most) => [...document.querySelectorAll("article :is(pre, table, img)")]
  .filter(each => each.getClientRects().length && each.getBoundingClientRect().right > most)
  .map(each => `${each.tagName} ${each.textContent.trim().slice(0, 60)}`)"""


def test_nothing_that_cells_show_is_cut_at_desktop_width(browser: Browser, address: str, pages: list[Path]) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    for path in pages:
        page.goto(address + path.as_posix())
        cut = page.evaluate(
            """() => [...document.querySelectorAll(".cell_output .output")]
            .filter(box => [box, ...box.querySelectorAll("pre")].some(each => each.scrollWidth > each.clientWidth + 1))
            .map(box => box.textContent.trim().slice(0, 60))"""
        )
        assert cut == [], path
        padding = page.locator(".cell_output td").evaluate_all("cells => cells.map(cell => getComputedStyle(cell).paddingRight)")
        assert not [wide for wide in padding if float(wide.removesuffix("px")) < 4], path
    context.close()


def test_labels_of_figures_can_be_read_on_a_phone(browser: Browser, address: str, pages: list[Path]) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    for path in pages:
        page.goto(address + path.as_posix())
        figures = page.locator(".cell_output figure img")
        shrunk = figures.evaluate_all("images => images.map(image => image.width / Math.min(image.naturalWidth, 700))")
        assert not [share for share in shrunk if share < 0.7], path
        assert not [
            box
            for box in page.locator(".cell_output figure").evaluate_all("boxes => boxes.map(box => box.clientWidth)")
            if box > 390
        ]
    context.close()


def test_pages_print_whole_and_without_navigation(browser: Browser, address: str, pages: list[Path]) -> None:
    context = browser.new_context(viewport={"width": 680, "height": 1000})  # an A4 page between its margins
    page = context.new_page()
    for path in (path for path in pages if path.parent.name == "book"):
        page.goto(address + path.as_posix())
        page.emulate_media(media="print")
        assert page.evaluate(OUTSIDE, 681) == [], path
        for hidden in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-area", ".headerlink"):
            assert not any(each.is_visible() for each in page.locator(hidden).all()), f"{path}: {hidden}"
    context.close()


# Colours are the same on all profiles: the dark ones are looked at on one site.
@pytest.mark.parametrize(
    ("site", "mode"),
    [("smoke", "light"), *(pytest.param("built", mode, marks=pytest.mark.slow) for mode in ("light", "dark"))],
    indirect=["site"],
)
def test_axe_finds_no_serious_violation(browser: Browser, address: str, pages: list[Path], mode: str) -> None:
    page = in_mode(browser, mode)
    axe = axe_api.Axe()
    found = []
    for path in pages:
        page.goto(address + path.as_posix())
        assert page.evaluate("document.documentElement.dataset.theme") == mode, path
        # Without preloading: axe would fetch style sheets by addresses relative to the wrong folder.
        response = axe.run(page, options={"preload": False}).response
        found += [
            f"{path} ({mode}): {violation['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
            for violation in response["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]
    page.context.close()
    assert found == []
