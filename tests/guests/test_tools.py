"""lsmem, chmem and what a node's and a block's files say, in a real guest and on a twin of it."""
# SPDX-License-Identifier: GPL-2.0-or-later

import shutil

import pytest

from guest_tools import CHMEM, LSMEM, PROGRAMS, compare
from memhp.target.guest.cache import user_cache
from memhp.target.guest.kernel import fetched
from memhp.target.guest.versions import newest
from twin_runs import needs_a_twin

pytestmark = pytest.mark.xdist_group("guest-x86_64")


def test_unmodified_programs_print_the_same_in_a_guest_and_on_its_twin() -> None:
    needs_a_twin()
    if lacking := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"NO PROGRAM WAS COMPARED WITH A GUEST: no {', '.join(lacking)}")
    found = {each.release: each for each in fetched(user_cache()) if each.arch == "x86_64"}
    if not found:
        pytest.skip("NO PROGRAM WAS COMPARED WITH A GUEST: run memhp guest fetch 7.2:x86_64")
    result = compare(found[newest(found)])
    assert result.differing == []
    assert len(result.compared) == 2 * (len(LSMEM) + len(CHMEM))
