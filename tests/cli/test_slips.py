"""Words that are none, are empty, or name a socket of somebody else: told in one line, with what may be meant."""
# SPDX-License-Identifier: GPL-2.0-or-later

import socket
from pathlib import Path
from threading import Thread

import pytest

from cli.test_hostile_input import MACHINE, complaint


def test_a_slip_in_a_word_of_a_group_or_an_operand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args, meant in (
        (["guest", "fetchh"], "Did you mean 'fetch'?"),
        (["vm", "statuss", "x"], "Did you mean 'status'?"),
        (["device", "clt", "x"], "Did you mean 'ctl'?"),
        (["twin", "ctll"], "Did you mean 'ctl'?"),
        (["twin", "ctll", "x", "status"], "Did you mean 'ctl'?"),
        (["twin", "runn", "x86-vm", "true"], "Did you mean 'run'?"),
        (["twin", "x86-v", "true"], "did you mean x86-vm?"),
        (["twin", "ctl", "x", "satus"], "do: cannot be \"satus\" (did you mean status?)"),
        (["twin", "ctl", "x", "plug", "sise=1G"], "sise: there is no such key (did you mean size?)"),
        (["rehearse", "refusd"], "did you mean examples/refused.toml?"),
        (["example", "refusd"], "did you mean refused?"),
        (["schema", "rehearze"], "did you mean rehearse?"),
        (["choices", "pgd_polici"], "did you mean pgd_policy?"),
        (["explore", "vmalloc-vs-hot-remov"], "did you mean vmalloc-vs-hot-remove?"),
    ):
        assert meant in complaint(args, capsys)
    (tmp_path / "x.toml").write_text(MACHINE + '[[twin]]\nthen = { do = "plugg" }\n', encoding="utf-8")
    assert "twin[0].then.do: cannot be" in complaint(["twin", str(tmp_path / "x.toml"), "true"], capsys)


def test_an_empty_argument_is_no_path_and_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = "an argument is empty (is a variable of the shell not set?)"
    plug = ["rehearse", "--machine", "riscv-vm", "--plug", "1G"]
    for args, where in (
        ([*plug, "--sysroot", ""], "--sysroot: "),
        ([*plug, "--sysroot="], "--sysroot: "),
        ([*plug, "--html", ""], "--html: "),
        (["blocks", "--machine", ""], "--machine: "),
        (["rehearse", ""], ""),
        (["twin", "", "--", "true", ""], ""),
        (["twin", "ctl", "", "status"], ""),
        (["vm", "status", ""], ""),
        (["capture", "x", "--out", "y", "--step", ""], "--step: "),
    ):
        assert complaint(args, capsys) == f"memhp: {where}{empty}\n"
    assert list(tmp_path.iterdir()) == []
    assert "--json: cannot be 'hexx' (--json, or --json=hex)" in complaint(["choices", "--json=hexx"], capsys)


FOREIGN = (b"{}", b"[]", b"hello", b'{"return": {}}', b'{"schema": 1, "verdict": "done"}', b'{"QMP": {"version": {}}}')


@pytest.mark.parametrize("says", FOREIGN)
def test_whoever_listens_at_a_socket_and_is_no_twin(
    says: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s"

    def answer() -> None:
        line, _ = listener.accept()
        with line:
            line.recv(1000)
            line.sendall(says + b"\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = Thread(target=answer)
        thread.start()
        said = complaint(["twin", "ctl", str(path), "status"], capsys)
        thread.join()
    assert said.startswith(f"memhp: {path}: what listens there is no twin (")
