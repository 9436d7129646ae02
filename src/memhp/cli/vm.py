"""``memhp vm``: the memory of a running virtual machine: what it has, what a change would do, and the change itself."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memhp.cli.finite import FiniteRange
from memhp.cli.output import echo_lines, emit_json, json_option, progress
from memhp.errors import BadInput
from memhp.units import exact_size, parse_size

if TYPE_CHECKING:
    from memhp.target.vm import Vm, VmStatus
    from memhp.target.vm_rehearse import Guest, Rehearsed
    from memhp.target.vm_resize import Change, Patience, Progress

Command = TypeVar("Command", bound=Callable[..., Any])

VM = click.argument("address", metavar="VM")
NOT_REHEARSED = "· not rehearsed: an NVDIMM is asked back, which QEMU refuses as of 11.1, whatever the guest would say"
APPLIES = (
    "Nothing changes without --yes or a yes at the terminal: the change is rehearsed on the model, and shown. Of a "
    "rehearsal that fails --yes makes no change, but with --insist."
)


@dataclass(frozen=True)
class Wish:
    """How a change is to be made, by the options that all changes have."""

    dry_run: bool
    yes: bool
    insist: bool
    wait: bool
    timeout: float
    quiet: float
    machine: str | None
    step: str | None
    kernel: str | None
    as_json: bool

    @property
    def patience(self) -> "Patience | None":
        """How long to wait; None: not at all."""
        from memhp.target.vm_resize import Patience

        return Patience(self.timeout, self.quiet) if self.wait else None

    def guest(self, machine: "Vm", onlines: bool | None = None) -> "Guest":
        """What is known of the guest: what the options say, else the kernel's note in RAM; and what its agent told."""
        from memhp.target.vm_memory import kernel_of
        from memhp.target.vm_rehearse import Guest

        kernel = self.kernel or (None if self.machine else kernel_of(machine))
        return Guest(self.machine, self.step, kernel, onlines)


def change_options(command: Command) -> Command:
    """The options that all changes have."""
    options = [
        click.option("--dry-run", is_flag=True, help="Rehearse only, whatever else is said."),
        click.option("--yes", is_flag=True, help="Do it without asking, if the rehearsal went well."),
        click.option("--insist", is_flag=True, help="With --yes: do it though the rehearsal failed."),
        click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the guest has done it."),
        click.option("--timeout", type=FiniteRange(0, 1e9), default=300.0, show_default=True, metavar="S"),
        click.option("--quiet-for", "quiet", type=FiniteRange(0, 1e9), default=30.0, show_default=True,
                     metavar="S", help="Give up when nothing has changed for so long."),
        click.option("--machine", metavar="SOURCE", help="A capture or sysroot of the guest, to rehearse on."),
        click.option("--step", metavar="STEP", help="Which moment of a capture."),
        click.option("--kernel", metavar="RELEASE", help="The guest's kernel, where no capture tells."),
        json_option,
    ]  # fmt: skip
    decorated: Any = command
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


@click.group()
def vm() -> None:
    """See and change the memory of a running virtual machine.

    VM is the socket of QEMU's monitor (-qmp unix:PATH,server=on,wait=off), ch:SOCKET or libvirt:DOMAIN. Exit code 1 if
    a change would fail, failed, or was not reached in time.
    """


@vm.command()
@VM
@json_option
def status(address: str, as_json: bool) -> int:
    """Show what memory VM has, device by device, and what there is room for."""
    from memhp.report.vm import status_lines

    with _session(address) as machine:
        found = machine.status()
    if as_json:
        _emit("listed", found)
    else:
        echo_lines(status_lines(found))
    return 0


