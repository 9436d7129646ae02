"""The options that say which kernel boots, and how, of every command that starts a guest."""
# SPDX-License-Identifier: GPL-2.0-or-later

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memhp.cli.idle import given_options, refuse_idle
from memhp.errors import BadInput

if TYPE_CHECKING:
    from memhp.target.guest.cache import Cache
    from memhp.target.guest.kernel import Kernel
    from memhp.target.guest.qemu import GuestSpec, Qemu

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class GuestChoice:
    """Which kernel, as the options say: one of `kernel` and `linux` at least, or neither where a guest is optional."""

    kernel: str | None
    linux: Path | None
    arch: str | None
    initrd: Path | None
    modules: Path | None
    config: Path | None
    append: str
    qemu: Path | None
    cpu: str | None

    def __bool__(self) -> bool:
        """Whether a guest is asked for."""
        return self.kernel is not None or self.linux is not None

    @property
    def image(self) -> Path | None:
        """The path of an image of the user's own; None if `kernel` is the name of one to fetch, or nothing."""
        own = self.kernel is not None and ("/" in self.kernel or Path(self.kernel).is_file())
        return Path(self.kernel or "") if own else None

    def check(self) -> None:
        """Raise :class:`click.UsageError` for an option, written for the current command, that it has no use for."""
        one = bool(self)
        refuse_idle(
            ("--kernel", self.linux is None, "does not go with --linux: each names the kernel"),
            ("--arch", self.image is not None, "is for --kernel with the path of an image"),
            ("--initrd --modules --config", one, "is for one guest: give --kernel or --linux"),
            ("--append --qemu --cpu", one or "--all" in given_options(), "is for a guest: give --kernel or --linux"),
        )

    @property
    def files(self) -> list[Path | None]:
        """What is read of the user's own files, as far as it is there."""
        kernel = None if self.kernel is None else Path(self.kernel)
        return [kernel, self.initrd, self.config, self.qemu]

    @property
    def cache(self) -> "Cache":
        """The user's own."""
        from memhp.target.guest.cache import user_cache

        return user_cache()

    def resolve(self) -> "tuple[Qemu, GuestSpec]":
        """QEMU and the guest to start. Raises :class:`BadInput` for what is not there, with what mends it."""
        from memhp.target.guest.qemu import GuestSpec, find_qemu

        for option, file in (("--initrd", self.initrd), ("--config", self.config)):
            if file is not None and not file.is_file():
                raise BadInput("no such file", where=f"{option} {file}")
        if self.modules is not None and not self.modules.is_dir():
            raise BadInput("no such folder", where=f"--modules {self.modules}")
        kernel = self._kernel()
        kernel = replace(kernel, modules=self.modules or kernel.modules, config=self.config or kernel.config)
        qemu = find_qemu(self.cache, kernel.arch, self.qemu)
        return qemu, GuestSpec(kernel, append=self.append, initrd=self.initrd, cpu=self.cpu)

    def _kernel(self) -> "Kernel":
        from memhp.target.guest.flavours import wanted
        from memhp.target.guest.kernel import built, find, named
        from memhp.target.guest.machines import MACHINES

        if self.linux is not None:
            return built(self.linux)
        if self.kernel is None:
            raise BadInput("which kernel?", where="--kernel", fix="7.2:arm64, an image's path, or --linux TREE")
        if self.image is None:
            return find(self.cache, wanted(self.kernel))
        if self.arch not in MACHINES:
            raise BadInput("of which architecture is it?", where="--arch", fix=f"one of {', '.join(MACHINES)}")
        return named(self.image, self.arch)


def guest_options(command: Command) -> Command:
    """Add the options; they arrive as one argument, `choice`."""
    names = ("kernel", "linux", "arch", "initrd", "modules", "config", "append", "qemu", "cpu")

    @wraps(command)
    def gathered(**arguments: Any) -> Any:
        choice = GuestChoice(**{name: arguments.pop(f"guest_{name}") for name in names})
        choice.check()
        from memhp.target.guest.agent import GuestLost

        try:
            return command(choice=choice, **arguments)
        except GuestLost as error:
            raise click.ClickException(str(error)) from error

    path = click.Path(path_type=Path)
    options = [
        click.option("--kernel", "guest_kernel", metavar="KERNEL", help="Such as 7.2:arm64; or the path of an image."),
        click.option("--linux", "guest_linux", type=path, metavar="TREE", help="A built source tree."),
        click.option("--arch", "guest_arch", metavar="ARCH", help="What an image of your own is built for."),
        click.option("--initrd", "guest_initrd", type=path, help="Instead of the one with memhp's agent."),
        click.option("--modules", "guest_modules", type=path, help="A folder with that kernel's modules."),
        click.option("--config", "guest_config", type=path, help="That kernel's .config."),
        click.option("--append", "guest_append", default="", metavar="TEXT", help="More for its command line."),
        click.option("--qemu", "guest_qemu", type=path, help="A QEMU of your own."),
        click.option("--cpu", "guest_cpu", metavar="MODEL", help="QEMU's CPU model: selects the paging mode."),
    ]
    decorated: Any = gathered
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
