"""lsmem, chmem, daxctl and what a node's and a block's files say, in a real guest and on a twin of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import pytest

import guest_daxctl
from guest_tools import CHMEM, LSMEM, PROGRAMS, compare, found
from memhp.target.guest.cache import user_cache
from memhp.target.guest.kernel import Kernel, fetched
from memhp.target.guest.versions import newest
from twin_runs import needs_a_twin

SERIES = ("6.12", "7.2")


def kernel_of(series: str, programs: tuple[str, ...]) -> Kernel:
    """The newest kernel of a series that is fetched; skips, loudly, where there is none, or no such programs."""
    needs_a_twin()
    if lacking := [name for name in programs if found(name) is None]:
        pytest.skip(f"NO PROGRAM WAS COMPARED WITH A GUEST: no {', '.join(lacking)}")
    kernels = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    kernels = {release: each for release, each in kernels.items() if release.startswith(f"{series}.")}
    if not kernels:
        pytest.skip(f"NO PROGRAM WAS COMPARED WITH A GUEST: run memhp guest fetch {series}:cloud-amd64")
    return kernels[newest(kernels)]


@pytest.mark.parametrize("series", SERIES)
def test_unmodified_programs_print_the_same_in_a_guest_and_on_its_twin(series: str) -> None:
    result = compare(kernel_of(series, PROGRAMS))
    assert result.differing == []
    assert len(result.compared) == 2 * (len(LSMEM) + len(CHMEM))


@pytest.mark.parametrize("series", SERIES)
def test_daxctl_says_the_same_in_a_guest_and_on_its_twin(series: str) -> None:
    result = guest_daxctl.compare(kernel_of(series, guest_daxctl.PROGRAMS))
    assert result.differing == []
    assert len(result.compared) == len(guest_daxctl.COMMANDS)
