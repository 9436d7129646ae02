"""A kernel to boot: its image, modules and configuration, from the cache, from a built tree, or named one by one."""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass
from pathlib import Path

from memhp.errors import BadInput
from memhp.target.guest.cache import Cache
from memhp.target.guest.fetch import release_of
from memhp.target.guest.flavours import FLAVOURS, Wanted
from memhp.target.guest.machines import MACHINES
from memhp.target.guest.modules import module_files


@dataclass(frozen=True)
class Kernel:
    """A kernel that can boot. `modules` is a folder with modules somewhere below it; `config` its ``.config``."""

    release: str
    arch: str
    deb_arch: str
    image: Path
    modules: Path | None = None
    config: Path | None = None

    @property
    def wanted(self) -> str:
        """How a fetched kernel is asked for: ``6.12.117+deb13:arm64``."""
        flavour = next((each for each in _longest_first() if self.release.endswith(f"-{each}")), self.arch)
        return f"{self.release.removesuffix(f'-{flavour}')}:{flavour}"

    def option(self, name: str) -> str | None:
        """The value of a build option (``y``, ``m``, a number); None where it is off or unknown."""
        if self.config is None:
            return None
        match = re.search(rf"^{name}=(.*)$", self.config.read_text(encoding="utf-8"), re.MULTILINE)
        return match[1] if match else None

    def lacks(self, name: str) -> bool:
        """Whether a build option is off; False where the configuration is not known."""
        return self.config is not None and self.option(name) is None

    def has_module(self, name: str) -> bool:
        """Whether there is a module of that name, its own or one that was installed beside its own."""
        return self.modules is not None and name in module_files(self.modules)


def fetched(cache: Cache) -> list[Kernel]:
    """Every kernel in the cache, by release."""
    folders = sorted(cache.kernels.iterdir()) if cache.kernels.is_dir() else []
    found = []
    for folder in folders:
        flavour = next((each for each in _longest_first() if folder.name.endswith(f"-{each}")), None)
        image = next((path for path in _images(folder) if path.is_file()), None)
        if flavour is not None and image is not None:
            modules = next(
                (path for path in (folder / "usr/lib/modules", folder / "lib/modules") if path.is_dir()), None
            )
            config = next((path for path in _configs(folder) if path.is_file()), None)
            known = FLAVOURS[flavour]
            found.append(Kernel(folder.name, known.arch, known.deb_arch, image, modules, config))
    return found


def _longest_first() -> list[str]:
    return sorted(FLAVOURS, key=len, reverse=True)


def _images(folder: Path) -> tuple[Path, ...]:
    name = folder.name
    return (
        folder / "boot" / f"vmlinuz-{name}",
        folder / "boot" / f"vmlinux-{name}",
        folder / "usr/lib/modules" / name / "vmlinuz",
        folder / "usr/lib/modules" / name / "vmlinux",
    )


def _configs(folder: Path) -> tuple[Path, ...]:
    return folder / "boot" / f"config-{folder.name}", folder / "usr/lib/modules" / folder.name / "config"


def find(cache: Cache, kernel: Wanted) -> Kernel:
    """The newest fetched kernel of a series and flavour. Raises :class:`BadInput` with the command that fetches it."""
    have = {each.release: each for each in fetched(cache)}
    release = release_of((f"linux-image-{each}" for each in have), kernel)
    if release is None:
        raise BadInput(f"{kernel} is not fetched", where="--kernel", fix=f"memhp guest fetch {kernel}")
    return have[release]


def built(tree: Path, *, where: str = "--linux") -> Kernel:
    """The kernel that was built in a source tree. Raises :class:`BadInput` for what is missing there."""
    config = tree / ".config"
    if not config.is_file():
        raise BadInput("holds no .config", where=f"{where} {tree}", fix="configure and build the kernel there")
    text = config.read_text(encoding="utf-8")
    arch = next((name for name, row in MACHINES.items() if f"\n{row.config}=y" in text), None)
    if arch is None:
        raise BadInput("is of no architecture that memhp boots", where=str(config), fix=f"one of {', '.join(MACHINES)}")
    images = MACHINES[arch].images
    image = next((tree / path for path in images if (tree / path).is_file()), None)
    if image is None:
        raise BadInput(f"has no {images[0]}", where=f"{where} {tree}", fix="build it: make")
    release = tree / "include/config/kernel.release"
    if not release.is_file():
        raise BadInput("has no include/config/kernel.release", where=f"{where} {tree}", fix="build it: make")
    return Kernel(release.read_text(encoding="utf-8").strip(), arch, MACHINES[arch].deb_arch, image, tree, config)


def named(image: Path, arch: str) -> Kernel:
    """A kernel of the user's own; its release is known once it runs. Raises :class:`BadInput`."""
    if not image.is_file():
        raise BadInput("no such file", where=f"--kernel {image}")
    return Kernel(image.name, arch, MACHINES[arch].deb_arch, image)
