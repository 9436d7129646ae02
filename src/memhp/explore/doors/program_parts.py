"""What a program of kernel code is made of, looked at before anything of it runs."""
# SPDX-License-Identifier: GPL-2.0-or-later

from memhp.errors import BadInput
from memhp.explore.doors.callbacks import RCU_CALLBACKS
from memhp.explore.doors.outside import must_have_no_kernel
from memhp.explore.doors.user_code import must_be_names, must_take_one
from memhp.linux.state import Kernel


def must_be_parts(kernel: object, actors: object, names: object, failures: object, check: object) -> None:
    """BadInput: one of them is of another sort than it is to be, or does not go with the others."""
    if not isinstance(kernel, Kernel):
        raise BadInput(f"wanted a Kernel, and got a {type(kernel).__name__}", where="kernel")
    if not isinstance(actors, tuple | list):
        raise BadInput(f"wanted a tuple of functions, and got a {type(actors).__name__}", where="actors")
    if not isinstance(names, tuple | list):
        raise BadInput(f"wanted a tuple of names, and got a {type(names).__name__}", where="names")
    if len(names) != len(actors):
        raise BadInput(f"wanted a name for each of {len(actors)} actors, got {len(names)}", where="names")
    must_be_names(names, RCU_CALLBACKS)
    for name, actor in zip(names, actors, strict=True):
        must_take_one(actor, "the kernel, k", name)
        must_have_no_kernel(actor, name)
    if check is not None:
        must_take_one(check, "the kernel, k", "check")
    if not isinstance(failures, set | frozenset) or not failures <= set(range(len(actors))):
        told = f"wanted a frozenset of actors' numbers, below {len(actors)}, and got {failures!r:.80}"
        raise BadInput(told, where="failures")
