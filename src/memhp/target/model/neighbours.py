"""Steps of those who share a machine with hotplug: users of memory, processes, vmalloc."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.linux.drivers.base.memory import auto_online_blocks_store
from memhp.linux.mm import users
from memhp.linux.mm import vmalloc as vmap
from memhp.linux.mm.memory_failure import memory_failure
from memhp.linux.mm.memory_hotplug_params import param_attr_store
from memhp.linux.mm.soft_offline import soft_offline_page
from memhp.scenario import schema
from memhp.target.model.session import Session, bytes_of, size_of


def set_parameter(session: Session, step: schema.Set) -> None:
    """Change a parameter of hotplug while the machine runs."""
    text = parameter_text(step)
    if step.parameter == "auto_online_blocks":
        auto_online_blocks_store(session.k, text)
    else:
        param_attr_store(session.k, step.parameter, text)


def parameter_text(step: schema.Set) -> str:
    """What is written to the parameter's file."""
    return ("Y" if step.to else "N") if isinstance(step.to, bool) else str(step.to)


def allocate(session: Session, step: schema.Allocate) -> None:
    """Use memory."""
    nbytes = size_of(session, step.size, "size")
    at = None if step.at is None else size_of(session, step.at, "at")
    users.allocate(session.k, nbytes, step.kind, step.tag, nid=step.node, at=at)


def free(session: Session, step: schema.Free) -> None:
    """End an allocation."""
    users.free(session.k, step.tag)


def pin(session: Session, step: schema.Pin) -> None:
    """Pin an allocation."""
    users.pin(session.k, step.tag)


def poison(session: Session, step: schema.Poison) -> None:
    """A memory error, or one that is to be feared."""
    k = session.k
    if not k.port.has_memory_failure:
        raise BadInput(f"{k.config.arch} has no CONFIG_MEMORY_FAILURE", where="do", fix="leave the step out")
    if (step.at is None) == (step.tag is None):
        raise BadInput("which page?", where="at", fix="write `at` or `tag`, one of them")
    if step.tag is not None:
        pfn = users.known_spans(k, step.tag)[0].start
    else:
        assert step.at is not None
        pfn = bytes_of(step.at, "at") >> k.config.page_shift
    (soft_offline_page if step.soft else memory_failure)(k, pfn)


def fragment(session: Session, step: schema.Fragment) -> None:
    """Use up every large free chunk of a node."""
    users.fragment(session.k, size_of(session, step.size, "size"), nid=step.node, tag=step.tag)


def new_process(session: Session, step: schema.NewProcess) -> None:
    """Fork: a root table that copies the kernel's half."""
    if step.process in session.k.pgd:
        raise BadInput(f"there is a process {step.process!r} already", where="process", fix="name it otherwise")
    session.k.port.copy_pgd(session.k, step.process)


def touch(session: Session, step: schema.Touch) -> None:
    """Read a byte of the direct map, or a struct page, in some process."""
    k = session.k
    if step.process not in k.pgd:
        raise BadInput(f"there is no process {step.process!r}", where="process", fix=f"one of {', '.join(k.pgd)}")
    phys = bytes_of(step.at, "at")
    layout = k.layout
    address = (
        layout.phys_to_virt(phys) if step.what == "direct-map" else layout.pfn_to_page(phys >> k.config.page_shift)
    )
    session.notes.append(f"{address:#x}: {k.port.kernel_access(k, step.process, address)}")


def vmalloc(session: Session, step: schema.Vmalloc) -> None:
    """Map pages at addresses of their own."""
    area = vmap.vmalloc(session.k, size_of(session, step.size, "size"), step.tag, step.node)
    session.notes.append(f"{step.tag} is mapped at {area.start:#x}-{area.end - 1:#x}")


def vfree(session: Session, step: schema.Vfree) -> None:
    """Unmap and free such an area. Raises BadInput for one that there is not."""
    areas = session.k.statics(vmap.Vmalloc).vmap_areas
    if step.tag not in areas:
        fix = f"one of {', '.join(areas) or 'none'}"
        raise BadInput(f"there is no vmalloc area {step.tag!r}", where="tag", fix=fix)
    vmap.vfree(session.k, step.tag)
