"""The report in headless chromium: all pictures decode, nothing is asked of the network, it looks like a page."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.report import write_report
from tests.orchestrator.fake_run import write_fake_run

pytestmark = pytest.mark.browser

# Only the copy under test holds a script: it asks the browser what it made of the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PROBE = """<script>
const blocked = [];
addEventListener("securitypolicyviolation", e => blocked.push(e.blockedURI));
addEventListener("load", () => {
  const asked = performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:"));
  const all = s => [...document.querySelectorAll(s)];
  document.documentElement.dataset.seen = JSON.stringify({
    images: all("img").map(i => i.complete ? i.naturalWidth : 0),
    drawings: all("svg").map(s => s.getBoundingClientRect().width),
    texts: all(".curves svg text").length,
    sections: all("main > section[id]").map(s => s.id),
    empty: all("main > section[id]").filter(s => s.innerText.trim().length < 20).map(s => s.id),
    asked: [...blocked, ...asked],
    overflow: document.documentElement.scrollWidth - innerWidth,
  });
});
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is absent: no 'chromium' on PATH (Debian: apt-get install chromium)")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake_run(tmp_path_factory.mktemp("run") / "demo", lost=[("boxmask", 1, 2)])
    return write_report(folder)


def visit(chromium: str, page: Path, profile: Path, *options: str) -> str:
    """What chromium prints about a page; each call has a fresh profile."""
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--hide-scrollbars",        "--disable-background-networking", "--disable-component-update",
        "--disable-sync",        f"--user-data-dir={profile}", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def seen(chromium: str, page: Path, tmp_path: Path, width: int) -> dict[str, Any]:
    copy = tmp_path / f"probed-{width}.html"
    text = page.read_text(encoding="utf-8")
    assert text.count(f'{POLICY}">') == 1, "the page itself forbids scripts and requests"
    copy.write_text(text.replace(f'{POLICY}">', f"{POLICY}; script-src 'unsafe-inline'\">{PROBE}"), encoding="utf-8")
    dom = visit(chromium, copy, tmp_path / f"profile-{width}", "--dump-dom", f"--window-size={width},1200")
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found, "the page never finished loading"
    answer: dict[str, Any] = json.loads(unescape(found[1]))
    return answer


@pytest.mark.parametrize("width", [1280, 500])
def test_the_browser_shows_every_part_of_the_report(chromium: str, page: Path, tmp_path: Path, width: int) -> None:
    answer = seen(chromium, page, tmp_path, width)
    assert answer["sections"] == ["result", "curves", "cycles", "classes", "picked", "cost", "data", "settings"]
    assert answer["empty"] == []
    assert len(answer["images"]) == 12
    assert min(answer["images"]) > 400, "every picture was decoded at full size"
    assert len(answer["drawings"]) == 3 + 3
    assert min(answer["drawings"]) > 150, "every drawing has room"
    assert answer["texts"] > 30
    assert answer["asked"] == [], "the page asks the network for nothing"
    assert answer["overflow"] <= 0, "only tables scroll sideways, not the page"


def test_the_probe_would_see_a_broken_picture(chromium: str, page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    broken.write_text(
        re.sub(r"data:image/jpeg;base64,[^\"]*", "http://localhost:9/gone.png", text, count=1), encoding="utf-8"
    )
    answer = seen(chromium, broken, tmp_path, 1280)
    assert answer["images"].count(0) == 1
    assert {name.rsplit("/", 1)[-1] for name in answer["asked"]} == {"gone.png"}


@pytest.mark.parametrize(("scheme", "paper"), [("light", (255, 255, 255)), ("dark", (20, 23, 27))])
def test_a_screenshot_shows_a_page(
    chromium: str, page: Path, tmp_path: Path, scheme: str, paper: tuple[int, int, int]
) -> None:
    shot = tmp_path / "page.png"
    option = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    visit(chromium, page, tmp_path / "profile", option, f"--screenshot={shot}", "--window-size=1280,4000")
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (4000, 1280, 3)
    assert tuple(pixels[2, 2]) == paper
    inked = (np.abs(pixels.astype(int) - np.array(paper)).sum(-1) > 60).mean(1)
    assert (inked > 0).mean() > 0.3, "there is something to see down the whole page"
    assert len(np.unique(pixels[::4, ::4].reshape(-1, 3), axis=0)) > 500, "curves and pictures have their colours"
