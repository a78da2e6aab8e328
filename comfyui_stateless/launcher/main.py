"""The launcher's life: gateway, manifest, extension, ComfyUI, and their end in reverse."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..config import inherited
from ..errors import ConfigError, StatelessError
from . import comfyui
from .child import Command
from .exit_codes import FAILED, SIGNALLED, WRONG
from .extension import link
from .gateway import Gateway, GatewayOptions
from .health import Health
from .life import Life, Phase
from .log import Log, logging_to
from .settings import Configuration
from .supervisor import Supervisor
from .watch import Rules

if TYPE_CHECKING:
    from ..manifest import Manifest, Place

log = logging.getLogger("comfyui_stateless.launcher")

LETTING_GO_S = 10.0
"""Seconds that an installation gets to stop once it is told to."""

LAST_REPLIES_S = 5.0
"""Seconds that replies get to leave once ComfyUI has ended."""


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a launcher is told.

    Attributes:
        arguments: For ComfyUI's main.py.
    """

    configuration: Configuration
    manifest: Manifest | None
    arguments: tuple[str, ...]

    @property
    def custom_nodes(self) -> Path:
        """Where ComfyUI finds extensions."""
        base = comfyui.base_directory(self.arguments)
        return (base or self.configuration.launcher.comfy_home) / "custom_nodes"

    @property
    def place(self) -> Place:
        """Where the manifest is installed."""
        from ..manifest import Place

        home, settings = self.configuration.launcher.comfy_home, self.configuration.extension
        return Place(home, Path(sys.executable), settings, self.custom_nodes)


class Stop:
    """What the process was told by signals: to end, and, told again, to end at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.number = signal.SIGTERM

    def told(self, number: signal.Signals) -> None:
        """Note a signal."""
        self.number = number
        if self.asked.is_set():
            self.at_once.set()
        else:
            log.info("%s: ending; a second one ends at once.", number.name)
        self.asked.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Wait for signals in the block."""
        loop = asyncio.get_running_loop()
        heard = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            heard.append(signal.SIGHUP)
        for number in heard:
            loop.add_signal_handler(number, self.told, number)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)


def prepared(configuration: Configuration, arguments: Sequence[str]) -> Setup:
    """Read the manifest.

    Raises:
        StatelessError: Something is wrong with it, or with the arguments.
    """
    if arguments and configuration.launcher.cmd is not None:
        raise ConfigError("With CMD, no arguments can be handed to ComfyUI: put them into CMD.")
    return Setup(configuration, _manifest(configuration), tuple(arguments))


def _manifest(configuration: Configuration) -> Manifest | None:
    settings = configuration.launcher
    if settings.manifest_json is not None:
        text, name = settings.manifest_json.get_secret_value(), "MANIFEST_JSON"
    elif settings.manifest is not None:
        name = str(settings.manifest)
        try:
            text = settings.manifest.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"MANIFEST: {name} cannot be read: {error}.") from error
    else:
        return None
    from ..manifest import read

    return read(text, name=name)


def plan(setup: Setup) -> list[str]:
    """Return what would be done, a line for each thing."""
    lines = []
    if setup.manifest is not None:
        from ..manifest import plan as plan_of

        lines += plan_of(setup.manifest, setup.place)
    words = comfyui.words(setup.configuration, setup.arguments, Path("TEMPORARY-FOLDER"))
    settings = setup.configuration.launcher
    lines.append(f"have the extension in {setup.custom_nodes}")
    lines.append(f"start ComfyUI: {shlex.join(words)}")
    lines.append(f"serve the API on {settings.host}, port {settings.port}")
    return lines


