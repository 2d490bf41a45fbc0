"""The report in a real browser: at desk and phone width, in the dark, on paper, and with the network watched."""

import html as escaping
import json
import os
import re
import runpy
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repairkit.experiments import results as kinds
from repairkit.report import html

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
BROWSERS_OWN = (".google.com", ".googleapis.com", ".gvt1.com", ".gstatic.com")  # what Chromium may ask for by itself
PHONE = 360

TESTS = Path(__file__).parents[1]
example_result = runpy.run_path(str(TESTS / "report_example.py"))["example_result"]
adversarial_result = runpy.run_path(str(TESTS / "adversarial_example.py"))["adversarial_result"]


@pytest.fixture
def chromium(tmp_path):
    """Runs the browser with a profile of its own; returns the finished process."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if binary is None and os.environ.get("CI") == "true":
        pytest.fail("expected chromium, chromium-browser or google-chrome on the PATH, found none; install one for the browser tests")
    if binary is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the PATH")

    def run(url, *flags):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run([binary, *FLAGS, profile, *flags, url], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(params=[example_result, adversarial_result], ids=["fairness", "adversarial"])
def example(request):
    return request.param()


@pytest.fixture
def report(tmp_path, example):
    path = tmp_path / "report.html"
    html.write(kinds.document(example), path)
    return path


def host(tmp_path, width, page):
    """A page that holds the report in a frame of that width and writes down its measures.

    Headless Chromium makes no window narrower than 500 px.
    """
    measure = """
        const inner = document.getElementById("frame").contentDocument, root = inner.documentElement;
        const boxes = [...inner.querySelectorAll(".scroll")];
        const wide = [...inner.body.querySelectorAll("*")].filter(e => !e.closest(".scroll") && !e.closest(".skip"))
            .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.tagName + "." + e.className);
        const text = inner.querySelector(".fig text"), drawing = text.closest("svg");
        document.getElementById("out").textContent = JSON.stringify({
            client: root.clientWidth, scroll: root.scrollWidth, wide: wide,
            boxes: boxes.length, scrolling: boxes.filter(b => b.scrollWidth > b.clientWidth).length,
            focusable: boxes.filter(b => b.tabIndex === 0).length,
            type: 9 * drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width,
            body: parseFloat(getComputedStyle(inner.body).fontSize),
        });"""
    frame = f'<iframe id="frame" style="width:{width}px;height:900px;border:0" srcdoc="{escaping.escape(page)}"></iframe>'
    path = tmp_path / "host.html"
    script = f"<script>window.onload = () => {{{measure}}}</script>"
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frame}<pre id="out"></pre>{script}</body>', encoding="utf-8")
    return path.as_uri()


def measured(chromium, tmp_path, width, page):
    dumped = chromium(host(tmp_path, width, page), "--dump-dom", "--window-size=1400,1000").stdout
    return json.loads(escaping.unescape(re.search(r'<pre id="out">(.*?)</pre>', dumped, re.DOTALL).group(1)))


@pytest.mark.parametrize("width", [PHONE, 768, 1280])
def test_only_tables_scroll_sideways(chromium, tmp_path, report, width):
    found = measured(chromium, tmp_path, width, report.read_text(encoding="utf-8"))
    assert found["client"] == width
    assert found["scroll"] <= found["client"]
    assert found["wide"] == []
    assert found["focusable"] == found["boxes"] > 8
    assert (found["scrolling"] > 0) == (width == PHONE)
    assert found["type"] >= 9.5
    assert found["body"] >= 16


def test_long_names_do_not_widen_the_phone_page(chromium, tmp_path, example):
    name = "unbroken" * 30
    update = {"title": name, "model": name, "columns": [c.model_copy(update={"label": name}) for c in example.columns]}
    found = measured(chromium, tmp_path, PHONE, html.render(kinds.document(example.model_copy(update=update))))
    assert found["scroll"] <= found["client"] == PHONE


def test_measure_notices_a_page_that_is_too_wide(chromium, tmp_path, report):
    page = report.read_text(encoding="utf-8").replace("</main>", '<div style="width:900px">wide</div></main>')
    found = measured(chromium, tmp_path, PHONE, page)
    assert found["scroll"] > found["client"]
    assert found["wide"]


def screenshot(chromium, tmp_path, url, *flags):
    path = tmp_path / "shot.png"
    chromium(url, f"--screenshot={path}", "--window-size=1280,2400", *flags)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def test_light_and_dark_pages_are_drawn(chromium, tmp_path, report):
    light = screenshot(chromium, tmp_path, report.as_uri(), "--blink-settings=preferredColorScheme=1")
    dark = screenshot(chromium, tmp_path, report.as_uri(), "--blink-settings=preferredColorScheme=0")
    assert light[0, 0].mean() > 240
    assert dark[0, 0].mean() < 40
    for shot in (light, dark):
        assert shot.shape == (2400, 1280, 3)
        ink = np.abs(shot - shot[0, 0]).sum(axis=2) > 120
        assert 0.01 < ink.mean() < 0.4
        assert ink[1200:].any()


def test_report_prints(chromium, tmp_path, report):
    path = tmp_path / "report.pdf"
    chromium(report.as_uri(), f"--print-to-pdf={path}", "--no-pdf-header-footer")
    assert path.read_bytes().startswith(b"%PDF")
    assert path.stat().st_size > 20_000


class Proxy(socketserver.StreamRequestHandler):
    """Writes down the first line of every request and hangs up."""

    def handle(self):
        line = self.rfile.readline().decode("latin-1").split()
        if len(line) > 1:
            self.server.asked.append(line[1])


@pytest.fixture
def network():
    """A proxy that sees every request the browser makes."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.daemon_threads = True
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("harmless", [True, False])
def test_report_is_silent(chromium, tmp_path, report, network, harmless):
    if not harmless:  # the same watch must notice a page that does what a report may not
        report.write_text('<img src="http://repairkit.example/x.png"><script>console.log("heard")</script>')
    proxy = f"--proxy-server=http://127.0.0.1:{network.server_address[1]}"
    done = chromium(report.as_uri(), "--dump-dom", "--enable-logging=stderr", proxy)
    hosts = {re.sub(r"^\w+://|[:/].*$", "", asked) for asked in network.asked}
    foreign = {name for name in hosts if not f".{name}".endswith(BROWSERS_OWN)}
    assert foreign == (set() if harmless else {"repairkit.example"})
    assert ("CONSOLE" in done.stderr) != harmless
