"""Fetching, against a package manager that is a script: what it is asked, and what is kept of what it gives."""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
from pathlib import Path

import pytest

from memhp.errors import BadInput
from memhp.target.guest.cache import Cache
from memhp.target.guest.fetch import fetch
from memhp.target.guest.flavours import wanted
from memhp.target.guest.kernel import find
from memhp.target.guest.sources import Stanza

APT_GET = """#!/bin/sh
echo "$@" >> "$CALLS"
for word; do case $word in
  Dir::State::Lists=*) lists=${word#*=};;
  Dir::Cache::Archives=*) archives=${word#*=};;
  APT::Architecture=*) arch=${word#*=};;
  APT::Status-Fd=*) status=${word#*=};;
  Dir::Etc::SourceParts=*) etc=${word#*=};;
esac; done
case " $* " in
  *" update "*)
    [ -n "$UNREACHABLE" ] && { echo "E: Could not resolve the archive" >&2; exit 100; }
    touch $lists/archive_dists_trixie_main_binary-${arch}_Packages;;
  *" --print-uris "*) for p in $PACKAGES; do echo "'http://archive.example/$p.deb' $p.deb 5 SHA256:0"; done;;
  *" download "*) echo dlstatus:1:50.0:half > /dev/fd/$status
    for word; do case $word in linux-*|busybox-*) echo $word > ${word}_1_$arch.deb;; esac; done;;
  *" install "*) for p in $PACKAGES; do echo $p > $archives/$p.deb; done;;
esac
"""

APT_CACHE = """#!/bin/sh
case " $* " in
  *" pkgnames "*) printf 'linux-image-7.2.9-riscv64\\nlinux-image-7.2.13-riscv64\\nlinux-image-7.2.13-riscv64-dbg\\n';;
  *" depends "*)
    printf 'linux-image\\n  PreDepends: linux-base\\n  Depends: linux-modules-7.2.13-riscv64\\n  Depends: <x>\\n';;
esac
"""

DPKG_DEB = """#!/bin/sh
case $2 in
  *linux-image*) mkdir -p $3/boot; touch $3/boot/vmlinux-7.2.13-riscv64;;
  *linux-modules*) mkdir -p $3/usr/lib/modules/7.2.13-riscv64;;
  *busybox*) mkdir -p $3/usr/bin; touch $3/usr/bin/busybox;;
  *) mkdir -p $3/usr/share/doc $3/usr/bin; touch $3/usr/bin/qemu-system-riscv64 $3/usr/share/doc/waste;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the calls of apt-get are written down, a line each."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE), ("dpkg-deb", DPKG_DEB)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PACKAGES", "qemu-system-riscv libc6")
    stanza: Stanza = {"Types": "deb", "URIs": "http://archive.example/d", "Suites": "x", "Components": "main"}
    monkeypatch.setattr("memhp.target.guest.repository.own_archive", lambda: stanza)
    return tmp_path / "calls"


def test_the_newest_kernel_comes_with_its_parts_busybox_and_qemu(calls: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    seen: list[tuple[str, float]] = []
    releases = fetch(cache, [wanted("7.2:riscv64")], "x86_64", lambda what, part: seen.append((what, part)))
    assert releases == ["7.2.13-riscv64"]
    assert find(cache, wanted("7.2:riscv64")).image.name == "vmlinux-7.2.13-riscv64"
    assert (cache.busybox / "riscv64/usr/bin/busybox").is_file()
    assert (cache.qemu / "riscv64/usr/bin/qemu-system-riscv64").is_file()
    assert not (cache.qemu / "riscv64/usr/share/doc").exists()
    assert ("kernel 7.2.13-riscv64", 0.5) in seen
    text = calls.read_text()
    assert "download linux-image-7.2.13-riscv64 linux-modules-7.2.13-riscv64\n" in text
    assert "APT::Architecture=riscv64" in text and "APT::Architecture=amd64" in text
    assert "/etc/apt" not in text and "Dir::State::status=" in text


def test_what_is_there_is_not_fetched_again(calls: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        fetch(cache, [wanted("7.2:riscv64")], "x86_64", lambda what, part: None)
        before = calls.read_text()
    fetch(cache, [wanted("7.2:riscv64")], "x86_64", lambda what, part: None)
    assert calls.read_text() == before
    assert before.count(" update") == 2, "once for the guest's architecture, once for the host's"


def test_a_series_that_no_suite_has_is_told_with_those_that_there_are(calls: Path, tmp_path: Path) -> None:
    del calls
    with pytest.raises(BadInput, match=r"no suite has 5\.10:riscv64.*7\.2\.9, 7\.2\.13"):
        fetch(Cache(tmp_path / "cache"), [wanted("5.10:riscv64")], "x86_64", lambda what, part: None)


def test_an_archive_that_cannot_be_reached_is_told_in_apts_words(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del calls
    monkeypatch.setenv("UNREACHABLE", "1")
    with pytest.raises(BadInput, match="Could not resolve the archive"):
        fetch(Cache(tmp_path / "cache"), [wanted("7.2:riscv64")], "x86_64", lambda what, part: None)


def test_a_machine_without_apt_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="--kernel, --initrd and --qemu"):
        fetch(Cache(tmp_path / "cache"), [wanted("7.2:riscv64")], "x86_64", lambda what, part: None)
