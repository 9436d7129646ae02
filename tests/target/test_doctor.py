"""``memhp guest doctor`` looks at every architecture that guests have, and asks for those that are fetched unasked."""
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path

import pytest

from memhp.linux.arch.registry import ARCHES
from memhp.target.guest.cache import Cache
from memhp.target.guest.doctor import BY_DEFAULT, examine
from memhp.target.guest.flavours import DEFAULTS, FLAVOURS, flavour_called, wanted
from memhp.target.guest.machines import MACHINES


def test_guests_of_every_architecture_have_a_machine_a_flavour_and_an_image() -> None:
    assert set(MACHINES) == {flavour.arch for flavour in FLAVOURS.values()} == set(ARCHES)
    assert {arch: row.flavour for arch, row in MACHINES.items() if FLAVOURS[row.flavour].arch != arch} == {}
    assert all(row.images for row in MACHINES.values())


@pytest.mark.parametrize(
    ("name", "flavour"),
    [
        ("x86_64", "cloud-amd64"),
        ("x86", "cloud-amd64"),
        ("aarch64", "arm64"),
        ("arm64-16k", "arm64-16k"),
        ("riscv", "riscv64"),
        ("loongarch64", "loong64"),
    ],
)
def test_an_architecture_by_any_of_its_names_stands_for_a_flavour(name: str, flavour: str) -> None:
    assert flavour_called(name) == FLAVOURS[flavour]
    assert flavour_called("sparc64") is None


def test_every_architecture_is_looked_for_and_what_fetch_takes_unasked_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    found = {check.name: check for check in examine(Cache(tmp_path), "x86_64")}
    for arch in ARCHES:
        assert found[arch].found.startswith("no QEMU, no kernel")
        assert wanted(found[arch].fix.removeprefix("memhp guest fetch ")).flavour.arch == arch
    assert {arch for arch in ARCHES if not found[arch].ok} == BY_DEFAULT == {"x86_64", "arm64", "riscv64"}
    assert len(DEFAULTS) == 2 * len(BY_DEFAULT)
