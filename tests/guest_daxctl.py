"""``daxctl`` in a real guest and on a twin of it, the same commands: python tests/guest_daxctl.py --help.

The guest has two regions of persistent memory, each a device of the DAX bus; the twin is made of a capture of it. Where
the guest's kernel shows a page of its own that keeps a block, the twin is told of that page.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from guest_tools import Compared, Result, image, in_the_way, program_version
from memhp.scenario import schema
from memhp.target.captures.write import write
from memhp.target.guest.cache import user_cache
from memhp.target.guest.dax import dax
from memhp.target.guest.guest import running
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.observe import step_files
from memhp.target.guest.plugged import GuestMachine
from memhp.target.guest.pmem import regions, with_regions
from memhp.target.guest.qemu import GuestSpec, find_qemu
from memhp.target.guest.versions import newest
from session_sides import Side, TwinSide, guest_side, second_monitor, twin_side

PROGRAMS = ("daxctl", "lsmem")
DEVICES = (
    schema.Dax(device="dax0.0", at="8G", size="1G", mode="devdax"),
    schema.Dax(device="dax1.0", at="16G", size="1G", mode="devdax"),
)
LOOK = "lsmem -a -n -o RANGE,STATE,ZONES"
COMMANDS = (
    "daxctl list", "daxctl list -D -R -M", "daxctl list -i", "daxctl list -d dax1.0", "daxctl list -r 1",
    "daxctl list -u", "daxctl reconfigure-device -N --mode=system-ram dax0.0", "daxctl list",
    "daxctl online-memory dax0.0", "daxctl list -d dax0.0", LOOK, "daxctl online-memory dax0.0",
    "daxctl offline-memory dax0.0", "daxctl offline-memory dax0.0", "daxctl list",
    "daxctl reconfigure-device --mode=devdax dax0.0", "daxctl list",
    "daxctl reconfigure-device --mode=system-ram dax1.0", "daxctl list", LOOK,
    "daxctl reconfigure-device --mode=devdax dax1.0",
    "daxctl reconfigure-device --mode=devdax --force dax1.0", "daxctl list", LOOK, "daxctl disable-device dax0.0",
    "daxctl enable-device dax0.0", "daxctl destroy-device dax0.0", "daxctl create-device -r 0 -s 128M",
    "daxctl online-memory dax7.0", "daxctl reconfigure-device --mode=nonsense dax0.0",
    "daxctl reconfigure-device --mode=system-ram all", "daxctl list", "daxctl offline-memory all", "daxctl list",
    "daxctl reconfigure-device -m devdax -f all", "daxctl list",
    "daxctl reconfigure-device --mode=system-ram --no-movable dax0.0", "daxctl list", LOOK,
    "daxctl offline-memory dax0.0", LOOK, "daxctl online-memory --no-movable dax0.0", "daxctl list",
)  # fmt: skip


@contextmanager
def both(kernel: Kernel) -> Iterator[tuple[Side, TwinSide]]:
    """A guest with the devices and a twin of it, with the same programs in their shells' way."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        second = folder / "second"
        spec = GuestSpec(
            kernel, append="memhp_default_state=offline", extra=second_monitor(second),
            initrd=image(kernel, folder, PROGRAMS, None),
        )  # fmt: skip
        spec = with_regions(spec, regions(DEVICES))
        guest = stack.enter_context(running(user_cache(), find_qemu(user_cache(), kernel.arch), spec))
        guest.agent.run("busybox --install -s /bin; export LC_ALL=C")
        machine = GuestMachine(guest)
        for step in DEVICES:
            assert dax(machine, step).result == "ok", step
        write({"0-boot": step_files(guest, pages=True)}, folder / "captured")
        real = stack.enter_context(guest_side(guest, second))
        twin = stack.enter_context(twin_side(folder / "captured", folder, exact=True))
        libraries = os.environ.get("LD_LIBRARY_PATH", "")
        twin.agent.run(f"export LC_ALL=C PATH={in_the_way(kernel, folder, PROGRAMS)} LD_LIBRARY_PATH={libraries}")
        yield real, twin


def compare(kernel: Kernel) -> Result:
    """Carry out everything on both sides."""
    result = Result(kernel.release)
    with both(kernel) as (real, twin):
        logged = len(real.log())
        for command in COMMANDS:
            theirs, log = real.shell(command), real.log()
            twin.tell(real, log[logged:])
            logged = len(log)
            result.compared.append(Compared(command, theirs, twin.shell(command)))
    return result


def main() -> int:
    """Compare, and print what came of it; 1 if anything differed."""
    parser = argparse.ArgumentParser(description="daxctl in a real guest and on a twin of it")
    parser.add_argument("--kernel", default="", help="the release begins so (default: the newest that is fetched)")
    told = parser.parse_args()
    found = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    found = {release: each for release, each in found.items() if release.startswith(told.kernel)}
    if not found:
        sys.exit("no such kernel of x86_64: memhp guest fetch 7.2:x86_64")
    result = compare(found[newest(found)])
    print(f"daxctl {program_version('daxctl')}")
    print(result.report())
    return int(bool(result.differing))


if __name__ == "__main__":
    sys.exit(main())
