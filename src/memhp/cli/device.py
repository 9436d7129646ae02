"""``memhp device``: a device of the model served to an unmodified QEMU, and told at run time how to misbehave."""
# SPDX-License-Identifier: GPL-2.0-or-later

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memhp.cli.output import echo_lines, emit_json, json_option
from memhp.errors import BadInput

if TYPE_CHECKING:
    from memhp.target.device.status import DeviceDocument


@click.group()
def device() -> None:
    """Serve a virtio-mem device to a virtual machine over vhost-user, and control it while it runs."""


@device.command("virtio-mem")
@click.option(
    "--socket", type=click.Path(path_type=Path), required=True, help="Where QEMU's vhost-user device connects."
)
@click.option("--control", type=click.Path(path_type=Path), help="Where memhp device ctl asks.  [default: SOCKET.ctl]")
@click.option("--size", required=True, metavar="SIZE", help="Memory that the device manages.")
@click.option("--at", metavar="ADDRESS", help="Where it begins in guest physical memory.")
@click.option("--guest", metavar="ARCH:SIZE", help="Instead of --at: QEMU's machine with so much RAM of its own.")
@click.option("--block-size", default="2M", show_default=True, metavar="SIZE", help="What is plugged at once at least.")
@click.option("--node", default=0, show_default=True, type=click.IntRange(0, 0xFFFF), help="The proximity domain.")
@click.option("--requested", default="0", show_default=True, metavar="SIZE", help="What the guest is to plug at first.")
@click.option("--fault", "faults", multiple=True, metavar="TEXT", help='Such as "request=PLUG answer=BUSY count=2".')
@click.option("--once", is_flag=True, help="End when the first front end has gone.")
@json_option
def virtio_mem(
    socket: Path,
    control: Path | None,
    size: str,
    at: str | None,
    guest: str | None,
    block_size: str,
    node: int,
    requested: str,
    faults: tuple[str, ...],
    once: bool,
    as_json: bool,
) -> int:
    """Serve a virtio-mem device until interrupted; every request of the guest is a line of output.

    With --json the lines go to stderr, and the end (--once) is a report.
    """
    from memhp.hw.devices.virtio_mem import Geometry
    from memhp.target.device.attach import qemu_options, region_at
    from memhp.target.device.control import Ask
    from memhp.target.device.faults import parse_fault
    from memhp.target.device.server import Server
    from memhp.units import parse_size

    if (at is None) == (guest is None):
        raise click.UsageError("give --at, or --guest ARCH:SIZE")
    managed = parse_size(size, where="--size")
    if not managed:
        raise BadInput("a device manages some memory", where="--size", fix="such as 1G")
    arch, _, own = (guest or "").partition(":")
    if at is not None:
        start = parse_size(at, where="--at")
    else:
        start = region_at(arch, parse_size(own, where="--guest"), where="--guest")
    block = parse_size(block_size, where="--block-size")
    options = {"addr": "--guest" if at is None else "--at", "requested_size": "--requested", "faults": "--fault"}
    options |= {"region_size": "--size", "block_size": "--block-size"}
    with _as_written(options):
        geometry = Geometry(start, managed, block, node)
    ask = Ask(
        requested=parse_size(requested, where="--requested"),
        faults=[parse_fault(text, where="--fault") for text in faults],
    )

    def line(text: object) -> None:
        click.echo(text, err=as_json)
        (sys.stderr if as_json else sys.stdout).flush()

    with Server(geometry, socket, control or control_of(socket), say=line, heard=line) as server:
        with _as_written(options):
            server.answer(ask)
        if guest is not None:
            line(" ".join(qemu_options(arch, parse_size(own, where="--guest"), geometry.region_size, socket)))
        server.run(once=once)
        if as_json:
            emit_json(server.status(since=0))
    return 0


@contextmanager
def _as_written(options: dict[str, str]) -> Iterator[None]:
    """What a device says of one of its properties is said of the option that set it."""
    try:
        yield
    except BadInput as error:
        name, bracket, rest = error.where.partition("[")
        raise BadInput(error.message, where=options.get(name, name) + bracket + rest, fix=error.fix) from None


def control_of(socket: Path) -> Path:
    """The control socket of a device served at `socket`, where nothing else was said."""
    return socket.with_name(f"{socket.name}.ctl")


@device.command()
@click.argument("control", type=click.Path(path_type=Path))
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--fault", "faults", multiple=True, metavar="TEXT", help='Such as "request=PLUG answer=BUSY count=2".')
@click.option("--clear", is_flag=True, help="No fault is in force any more but those of this command.")
@click.option("--since", type=click.IntRange(0), metavar="NUMBER", help="Tell the requests from this number on.")
@json_option
def ctl(
    control: Path, changes: tuple[str, ...], faults: tuple[str, ...], clear: bool, since: int | None, as_json: bool
) -> int:
    """Change a served device and show it: requested=512M asks the guest for another size.

    CONTROL is its control socket. Without a change the device is shown as it stands.
    """
    from memhp.target.device.control import Ask, ask
    from memhp.target.device.faults import parse_fault
    from memhp.units import parse_size

    told = dict(word.partition("=")[::2] for word in changes)
    unknown = next((key for key in told if key != "requested"), None)
    if unknown is not None:
        raise BadInput(f"a device has no {unknown!r} to change", where="KEY=VALUE", fix="requested=SIZE, or --fault")
    wanted = parse_size(told["requested"], where="requested") if "requested" in told else None
    parsed = [parse_fault(text, where="--fault") for text in faults]
    found = ask(control, Ask(requested=wanted, clear=clear, faults=parsed, since=since))
    if as_json:
        emit_json(found)
    else:
        show(found)
    return 0


def show(found: "DeviceDocument") -> None:
    """A device for people."""
    from memhp.target.device.faults import fault_text
    from memhp.units import exact_size

    device = (
        f"{exact_size(found.plugged_size)} plugged, {exact_size(found.requested_size)} requested; "
        f"{exact_size(found.region_size)} at {found.addr:#x} by {exact_size(found.block_size)}; {found.verdict}"
    )
    faults = [f"fault: {fault_text(row.fault)}; {row.matched} requests matched" for row in found.faults]
    echo_lines([device, *faults, *(f"{request.number:6} {request}" for request in found.requests)])
