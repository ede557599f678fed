"""Starting and stopping Ray: local and private by default, or the cluster that RAY_ADDRESS names.

A Ray of our own listens on loopback only, asks everyone for a token, and keeps its files in one folder of mode 0700 in
the workspace (in the system's place for such files where the workspace's disk has no room), which goes when it goes.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, nullcontext, suppress
from pathlib import Path

from pipeline.host.environment import found_cluster, quiet_environment
from privacy.errors import EngineUnavailable

OBJECT_STORE = 100 * 1024 * 1024
"""Bytes. Replies stream and are freed; what does not fit goes to disk. Pages once used stay resident."""
REAL_HOME = "SOTTOVOCE_HOME"


ROOM = 200 * 1024 * 1024
"""Bytes that Ray's logs and what it spills may take."""
LONGEST = 45
"""Bytes of a folder's path in which Ray can still name its sockets: a socket's path has at most 107."""


@contextmanager
def ray_engine(scratch: Path | None = None) -> Iterator[None]:
    """Ray for the length of a run. One that was started here is stopped here; one that was found is left running.

    scratch: folder for the files of a Ray that is started here; None: the system's. Raises EngineUnavailable.
    """
    quiet_environment()
    address = os.environ.get("RAY_ADDRESS")
    started = not found_cluster()
    if address and not started and address != "auto":
        _check_reachable(address)
    import ray

    if ray.is_initialized():
        yield
        return
    with _private_folder(scratch) if started else nullcontext() as folder:
        try:
            if folder:
                # Ray has its workers look for modules in the working folder, which is the user's, and may well hold a
                # `pipeline.py` or a `clients/` of another project.
                with _no_cloud_probe(folder), _own_signals(), chdir(folder):
                    ray.init(
                        address="local",
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="ERROR",
                        object_store_memory=OBJECT_STORE,
                        _node_ip_address="127.0.0.1",
                        _temp_dir=str(folder),
                    )
            else:
                with _own_signals():
                    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray says that it was slow to start with a bare one
            raise EngineUnavailable(
                f"Ray could not be {'started' if started else f'reached at {address}'}: {_first_line(error)}",
                remedy="Unset RAY_ADDRESS to start a local Ray, or run `ray stop` to clear one that is left over.",
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own for SIGTERM, which ends the process with the number of the signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _private_folder(scratch: Path | None) -> Iterator[Path]:
    """A folder for Ray's files, inside one of mode 0700, gone afterwards; what a killed process left there goes first.

    Ray opens its folder to everyone, so it is not given the outer one. It names sockets in it: where the path is too
    long for that, it is given a short link to it.
    """
    with ExitStack() as held:
        _sweep(Path(tempfile.gettempdir()), "sv-")
        if scratch is None or _crowded(scratch):
            folder = _temporary(held)
        else:
            _sweep(scratch, "ray-")
            folder = scratch.absolute() / f"ray-{os.getpid()}"
            folder.mkdir(parents=True, exist_ok=True)
            held.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o700)
        folder = folder / "t"
        folder.mkdir(exist_ok=True)
        if len(os.fsencode(folder)) > LONGEST:
            link = _temporary(held) / "r"
            link.symlink_to(folder)
            folder = link
        yield folder


def _crowded(scratch: Path) -> bool:
    """Whether its disk has no room for Ray; what else needs that disk will say so by name."""
    place = scratch
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free < ROOM


def _temporary(held: ExitStack) -> Path:
    prefix = f"sv-{os.getpid()}-"
    return Path(held.enter_context(tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)))


def _sweep(place: Path, prefix: str) -> None:
    """Remove what processes left there that are gone: `PREFIX<process>`, and our own only."""
    for old in place.glob(f"{prefix}*"):
        process = old.name.removeprefix(prefix).partition("-")[0]
        with suppress(FileNotFoundError):  # another one sweeps at the same moment
            if process.isdigit() and old.lstat().st_uid == os.geteuid() and not _lives(process):
                shutil.rmtree(old, ignore_errors=True)


def _lives(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


@contextmanager
def _no_cloud_probe(folder: Path) -> Iterator[None]:
    """Keep Ray from asking three clouds where it runs, which it does even with usage statistics off.

    It does not ask when it finds a cluster launcher's file in the home folder, so the daemons get a home that has one.
    Workers inherit that home from them: `restore_home` puts the real one back.
    """
    real = os.environ.get("HOME")
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "ray_bootstrap_config.yaml").write_text("cluster_name: local\nprovider: {type: local}\n")
    os.environ["HOME"] = str(home)
    if real is not None:
        os.environ[REAL_HOME] = real
    try:
        yield
    finally:
        os.environ.pop("HOME")
        if real is not None:
            os.environ["HOME"] = real


def restore_home() -> None:
    """In a worker of a local Ray: the home folder of the person who started the run."""
    if real := os.environ.pop(REAL_HOME, None):
        os.environ["HOME"] = real


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes; a port nobody listens on is known at once."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    except (OSError, ValueError):
        raise EngineUnavailable(
            f"nothing answers at RAY_ADDRESS {address}",
            remedy="Start that cluster, or unset RAY_ADDRESS to start a local Ray.",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
