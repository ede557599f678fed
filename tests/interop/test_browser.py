"""The report in headless Chromium: painted wide and narrow, light and dark, and nothing to complain of."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.interop.support import lifecycle
from tests.test_cli import sottovoce

pytestmark = pytest.mark.interop


def painted(page: Path, picture: Path, width: int, *more: str) -> tuple[Image.Image, str]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "apt-get install chromium"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    done = subprocess.run(
        [*command, f"--window-size={width},3000", f"--screenshot={picture}", *more, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Image.open(picture).convert("L"), done.stderr


def test_the_page_is_painted_without_a_complaint_in_every_form(tmp_path: Path) -> None:
    config = lifecycle(tmp_path)
    done = sottovoce("simulate", config, "--workspace", tmp_path / "w", "--json")
    report = json.loads(done.stdout.splitlines()[-1])
    page = Path(report["page"])
    wide, said = painted(page, tmp_path / "wide.png", 1100)
    assert "CONSOLE" not in said, said
    narrow, said = painted(page, tmp_path / "narrow.png", 390)
    assert "CONSOLE" not in said, said
    dark, _ = painted(page, tmp_path / "dark.png", 1100, "--blink-settings=preferredColorScheme=0")
    for picture in (wide, narrow):
        assert picture.getextrema()[0] < 60, "ink"
        margin = picture.crop((picture.width - 6, 0, picture.width, picture.height))
        assert margin.getextrema()[0] > 200, "nothing runs out of the page"
    assert sum(wide.histogram()[200:]) > sum(dark.histogram()[200:]) * 5, "paper is dark in the dark"