@vm.command(epilog=APPLIES)
@VM
@click.argument("size")
@click.option("--device", metavar="ID", help="Which virtio-mem device; by default the only one.")
@click.option("--rollback", is_flag=True, help="If it is not reached, request the former size again.")
@click.option("--agent", type=click.Path(path_type=Path), metavar="SOCKET", help="The guest agent, for reasons.")
@change_options
def resize(address: str, size: str, device: str | None, rollback: bool, agent: Path | None, **options: Any) -> int:
    """Request another SIZE of a virtio-mem device: bytes, or such as 4G."""
    from memhp.target import vm_resize
    from memhp.target.vm import check_request
    from memhp.target.vm_agent import GuestAgent, brings_online, why_with
    from memhp.target.vm_rehearse import rehearse_request

    wish, wanted = Wish(**options), parse_size(size, where="SIZE")
    with ExitStack() as stack:
        machine = stack.enter_context(_session(address))
        inside = stack.enter_context(closing(GuestAgent(agent))) if agent is not None else None
        found = machine.status()
        onlines, why = (None, None) if inside is None else (brings_online(inside, found), why_with(inside))
        chosen = found.device(device)
        check_request(chosen, wanted)
        rehearsed = rehearse_request(found, wish.guest(machine, onlines), chosen, wanted)

        def change(told: "Progress") -> "Change":
            return vm_resize.resize(
                machine, chosen.id, wanted, patience=wish.patience, rollback=rollback, why=why, progress=told
            )

        return _carry_out(wish, found, rehearsed, f"request {exact_size(wanted)} of {chosen.id}", change)


@vm.command(epilog=APPLIES)
@VM
@click.argument("size")
@click.option("--id", "name", metavar="ID", help="The name of the new device; by default one that is free.")
@click.option("--node", type=click.IntRange(0), metavar="N", help="The node that it belongs to.")
@click.option("--nvdimm", "file", type=click.Path(path_type=Path), metavar="FILE", help="An NVDIMM with that content.")
@click.option(
    "--agent", type=click.Path(path_type=Path), metavar="SOCKET", help="The guest agent: waits for its blocks."
)
@change_options
def plug(
    address: str,
    size: str,
    name: str | None,
    node: int | None,
    file: Path | None,
    agent: Path | None,
    **options: Any,
) -> int:
    """Plug a DIMM, or an NVDIMM, of SIZE."""
    from memhp.target import vm_resize
    from memhp.target.vm import Plugged, check_plug
    from memhp.target.vm_agent import GuestAgent, brings_online, follow_plugged
    from memhp.target.vm_rehearse import rehearse_nvdimm, rehearse_plug
    from memhp.target.vm_resize import Change

    wish, wanted = Wish(**options), parse_size(size, where="SIZE")
    if not wanted:
        raise BadInput("a DIMM of no size", where="SIZE", fix="such as 1G")
    with ExitStack() as stack:
        machine = stack.enter_context(_session(address))
        inside = stack.enter_context(closing(GuestAgent(agent))) if agent is not None else None
        found = machine.status()
        taken = {device.id for device in found.devices}
        free = name or next(f"memhp-dimm{i}" for i in range(len(taken) + 1) if f"memhp-dimm{i}" not in taken)
        path = None if file is None else str(file.resolve())
        what = Plugged(id=free, kind="nvdimm" if file else "dimm", size=wanted, node=node, file=path)
        check_plug(found, what)
        guest = wish.guest(machine, None if inside is None else brings_online(inside, found))
        rehearsed = rehearse_nvdimm(found, guest, what) if file else rehearse_plug(found, guest, wanted)

        def change(told: "Progress") -> "Change":
            there = vm_resize.plug(machine, what)
            if inside is not None and wish.patience is not None and file is None:
                return follow_plugged(inside, there, wish.patience, told)
            return Change(device=there.id, before=0, wanted=wanted, now=there.size, ended="reached", seconds=0.0)

        return _carry_out(wish, found, rehearsed, f"plug {what.kind} {free} of {exact_size(wanted)}", change)


@vm.command(epilog=APPLIES)
@VM
@click.argument("device", required=False)
@change_options
def unplug(address: str, device: str | None, **options: Any) -> int:
    """Ask the guest for a DIMM or NVDIMM back; DEVICE may be left out where there is only one."""
    from memhp.target import vm_resize
    from memhp.target.vm_rehearse import rehearse_unplug

    wish = Wish(**options)
    with _session(address) as machine:
        found = machine.status()
        chosen = found.dimm(device)
        rehearsed = None if chosen.kind == "nvdimm" else rehearse_unplug(found, wish.guest(machine), chosen)

        def change(told: "Progress") -> "Change":
            return vm_resize.unplug(machine, chosen.id, patience=wish.patience)

        return _carry_out(wish, found, rehearsed, f"take {chosen.id} away", change)


@vm.command()
@click.argument("agent", type=click.Path(path_type=Path))
@json_option
def blocks(agent: Path, as_json: bool) -> int:
    """Show the guest's memory blocks, as its agent at the socket AGENT tells them."""
    from memhp.report.vm import block_lines
    from memhp.target.vm_agent import GuestAgent

    with _answering(), closing(GuestAgent(agent)) as guest:
        size, found = guest.block_size(), guest.blocks()
    if as_json:
        from memhp.report.documents import VmDocument

        emit_json(VmDocument(verdict="listed", block_size=size, blocks=found))
    else:
        echo_lines(block_lines(size, found))
    return 0


