"""Whoever listens at a socket may say nothing, too much, or hang up: all of it ends."""
# SPDX-License-Identifier: GPL-2.0-or-later

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from memhp.cli.main import main
from memhp.errors import BadInput
from memhp.limits import AGENT_ANSWER, Limit
from memhp.target.socket_line import SocketLine
from memhp.twin import control as twin_control


@contextmanager
def listening(path: Path, talk: Callable[[socket.socket, Event], None]) -> Iterator[None]:
    """Somebody who talks with one caller; the event says when it is over."""
    over = Event()
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(path))
        line.listen()

        def serve() -> None:
            caller, _ = line.accept()
            with caller:
                talk(caller, over)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def says_nothing(_: socket.socket, over: Event) -> None:
    over.wait(30)


def says_a_little_at_a_time(caller: socket.socket, over: Event) -> None:
    while not over.wait(0.01):
        caller.sendall(b"x")


def test_the_rest_of_an_answer_stays_for_the_next(tmp_path: Path) -> None:
    with (
        listening(tmp_path / "s", lambda caller, _: caller.sendall(b"one\ntwo\nth")),
        closing(SocketLine(tmp_path / "s", 5)) as line,
    ):
        assert [line.until(b"\n", 5), line.until(b"\n", 5)] == [b"one", b"two"]
        with pytest.raises(EOFError, match="it hung up"):
            line.until(b"\n", 5)


@pytest.mark.parametrize("talk", [says_nothing, says_a_little_at_a_time])
def test_an_answer_has_one_deadline_whatever_trickles_in(
    talk: Callable[[socket.socket, Event], None], tmp_path: Path
) -> None:
    with (
        listening(tmp_path / "s", talk),
        closing(SocketLine(tmp_path / "s", 5)) as line,
        pytest.raises(TimeoutError),
    ):
        line.until(b"\n", 0.1)


def test_an_answer_has_a_limit(tmp_path: Path) -> None:
    with (
        listening(tmp_path / "s", lambda caller, _: caller.sendall(b"x" * 1000)),
        closing(SocketLine(tmp_path / "s", 5)) as line,
        pytest.raises(BadInput, match="too large: an answer is 100 lines at most"),
    ):
        line.until(b"\n", 5, Limit("an answer", 100, "lines"))


@pytest.mark.parametrize(
    "args", [["twin", "ctl", "{}", "plug", "size=1G"], ["device", "ctl", "{}"]], ids=["twin", "device"]
)
def test_a_socket_at_which_nobody_answers_is_given_up(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SocketLine.until, "__defaults__", (0.1, AGENT_ANSWER))
    monkeypatch.setattr(twin_control, "ANSWER_SECONDS", Limit("the wait", 0, "seconds"))
    with listening(tmp_path / "s", says_nothing):
        assert main([arg.format(tmp_path / "s") for arg in args]) == 2
    assert "answer" in capsys.readouterr().err


def test_a_key_that_is_there_twice_is_not_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["twin", "ctl", str(tmp_path / "s"), "plug", "size=1G", "size=2G"]) == 2
    assert "size: is there twice" in capsys.readouterr().err
    assert main(["twin", "ctl", str(tmp_path / "s"), "plug", "do=eject"]) == 2
    assert "do: is there twice" in capsys.readouterr().err
