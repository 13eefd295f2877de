"""The built pages in a browser: no errors, search, solutions that unfold, mathematics, accessibility in light and in dark mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
NOTE = 'class="exercise admonition'
NOT_PRINTED = (".bd-sidebar-primary", ".bd-header-article", ".prev-next-area", ".headerlink")

# All that is looked at on a page, by the width that it is looked at with: to load a page takes longer than to look at it.
DESKTOP = """() => document.fonts.ready.then(() => ({
  empty_boxes: document.querySelectorAll("i.fa-solid, i.fas, i.fa-regular, i.fa-brands, svg.fa-circle-question").length,
  undrawn: [...document.images].filter(image => image.naturalWidth === 0).map(image => image.src.slice(-80)),
  formula: document.querySelector("article math")?.getBoundingClientRect().width ?? null,
  wrong_formulas: document.querySelectorAll("merror").length,
  formula_font: [...document.fonts].some(font => font.family.includes("STIX") && font.status === "loaded"),
  weight: performance.getEntries().filter(entry => entry.decodedBodySize && entry.initiatorType !== "img")
    .reduce((sum, entry) => sum + entry.decodedBodySize, 0),
  letters: [...document.fonts].some(font => font.family.includes("Font Awesome") && font.status === "loaded"),
}))"""
WIDE = """() => ({
  cut: [...document.querySelectorAll(".cell_output .output")]
    .filter(box => [box, ...box.querySelectorAll("pre")].some(each => each.scrollWidth > each.clientWidth + 1))
    .map(box => box.textContent.trim().slice(0, 60)),
  paddings: [...document.querySelectorAll(".cell_output td")].map(cell => parseFloat(getComputedStyle(cell).paddingRight)),
})"""
PHONE = """() => ({
  shrunk: [...document.querySelectorAll(".cell_output figure img")]
    .map(image => image.width / Math.min(image.naturalWidth, 700)),
  figures: [...document.querySelectorAll(".cell_output figure")].map(box => box.clientWidth),
})"""
PAPER = """([most, hidden]) => ({
  outside: [...document.querySelectorAll("article :is(pre, table, img)")]
    .filter(each => each.getClientRects().length && each.getBoundingClientRect().right > most)
    .map(each => `${each.tagName} ${each.textContent.trim().slice(0, 60)}`),
  printed: [...document.querySelectorAll(hidden)]
    .filter(each => each.getClientRects().length && each.checkVisibility({visibilityProperty: true}))
    .map(each => each.className),
})"""
DRAWN_ANEW = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def appears(page: Page, selector: str) -> bool:
    try:
        page.wait_for_selector(selector, timeout=30_000, state="attached")
    except playwright_api.TimeoutError:
        return False
    return True


@pytest.fixture(scope="module")
def seen(browser: Browser, address: str, site: Path, pages: list[Path]) -> dict[Path, dict[str, Any]]:
    """What there is to see on each page, loaded once: at desktop width, on wider and narrower screens, and on paper."""
    return {path: look_at(browser, address, path, (site / path).read_text(encoding="utf-8")) for path in pages}


def look_at(browser: Browser, address: str, path: Path, text: str) -> dict[str, Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems = watch(page, address)
    page.goto(address + path.as_posix(), wait_until="networkidle")
    found: dict[str, Any] = {
        "problems": problems,
        "has_icons": appears(page, "svg.svg-inline--fa"),
        "has_formulas": FORMULA in text,
        "has_notes": NOTE in text,
    }

    def look(width: int, script: str, argument: object = None) -> Any:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(DRAWN_ANEW)
        return page.evaluate(script, argument)

    found |= look(1280, DESKTOP) | look(1440, WIDE) | look(390, PHONE)
    found["scrolled"] = {width: look(width, "document.documentElement.scrollWidth") for width in (360, 768)}
    page.emulate_media(media="print")
    found |= look(680, PAPER, [681, ", ".join(NOT_PRINTED)])  # an A4 page between its margins
    context.close()
    return found


def faults(seen: dict[Path, dict[str, Any]], what: str) -> dict[Path, Any]:
    """Pages on which `what` was found, where nothing should be."""
    return {path: page[what] for path, page in seen.items() if page[what]}


def test_every_page_loads_without_an_error(seen: dict[Path, dict[str, Any]]) -> None:
    assert faults(seen, "problems") == {}


def test_first_address_leads_to_the_landing_page(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").first.is_visible()


def test_pages_work_from_a_folder_on_disk(page: Page, site: Path, pages: list[Path]) -> None:
    problems = watch(page, "file://")
    with_formulas = pages_with(FORMULA, site, pages)
    for path in pages:
        page.goto((site / path).resolve().as_uri())
        if path in with_formulas:
            assert page.locator("article math").first.is_visible()
            assert page.locator("article h1").first.is_visible()
    assert problems == []


def test_formulas_are_drawn(seen: dict[Path, dict[str, Any]]) -> None:
    assert faults(seen, "has_formulas")
    for path, page in seen.items():
        assert (page["formula"] is not None) is page["has_formulas"] is page["formula_font"], path
        assert not page["has_formulas"] or page["formula"] > 5, path
    assert faults(seen, "wrong_formulas") == {}


def test_no_page_weighs_more_than_a_megabyte_and_a_half_before_its_figures(seen: dict[Path, dict[str, Any]]) -> None:
    assert {path: page["weight"] for path, page in seen.items() if not 300_000 < page["weight"] < 1_500_000} == {}


def test_icons_are_drawn_and_none_is_left_as_an_empty_box(seen: dict[Path, dict[str, Any]]) -> None:
    assert faults(seen, "has_icons").keys() == seen.keys()
    assert faults(seen, "empty_boxes") == {}


def test_titles_of_notes_have_their_icons(seen: dict[Path, dict[str, Any]]) -> None:
    assert faults(seen, "has_notes")
    assert [path for path, page in seen.items() if page["has_notes"] and not page["letters"]] == []


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


def test_every_picture_is_drawn(seen: dict[Path, dict[str, Any]]) -> None:
    assert faults(seen, "undrawn") == {}


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_do_not_scroll_sideways(seen: dict[Path, dict[str, Any]], width: int) -> None:
    assert {path: page["scrolled"][width] for path, page in seen.items() if page["scrolled"][width] > width} == {}


def test_nothing_that_cells_show_is_cut_at_desktop_width(seen: dict[Path, dict[str, Any]]) -> None:
    assert faults(seen, "cut") == {}
    assert any(page["paddings"] for page in seen.values())
    assert [path for path, page in seen.items() if min(page["paddings"], default=4) < 4] == []


def test_labels_of_figures_can_be_read_on_a_phone(seen: dict[Path, dict[str, Any]]) -> None:
    assert any(page["shrunk"] for page in seen.values())
    assert [path for path, page in seen.items() if min(page["shrunk"], default=1) < 0.7] == []
    assert [path for path, page in seen.items() if max(page["figures"], default=0) > 390] == []


def test_pages_print_whole_and_without_navigation(seen: dict[Path, dict[str, Any]]) -> None:
    of_the_book = {path: page for path, page in seen.items() if path.parent.name == "book"}
    assert faults(of_the_book, "outside") == {}
    assert faults(of_the_book, "printed") == {}


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
        # Without preloading: axe would fetch style sheets by addresses relative to the wrong folder. And of what it finds in
        # order it need tell nothing, which takes as long as all the looking.
        response = axe.run(page, options={"preload": False, "resultTypes": ["violations"]}).response
        found += [
            f"{path} ({mode}): {violation['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
            for violation in response["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]
    page.context.close()
    assert found == []