@vm.command()
@click.argument("agent", type=click.Path(path_type=Path))
@click.argument("numbers", nargs=-1, required=True, type=click.IntRange(0, 1 << 44), metavar="BLOCK…")
@click.option("--offline", is_flag=True, help="Take them offline instead.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
def online(agent: Path, numbers: tuple[int, ...], offline: bool, yes: bool) -> int:
    """Let the guest's agent bring memory blocks online, each as the guest's policy has it."""
    from memhp.target.vm_agent import GuestAgent

    what = f"{'take offline' if offline else 'bring online'} {', '.join(f'memory{number}' for number in numbers)}"
    with _answering(), closing(GuestAgent(agent)) as guest:
        if not (yes or _asked(what)):
            there = {block.number for block in guest.blocks()}
            echo_lines(f"memory{number}: there is no such block" for number in numbers if number not in there)
            click.echo(f"nothing was changed: --yes does it ({what})")
            return 0 if there.issuperset(numbers) else 1
        said = guest.change(numbers, online=not offline)
    for number in numbers:
        text = said.get(number, "no answer")
        echo_lines([f"{'✗' if text else '✓'} memory{number}{': ' if text else ''}{text}"])
    return 0 if not any(said.get(number, "no answer") for number in numbers) else 1


@contextmanager
def _answering() -> Iterator[None]:
    """A monitor or agent that refuses or goes away ends in one line."""
    from memhp.target.vm import VmLost, VmRefused

    try:
        yield
    except (VmLost, VmRefused) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _session(address: str) -> "Iterator[Vm]":
    """A session with the monitor at an address; failures of it end in one line."""
    from memhp.target.vm_address import open_vm

    with _answering(), closing(open_vm(address)) as machine:
        yield machine


def _carry_out(
    wish: Wish, found: "VmStatus", rehearsed: "Rehearsed | None", what: str, change: "Callable[[Progress], Change]"
) -> int:
    """Show the rehearsal, ask, do it and say what came of it; the exit code."""
    from memhp.report.vm import change_lines, rehearsal_lines

    if not wish.as_json:
        echo_lines([NOT_REHEARSED] if rehearsed is None else rehearsal_lines(rehearsed))
    fine = rehearsed is None or rehearsed.ok
    if not _wanted(wish, what, fine=fine):
        if wish.as_json:
            _emit("unrehearsed" if rehearsed is None else "rehearsed" if fine else "refused", found, rehearsed)
        else:
            does = "--yes does it" if fine else "the rehearsal failed; --yes --insist does it all the same"
            echo_lines([f"nothing was changed in {found.name}: {does}"])
        return 0 if fine else 1
    with progress() as bar:
        task = bar.add_task(what, total=None)
        done = change(lambda size: bar.update(task, description=f"{what}: {exact_size(size)}"))
    if wish.as_json:
        _emit(done.ended, found, rehearsed, done)
    else:
        echo_lines(change_lines(done))
    return 0 if done.ended in ("reached", "requested") else 1


def _wanted(wish: Wish, what: str, *, fine: bool) -> bool:
    """Whether the change is to be made: said so, or asked at a terminal and answered.

    One whose rehearsal is not `fine` needs more than that somebody said so.
    """
    if wish.dry_run:
        return False
    if wish.yes:
        return fine or wish.insist
    return not wish.as_json and _asked(what if fine else f"{what}, though the rehearsal failed")


def _asked(what: str) -> bool:
    """Whether somebody at a terminal was asked, and said yes."""
    return sys.stdin is not None and sys.stdin.isatty() and click.confirm(f"{what[0].upper()}{what[1:]}?")


def _emit(
    verdict: Any, found: "VmStatus", rehearsed: "Rehearsed | None" = None, change: "Change | None" = None
) -> None:
    from memhp.report.documents import VmDocument, VmRehearsal

    rehearsal = None
    if rehearsed is not None:
        rehearsal = VmRehearsal(ok=rehearsed.ok, step=rehearsed.step, assumed=list(rehearsed.assumed))
    emit_json(VmDocument(verdict=verdict, vm=found, rehearsal=rehearsal, change=change))
