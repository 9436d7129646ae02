"""Finding room for a new resource: the second half of ``kernel/resource.c``."""
# SPDX-License-Identifier: GPL-2.0-or-later

from errno import EBUSY

from memhp.errors import KernelError
from memhp.linux.kernel.resource import Resource, request_resource
from memhp.linux.place import here
from memhp.spans import Span
from memhp.units import align_up

KERNEL_FILE = "kernel/resource.c"


def allocate_resource(root: Resource, new: Resource, size: int, align: int, within: Span | None = None) -> None:
    """Give `new` the lowest `size` bytes, aligned, that no child of `root` has, and put it there; if `within` is given,
    in these. Raises EBUSY.

    A child that begins where `root` does is passed over, so that nothing begins at the first byte of `root` then.
    """
    start, bounds = root.start, within or Span(root.start, root.end + 1)
    for child in (*root.children, None):
        end = min(root.end if child is None else child.start - 1, bounds.end - 1)
        at = align_up(max(start, bounds.start), align)
        if at + size - 1 <= end:
            new.start, new.end = at, at + size - 1
            request_resource(root, new)
            return
        start = end + 1 if child is None else child.end + 1
    raise KernelError(EBUSY, f"no room for {size:#x} bytes", place=here(), advice="ask for less")
