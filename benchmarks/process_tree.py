"""Running a command and accounting for its whole process tree: wall time, CPU seconds, peak memory.

Memory is PSS: pages that processes share are counted once, in parts. CPU is sampled ten times a second per process,
so that daemons that nobody waits for (Ray's) are counted too.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Usage:
    """What a command took."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str
    marks: Mapping[str, float]
    code: int


def run(command: Sequence[str], marks: Sequence[str] = (), cwd: Path | None = None) -> Usage:
    """Run `command`; `marks` are texts whose first appearance in the output is timed."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd)
    cpu: dict[tuple[int, float], float] = {}
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, cpu, lambda size: peak.append(size)), daemon=True)
    watcher.start()
    seen: dict[str, float] = {}
    lines = []
    assert process.stdout
    for line in process.stdout:
        lines.append(line)
        for mark in marks:
            if mark in line and mark not in seen:
                seen[mark] = time.monotonic() - begun
    process.wait()
    watcher.join()
    return Usage(time.monotonic() - begun, sum(cpu.values()), max(peak), "".join(lines), seen, process.returncode)


def _watch(process: subprocess.Popen[str], cpu: dict[tuple[int, float], float], note: Callable[[int], None]) -> None:
    root = psutil.Process(process.pid)
    turn = 0
    while process.poll() is None:
        size = 0
        try:
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            break
        for member in family:
            try:
                times = member.cpu_times()
                cpu[(member.pid, member.create_time())] = times.user + times.system
                if turn % 3 == 0:
                    size += member.memory_full_info().pss
            except psutil.Error:
                continue
        note(size)
        turn += 1
        time.sleep(0.1)
