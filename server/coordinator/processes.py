"""The coordinator's processes: SuperLink and its executor on loopback, and the gateway that is all the world sees."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from pipeline.federation.clients import printable
from pipeline.host.services import Service, Services, program, python_environment, refuse_taken
from server.coordinator.gateway import SAYS
from server.coordinator.home import CoordinatorHome
from server.coordinator.roster import NODES, tell_superlink
from server.coordinator.runs import Runs


class Coordinator:
    """Of one home."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home

    def run(self, stopped: threading.Event, ready: Callable[[], None], say: Callable[[str], None]) -> None:
        """Keep the coordinator running until `stopped`. Raises before anything starts, or when something does not:
        WorkspaceBusy, PortInUse, ConfigError, SecretExposed, FederationError."""
        home, settings = self._home, self._home.settings
        with home.locked():
            home.check()
            refuse_taken("127.0.0.1", settings.link_port)
            refuse_taken(settings.host, settings.port)
            home.write_flower_files()
            if not (home.root / NODES).exists():  # Flower lists nodes without their keys, and takes no key twice
                for state in home.root.glob("state.db*"):
                    state.unlink()

            def admitted() -> None:
                tell_superlink(home)
                ready()
                threading.Thread(target=Runs(home).tend, args=(stopped, say), daemon=True).start()

            threading.Thread(target=self._tell, args=(stopped, say), daemon=True).start()
            Services(self._services(), home.root / "logs").run(stopped, admitted, say)

    def _tell(self, stopped: threading.Event, say: Callable[[str], None]) -> None:
        """What the gateway has to say to its operator, once for each thing said in a row."""
        path = self._home.root / "logs" / "gateway.log"
        at, last = path.stat().st_size if path.exists() else 0, ""
        while not stopped.wait(1.0):
            size = path.stat().st_size if path.exists() else 0
            if size < at:  # put aside at a start
                at = 0
            if size == at:
                continue
            with path.open("rb") as file:
                file.seek(at)
                lines = file.read(size - at).decode(errors="replace").splitlines()
            at = size
            for line in lines:
                if line.startswith(SAYS) and line != last:
                    say(printable(line.removeprefix(SAYS)))
                    last = line

    def _services(self) -> list[Service]:
        settings, root = self._home.settings, self._home.root
        env = python_environment(root / "flwr")
        secret = str(root / "superexec.secret")
        superlink = [
            program("flower-superlink"),
            *("--host", "127.0.0.1", "--port", str(settings.link_port)),
            *("--database", str(root / "state.db")),
            *("--ssl-ca-certfile", str(root / "link-ca.crt")),
            *("--ssl-certfile", str(root / "link.crt"), "--ssl-keyfile", str(root / "link.key")),
            *("--enable-supernode-auth", "--isolation", "process", "--superexec-auth-secret-file", secret),
            "--disable-runtime-dependency-installation",
        ]
        executor = [
            *(sys.executable, "-P", "-m", "server.executor"),
            *(f"127.0.0.1:{settings.link_port}", secret, str(root / "link-ca.crt"), str(root)),
        ]
        gateway = [sys.executable, "-P", "-m", "server.coordinator.gateway", str(root)]
        return [
            Service("superlink", superlink, env, settings.link_port),
            Service("executor", executor, env),
            Service("gateway", gateway, env, settings.port, settings.host),
        ]