def launch(configuration: Configuration, arguments: Sequence[str]) -> int:
    """Do all of it until the end; return the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="comfyui-stateless-") as scratch,
        _logging(configuration) as output,
    ):
        try:
            setup = prepared(configuration, arguments)
        except StatelessError as error:
            log.error("%s", error.message)
            return WRONG
        return _run(Launcher(setup, Path(scratch), output.relay))


def install(configuration: Configuration, arguments: Sequence[str]) -> int:
    """Install what comes before a start, and start nothing; return the exit code."""
    with _logging(configuration):
        try:
            setup = prepared(configuration, arguments)
        except StatelessError as error:
            log.error("%s", error.message)
            return WRONG
        return _run(Installation(setup))


def tell(configuration: Configuration, arguments: Sequence[str]) -> int:
    """Write what would be done to standard output; return the exit code."""
    with _logging(configuration, sys.stderr.buffer):
        try:
            lines = plan(prepared(configuration, arguments))
        except StatelessError as error:
            log.error("%s", error.message)
            return WRONG
    for line in lines:
        # What a path or a word holds may be no text, or none that this output takes.
        said = line.encode(sys.stdout.encoding, "backslashreplace")
        sys.stdout.write(said.decode(sys.stdout.encoding) + "\n")
    return 0


def _logging(
    configuration: Configuration, stream: BinaryIO | None = None
) -> AbstractContextManager[Log]:
    is_json = configuration.launcher.log_format == "json"
    return logging_to(stream, is_json=is_json, level=configuration.extension.log_level)


def _run(launcher: Launcher | Installation) -> int:
    # A loop of asyncio.run would wait, at its end, for threads that are busy.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(launcher.run())
    except StatelessError as error:
        log.error("%s", error.message)
        return FAILED
    finally:
        loop.close()


class Launcher:
    """One run of the launcher.

    Args:
        scratch: A folder of its own.
        relay: Takes ComfyUI's output, line by line.
    """

    def __init__(self, setup: Setup, scratch: Path, relay: Callable[[str], None]) -> None:
        self._setup = setup
        self._scratch = scratch
        self._relay = relay
        self._life = Life()
        self._stop = Stop()
        self._later: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Bring everything up, keep it up, and take it down again; return the exit code.

        Raises:
            ConfigError: HOST and PORT cannot be listened on.
        """
        gateway = Gateway(_gateway_options(self._setup.configuration), self._life)
        with self._stop.listening():
            await gateway.start()
            log.info("Listening on %s, port %d.", _host(self._setup), gateway.port)
            health = Health(self._setup.configuration.launcher.comfyui_url)
            try:
                return await self._until_ended(health)
            finally:
                await self._let_go()
                await health.close()
                await gateway.close(0 if self._stop.at_once.is_set() else LAST_REPLIES_S)

    async def _let_go(self) -> None:
        """Give up what is still being installed, and let go of the models that were."""
        if self._later is not None:
            self._later.cancel()
            await asyncio.wait({self._later}, timeout=LETTING_GO_S)
        if self._setup.manifest is not None:
            from ..manifest import release

            release()

    async def _until_ended(self, health: Health) -> int:
        supervisor: list[Supervisor] = []
        work = asyncio.ensure_future(self._work(health, supervisor))
        asked = asyncio.ensure_future(self._stop.asked.wait())
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if work.done():
            return work.result()
        self._life.enter(Phase.DRAINING)
        for task in filter(None, (work, self._later)):
            task.cancel()
        at_once = asyncio.ensure_future(self._stop.at_once.wait())
        await asyncio.wait({work, at_once}, timeout=LETTING_GO_S, return_when="FIRST_COMPLETED")
        at_once.cancel()
        code = await supervisor[0].drain(self._stop.at_once) if supervisor else 0
        return SIGNALLED + self._stop.number if self._stop.at_once.is_set() else code

    async def _work(self, health: Health, started: list[Supervisor]) -> int:
        """Install, start and watch; return the exit code."""
        try:
            supervisor = await self._prepare(health)
            started.append(supervisor)
            self._later = asyncio.ensure_future(self._install_later(supervisor.was_up))
            return await supervisor.run()
        except StatelessError as error:
            log.error("%s", error.message)
            return FAILED

    async def _prepare(self, health: Health) -> Supervisor:
        """Do what comes before the start of ComfyUI.

        Raises:
            StatelessError: Something cannot be installed or made.
        """
        setup, settings = self._setup, self._setup.configuration.launcher
        await _install(setup)
        comfyui.lay_out(settings, self._scratch)
        if settings.cmd is None and (missing := comfyui.lacks()):
            log.warning(
                "%s has no %s: install comfyui-stateless into the Python that runs ComfyUI.",
                sys.executable,
                " and no ".join(missing),
            )
        words = comfyui.words(setup.configuration, setup.arguments, self._scratch)
        command = Command(words, _environment(setup), _folder(setup))
        rules = _rules(setup.configuration)
        return Supervisor(command, rules, health, self._life, self._relay, self._scratch)

    async def _install_later(self, was_up: asyncio.Event) -> None:
        await was_up.wait()
        setup = self._setup
        if setup.manifest is None or not setup.manifest.after_start:
            return
        from ..manifest import LogReport, install_later

        with LogReport() as report:
            await install_later(setup.manifest, setup.place, report=report)


