"""Opens the pages in headless Chromium, light and dark.

Nothing may leave the origin, be said on the console or be refused by a page's own policy; what the tables hold must
be on the page. Pictures go to CROCHET_PICTURES.
"""

import os
import pathlib
import sys
import tempfile

import requests
from playwright.sync_api import sync_playwright

ORIGIN = os.environ["CROCHET_ORIGIN"]
PICTURES = pathlib.Path(os.environ["CROCHET_PICTURES"])
CHROMIUM = os.environ["CROCHET_CHROMIUM"]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]

document = requests.get(ORIGIN + "/api/openapi.json", timeout=30).json()
operations = [operation for item in document["paths"].values() for operation in item.values()]
codes = document["components"]["schemas"]["Failure"]["properties"]["error"]["properties"]["code"]["enum"]
problems = []


def landing(page, problem):
    links = page.locator(".cards a").evaluate_all("all => all.map(link => link.href)")
    if len(links) < 6:
        problem(f"{len(links)} links")
    for link in links:
        status = requests.get(link, timeout=30).status_code
        if status != 200:
            problem(f"{status} for {link}")


def reference(page, problem):
    page.locator(".opblock").first.wait_for()
    shown = page.locator(".opblock").count()
    if shown != len(operations):
        problem(f"{shown} operations of {len(operations)}")
    # One is opened, and tells its refusals with their examples.
    page.locator("#operations-Gateway-callListing .opblock-summary-control").click()
    page.locator("#operations-Gateway-callListing").get_by_text("PAYMENT_REQUIRED").first.wait_for()


def errors(page, problem):
    for code in codes:
        if page.locator(f'section[id="{code}"]').count() != 1:
            problem(f"no anchor {code}")
    page.goto(ORIGIN + "/docs/errors#SELLER_TIMEOUT")


def open_page(browser, where, scheme, check):
    page = browser.new_page()
    page.emulate_media(color_scheme=scheme)

    def problem(text):
        problems.append(f"{where} ({scheme}): {text}")

    def asked(request):
        if not request.url.startswith((ORIGIN + "/", "data:")):
            problem(f"asks {request.url}")

    def answered(response):
        if response.status >= 400:
            problem(f"{response.status} for {response.url}")

    def said(message):
        if message.type in ("error", "warning"):
            problem(f"console: {message.text}")

    page.on("request", asked)
    page.on("response", answered)
    page.on("console", said)
    page.on("pageerror", lambda error: problem(f"error: {error}"))
    page.goto(ORIGIN + where, wait_until="networkidle")
    check(page, problem)
    name = where.strip("/").replace("/", "-") or "landing"
    page.screenshot(path=PICTURES / f"{name}-{scheme}.png")
    page.close()


PICTURES.mkdir(parents=True, exist_ok=True)
with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="crochet-browser-") as home:
    browser = playwright.chromium.launch_persistent_context(
        home, executable_path=CHROMIUM, headless=True, viewport={"width": 1280, "height": 1400}, args=FLAGS
    )
    for scheme in ["light", "dark"]:
        for where, check in [("/", landing), ("/docs", reference), ("/docs/errors", errors)]:
            open_page(browser, where, scheme, check)
    browser.close()
if problems:
    sys.exit("\n".join(problems))
print(f"{len(operations)} operations and {len(codes)} codes shown, light and dark; nothing left {ORIGIN}")
