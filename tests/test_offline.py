"""Nothing looks up a host name: a whole run in a network of its own, whose only name server is ours and listens."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import write_config, write_table

WATCHED = """
import fcntl, socket, struct, subprocess, sys, threading

link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags = struct.pack("16sh", b"lo", 0x1 | 0x40)
fcntl.ioctl(link, 0x8914, flags)  # bring up loopback

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
asked = []

def listen():
    while True:
        question, _ = server.recvfrom(512)
        asked.append(question)

threading.Thread(target=listen, daemon=True).start()
try:
    socket.getaddrinfo("canary.invalid", 80)
except OSError:
    pass
assert asked, "the name server must hear a look-up"
asked.clear()
done = subprocess.run(sys.argv[1:])
for question in asked:
    print("LOOKED UP", question[12:60])
sys.exit(done.returncode or (99 if asked else 0))
"""


DEPLOYMENT = """
import sys
from pathlib import Path
from tests.deployment import deployed

with deployed(Path(sys.argv[1])) as deployment:
    print(deployment.command("run", deployment.config(1), "--home", deployment.home))
"""

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not shutil.which("unshare"), reason="needs network namespaces"),
]


def test_a_run_and_a_question_look_up_no_name(tmp_path: Path) -> None:
    config = write_config(tmp_path / "stay.yaml", write_table(tmp_path))
    command = [sys.executable, "-m", "sottovoce", "simulate", str(config), "--workspace", str(tmp_path / "w"), "--ask"]
    assert "answered   v1" in watched(tmp_path, command)


def test_a_coordinator_and_its_clients_look_up_no_name(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert "round 2/2  3/3 clients" in watched(tmp_path, [sys.executable, "-c", DEPLOYMENT, str(tmp_path / "d")])


def watched(tmp_path: Path, command: list[str]) -> str:
    """What a command says in a network of its own, in which it must look up nothing and end well."""
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    script = f'mount --bind {resolver} /etc/resolv.conf && exec "$@"'
    isolated = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--mount"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*isolated, "sh", "-c", script, "sh", sys.executable, "-c", WATCHED, *command],
        capture_output=True,
        text=True,
        timeout=300,
        env=env,
        check=False,
    )
    assert "LOOKED UP" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