class Installation:
    """A run of the launcher that ends before ComfyUI would be started."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._stop = Stop()

    async def run(self) -> int:
        """Install; return the exit code.

        Raises:
            StatelessError: Something cannot be installed.
        """
        with self._stop.listening():
            work = asyncio.ensure_future(_install(self._setup))
            asked = asyncio.ensure_future(self._stop.asked.wait())
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if work.done():
                work.result()
                log.info("Everything is installed.")
                return 0
            work.cancel()
            await asyncio.wait({work}, timeout=LETTING_GO_S)
            return SIGNALLED + self._stop.number


async def _install(setup: Setup) -> None:
    """Install what the manifest names before the start, and the extension.

    Raises:
        StatelessError: Something cannot be installed.
    """
    if setup.manifest is not None:
        from ..manifest import install, open_report

        with open_report() as report:
            await install(setup.manifest, setup.place, report=report)
    link(setup.custom_nodes)


def _environment(setup: Setup) -> dict[str, str]:
    settings = setup.configuration.launcher
    return {
        **inherited(),
        "DIRECT_ADDRESS": settings.direct_address,
        "COMFYUI_PORT_HOST": str(settings.comfyui_port_host),
        "PYTHONUNBUFFERED": "1",
        **_hosts(setup.configuration),
    }


def _hosts(configuration: Configuration) -> dict[str, str]:
    """Return ALLOWED_HOSTS for ComfyUI, which the gateway calls by its address."""
    allowed = configuration.extension.allowed_hosts
    address = configuration.launcher.comfyui_address
    return {"ALLOWED_HOSTS": f"{allowed},{address}"} if allowed else {}


def _folder(setup: Setup) -> Path:
    settings = setup.configuration.launcher
    return settings.comfy_home if settings.cmd is None else Path.cwd()


def _rules(configuration: Configuration) -> Rules:
    settings = configuration.launcher
    return Rules(
        address=(settings.comfyui_address, settings.comfyui_port_host),
        interval_s=settings.startup_check_interval_s,
        max_tries=settings.startup_check_max_tries,
        hang_s=settings.comfyui_hang_s,
        grace_s=configuration.extension.shutdown_grace_s,
        is_restarted=settings.always_restart_comfyui,
    )


def _gateway_options(configuration: Configuration) -> GatewayOptions:
    settings, extension = configuration.launcher, configuration.extension
    return GatewayOptions(
        host=settings.host,
        port=settings.port,
        upstream=settings.comfyui_url,
        keys=extension.keys,
        hosts=extension.hosts,
        expose_comfyui=settings.expose_comfyui,
        max_body_bytes=extension.max_body_bytes,
    )


def _host(setup: Setup) -> str:
    return setup.configuration.launcher.host
