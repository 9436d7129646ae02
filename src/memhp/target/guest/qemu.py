"""QEMU as a program: which one to run, and with which arguments a guest starts."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memhp.errors import BadInput
from memhp.spans import Span
from memhp.target.guest.cache import Cache
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.machines import MACHINES


@dataclass(frozen=True)
class Qemu:
    """How to run QEMU for one architecture: the words of the command, and where firmware lies."""

    command: tuple[str, ...]
    share: Path | None = None

    def firmware(self, name: str) -> Path | None:
        """A firmware image below ``share``, or where the host keeps its own."""
        places = [place for place in (self.share, Path("/usr/share")) if place is not None]
        return next((place / name for place in places if (place / name).is_file()), None)


def find_qemu(cache: Cache, arch: str, own: Path | None = None) -> Qemu:
    """The user's own QEMU, else the fetched one, run with the libraries it came with, else the host's.

    Raises :class:`BadInput` with the command that fetches one.
    """
    name = f"qemu-system-{MACHINES[arch].qemu}"
    if own is not None:
        if not own.is_file():
            raise BadInput("no such program", where=f"--qemu {own}")
        return Qemu((str(own.absolute()),))
    root = cache.qemu / arch
    program = root / "usr/bin" / name
    loader = next(iter(sorted(root.glob("usr/lib/*/ld-linux-*.so.*"))), None)
    if program.is_file() and loader is not None:
        folder = loader.parent
        libraries = ":".join(map(str, (folder, *(folder / sub for sub in ("ceph", "samba", "systemd")))))
        places = [root / "usr/share" / each for each in ("qemu", "seabios")]
        paths = [word for place in places for word in ("-L", str(place))]
        command = (str(loader), "--library-path", libraries, "--argv0", str(program), str(program), *paths)
        return Qemu(command, root / "usr/share")
    host = shutil.which(name)
    if host is None:
        raise BadInput(f"no {name}", where="QEMU", fix=f"memhp guest fetch 6.12:{arch}, or --qemu PROGRAM")
    return Qemu((host,))


@dataclass(frozen=True)
class VirtioMemDevice:
    """A virtio-mem device that a guest starts with: bytes."""

    name: str
    size: int
    block_size: int
    node: int = 0


@dataclass(frozen=True)
class GuestSpec:
    """What a guest starts with. Sizes are bytes; `nodes` is the RAM of each node."""

    kernel: Kernel
    nodes: tuple[int, ...] = (1 << 30,)
    cpus: int = 2
    max_memory: int = 64 << 30
    slots: int = 16
    append: str = ""
    virtio_mem: tuple[VirtioMemDevice, ...] = ()
    dimms: bool = False
    """Whether DIMMs will be plugged: on some architectures the machine then starts through UEFI."""
    notifiers: bool = False
    """Whether memory notifiers will be made to refuse: their module is loaded before anything is plugged."""
    cpu: str | None = None
    extra: tuple[str, ...] = ()
    initrd: Path | None = None
    shell: bool = False
    regions: tuple[Span, ...] = ()
    """Persistent memory (bytes) that the device tree names."""
    ram_paths: tuple[str, ...] = field(default=())
    """Files that hold the RAM of each node, then of each virtio-mem device, for whoever reads the guest's memory."""

    def memory(self) -> Iterator[tuple[str, int]]:
        """What such files hold: QEMU's name of it, and bytes."""
        yield from ((f"ram{node}", size) for node, size in enumerate(self.nodes))
        yield from ((f"{device.name}-ram", device.size) for device in self.virtio_mem)


@dataclass(frozen=True)
class Lines:
    """File descriptors that QEMU inherits: sockets to its monitor and to the agent, and a file for the console."""

    monitor: int
    agent: int
    console: int


def command_line(qemu: Qemu, spec: GuestSpec, initrd: Path, lines: Lines | None) -> list[str]:
    """The words that start a guest. Without `lines` its console is the terminal (a shell)."""
    machine = MACHINES[spec.kernel.arch]
    append = f"console={machine.console} quiet panic=-1 nokaslr log_buf_len=1M"
    append = " ".join(filter(None, (append, machine.append, spec.append)))
    if spec.shell:
        append += " memhp.shell"
    memory = f"{sum(spec.nodes) >> 20}M"
    if machine.dimm or machine.virtio_mem:
        memory += f",slots={spec.slots},maxmem={spec.max_memory >> 20}M"
    words = [*qemu.command, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]
    words += ["-machine", machine.machine, "-accel", "tcg,thread=multi", "-cpu", spec.cpu or machine.cpu]
    words += ["-smp", str(spec.cpus), "-m", memory]
    for node, (size, path) in enumerate(zip(spec.nodes, spec.ram_paths, strict=False)):
        words += ["-object", f"memory-backend-file,id=ram{node},size={size},mem-path={path},share=on"]
        cpus = f",cpus=0-{spec.cpus - 1}" if node == 0 and spec.cpus else ""
        words += ["-numa", f"node,nodeid={node},memdev=ram{node}{cpus}"]
    words += ["-kernel", str(spec.kernel.image), "-initrd", str(initrd), "-append", append]
    if machine.needs_firmware or (spec.dimms and machine.dimm_needs_firmware):
        words += ["-bios", str(_firmware(qemu, machine.firmware or "", spec.kernel.arch))]
    if lines is None:
        words += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    else:
        words += [
            "-chardev",
            f"file,id=console,path=/proc/self/fd/{lines.console},append=on",
            "-serial",
            "chardev:console",
        ]
        words += ["-chardev", f"socket,id=monitor,fd={lines.monitor}", "-mon", "chardev=monitor,mode=control"]
        words += ["-chardev", f"socket,id=agent,fd={lines.agent}", "-device", "virtio-serial-pci"]
        words += ["-device", "virtserialport,chardev=agent,name=memhp.agent"]
    for device, path in zip(spec.virtio_mem, spec.ram_paths[len(spec.nodes) :], strict=True):
        backend = f"memory-backend-file,id={device.name}-ram,size={device.size},mem-path={path},share=on,reserve=off"
        words += ["-object", backend]
        words += ["-device", _virtio_mem(device)]
    return [*words, *spec.extra]


def _virtio_mem(device: VirtioMemDevice) -> str:
    return (
        f"virtio-mem-pci,id={device.name},memdev={device.name}-ram,node={device.node},"
        f"block-size={device.block_size},requested-size=0"
    )


def _firmware(qemu: Qemu, name: str, arch: str) -> Path:
    path = qemu.firmware(name)
    if path is None:
        raise BadInput(f"no {name}", where="firmware", fix=f"memhp guest fetch 7.2:{arch}")
    return path
