"""What clients say never moves the operator's cursor, hides a line, or ends the live view."""

import importlib.util
import io
import json
import sys
import types
from pathlib import Path

import pytest
from flwr.app import Error, Message
from rich.console import Console

from pipeline.engine.progress import ClientExcluded, ClientWarned, Notice, RunPlanned
from pipeline.federation.clients import printable
from pipeline.language.protocol import CheckOutcome, JoinReply
from pipeline.reporting.console import LiveTable, PlainLines, showing
from privacy.errors import StageFailed
from tests.support import Federation

HOSTILE = "x[/y] [bold red]gone[/] \x1b[2J\x1b[1;1H\x07\r\x9b31m"


def test_markup_in_a_client_s_text_is_text() -> None:
    out = io.StringIO()
    table = LiveTable(Console(file=out, force_terminal=True, width=200, color_system=None))
    with table:
        table(RunPlanned("r", "n", (("training", "clients", "-"),)))
        for event in (ClientExcluded("east", "c", "x[/y] [bold]b"), ClientWarned("east", "[/]"), Notice("[/notice]")):
            table(event)
    said = out.getvalue()
    assert "client east excluded: x[/y] [bold]b" in said
    assert "client east: [/] (warn)" in said
    assert "[/notice]" in said


@pytest.mark.whole
def test_control_characters_end_at_the_border(federation: Federation) -> None:
    reason = json.dumps({"code": HOSTILE, "message": HOSTILE})
    federation.grid.faults[("north", "query.ingest")] = lambda message, context: Message(
        Error(1000, reason), reply_to=message
    )
    try:
        federation.run()
    except StageFailed:
        pass
    (excluded,) = [event for event in federation.events if isinstance(event, ClientExcluded)]
    assert excluded.text.isprintable()
    assert excluded.code.isprintable()
    out = io.StringIO()
    PlainLines(out)(excluded)
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("\n") == 1


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x9b", "x" * 201])
def test_short_texts_of_a_client_are_printable_or_no_message(text: str) -> None:
    with pytest.raises(ValueError, match="column"):
        CheckOutcome(check="bounds", status="ok", column=text)
    fields = {
        "name": "east",
        "version": text,
        "code": "0" * 64,
        "public_keys": "0" * 128,
        "fingerprint": "0" * 32,
        "declared": "0" * 32,
    }
    with pytest.raises(ValueError, match="version"):
        JoinReply.model_validate(fields)


def test_printable_keeps_what_people_write() -> None:
    assert printable("Zürich 12 % ± 3") == "Zürich 12 % ± 3"
    assert printable(HOSTILE).isprintable()


def test_a_column_of_any_name_does_not_end_a_run(tmp_path: Path) -> None:
    """`x[/y]` once did, when a check of it warned."""
    out = io.StringIO()
    table = LiveTable(Console(file=out, width=200))
    with table:
        table(ClientWarned("east", "bounds in x[/y]: 3.0% of rows"))
    assert "x[/y]" in out.getvalue()


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_without_widgets_gets_lines_and_no_advice(widgets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    found = importlib.util.spec_from_loader("ipywidgets", None) if widgets else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with showing(as_json=False) as progress:
        assert isinstance(progress, LiveTable if widgets else PlainLines)
