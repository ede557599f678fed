"""A slow link: a TCP relay that lets so many bytes a second through, each some time later."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType


class Throttle:
    """Relays a port of loopback to `target` while it is entered. passed: bytes in both directions."""

    def __init__(self, target: int, bytes_per_second: float, delay: float) -> None:
        self._target, self._rate, self._delay = target, bytes_per_second, delay
        self.port = self.passed = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Throttle:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._relay, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        relays = asyncio.all_tasks() - {asyncio.current_task()}
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, inner: asyncio.StreamReader, outer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(self._pump(inner, back), self._pump(there, outer))
        except OSError:
            pass
        finally:
            outer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while part := await source.read(16_384):
                await asyncio.sleep(self._delay + len(part) / self._rate)
                self.passed += len(part)
                sink.write(part)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
