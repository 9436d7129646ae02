"""The first file system of a guest: busybox, the modules that hotplug needs, and an agent that carries out lines.

The agent is one shell that never forks for what the shell itself can do. A request is a line ``TOKEN COMMANDS``; what
the commands print comes back as it is, then a line ``TOKEN STATUS``: a token is random, so no output can be taken for
the end of it.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import gzip
import hashlib
from pathlib import Path

from memhp.errors import BadInput
from memhp.outputs.staging import staging
from memhp.target.guest import cpio
from memhp.target.guest.cache import Cache
from memhp.target.guest.kernel import Kernel
from memhp.target.guest.modules import FIRST, ON_DEMAND, load_order, module_files, needs

PORT = "memhp.agent"
"""The name of the agent's virtio-serial port."""

READY = "memhp-ready"
"""The first word that the agent says."""

INIT = """\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t debugfs debugfs /sys/kernel/debug
dmesg -n 4
for module in FIRST; do [ -e /modules/$module.ko ] && insmod /modules/$module.ko; done
for word in $(cat /proc/cmdline); do [ $word = memhp.shell ] && {
  busybox --install -s /bin
  setsid cttyhack sh
  poweroff -f
}; done
until port=$(grep -l '^PORT$' /sys/class/virtio-ports/*/name 2>/dev/null); do usleep 20000; done
port=${port%/name}
while :; do sh /agent /dev/${port##*/}; done
"""

AGENT = """\
exec 3<>$1
echo READY $(uname -r) >&3
while read -r token line <&3; do
  eval "$line" >&3 2>&1 </dev/null
  echo "
$token $?" >&3
done
"""


def entries(kernel: Kernel, busybox: bytes) -> list[cpio.Entry]:
    """Everything that is in the first file system for a kernel."""
    files = module_files(kernel.modules) if kernel.modules is not None else {}
    first, all_modules = load_order(FIRST, files), load_order((*FIRST, *ON_DEMAND), files)
    init = INIT.replace("FIRST", " ".join(first) or "none").replace("PORT", PORT)
    return [
        *map(cpio.folder, ("bin", "dev", "proc", "sys", "run", "modules")),
        cpio.character_device("dev/console", 5, 1),
        cpio.file("bin/busybox", busybox, executable=True),
        cpio.file("init", init.encode(), executable=True),
        cpio.file("agent", AGENT.replace("READY", READY).encode()),
        *(cpio.file(f"modules/{name}.ko", data) for name, data in all_modules.items()),
        *(cpio.file(f"modules/{name}.needs", " ".join(needs(name, all_modules)).encode()) for name in all_modules),
    ]


def initramfs(cache: Cache, kernel: Kernel) -> Path:
    """The image for a kernel, built when it is not in the cache. Raises :class:`BadInput` without a busybox."""
    busybox = cache.busybox / kernel.deb_arch
    program = next((path for path in (busybox / "usr/bin/busybox", busybox / "bin/busybox") if path.is_file()), None)
    if program is None:
        fix = f"memhp guest fetch 6.12:{kernel.deb_arch}"
        raise BadInput(f"no busybox of {kernel.deb_arch} is fetched", where="initramfs", fix=fix)
    data = cpio.archive(entries(kernel, program.read_bytes()))
    path = cache.initramfs / f"{kernel.arch}-{hashlib.sha256(data).hexdigest()[:16]}.cpio.gz"
    if not path.is_file():
        cache.initramfs.mkdir(parents=True, exist_ok=True)
        with staging(path) as beside:  # another process may do the same meanwhile
            whole = beside / "new"
            whole.write_bytes(gzip.compress(data, compresslevel=1, mtime=0))
            whole.rename(path)
    return path
