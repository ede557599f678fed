"""Processes that are kept running: order, restarts, and that nobody is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.host.services import Service, Services, free_port, listens, refuse_taken
from privacy.errors import FederationError, PortInUse

pytestmark = pytest.mark.processes

LISTEN = (
    "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); time.sleep(99)"
)


def service(name: str, code: str, *arguments: object, port: int | None = None) -> Service:
    return Service(name, [sys.executable, "-c", code, *map(str, arguments)], dict(os.environ), port)


def soon(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_services_start_in_order_come_back_and_end_together(tmp_path: Path) -> None:
    port, stopped, said = free_port(), threading.Event(), list[str]()
    marks = tmp_path / "marks"
    restless = f"open({str(marks)!r}, 'a').write('x'); import time; time.sleep(0.3); raise SystemExit(3)"
    family = Services([service("listener", LISTEN, port, port=port), service("restless", restless)], tmp_path / "logs")
    ready = threading.Event()
    runner = threading.Thread(target=family.run, args=(stopped, ready.set, said.append))
    runner.start()
    try:
        assert ready.wait(20)
        assert listens(port)
        soon(lambda: marks.exists() and len(marks.read_text()) >= 2)
        assert "restless ended with 3; started again in 1 s" in said
        assert (tmp_path / "logs" / "listener.log").stat().st_mode & 0o077 == 0
    finally:
        stopped.set()
        runner.join(30)
    assert not listens(port)


def test_one_that_says_nothing_of_its_work_any_more_is_started_anew(tmp_path: Path) -> None:
    """Its process lives: what it lives for does not."""
    heard, starts, stopped, said = tmp_path / "heard", tmp_path / "starts", threading.Event(), list[str]()
    code = (
        f"import pathlib, time; open({str(starts)!r}, 'a').write('x')\n"
        f"for _ in range(20): pathlib.Path({str(heard)!r}).touch(); time.sleep(0.1)\n"
        "time.sleep(99)"
    )
    hung = replace(service("hung", code), heard=heard, silence=1.0)
    family = Services([hung], tmp_path / "logs")
    runner = threading.Thread(target=family.run, args=(stopped, lambda: None, said.append))
    begun = time.monotonic()
    runner.start()
    try:
        soon(lambda: starts.exists() and len(starts.read_text()) >= 2)
        assert time.monotonic() - begun > 2.5, "not while it works"
        assert said
        assert said[0].startswith("hung ended")
    finally:
        stopped.set()
        runner.join()


def test_one_that_does_not_come_up_is_named_with_its_last_words(tmp_path: Path) -> None:
    broken = service("broken", "raise SystemExit('the disk is on fire')", port=free_port())
    with pytest.raises(FederationError, match=r"broken ended with 1 .*: the disk is on fire"):
        Services([broken], tmp_path / "logs").run(threading.Event(), lambda: None, print)


SUPERVISOR = """
import sys, threading, pathlib, os
from pipeline.host.services import Service, Services
one = Service("child", [sys.executable, "-c", "import time; time.sleep(99)"], dict(os.environ))
Services([one], pathlib.Path(sys.argv[1])).run(threading.Event(), lambda: print("ready", flush=True), print)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="relies on PR_SET_PDEATHSIG")
def test_a_killed_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path / "logs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        children = psutil.Process(process.pid).children()
        assert len(children) == 1
        os.kill(process.pid, signal.SIGKILL)
    soon(lambda: not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE)


def test_a_taken_port_is_named() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match=str(taken.getsockname()[1])):
            refuse_taken("127.0.0.1", taken.getsockname()[1])
    refuse_taken("127.0.0.1", free_port())
