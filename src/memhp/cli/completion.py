"""``memhp completion``: the script by which a shell completes commands, options and files."""
# SPDX-License-Identifier: GPL-2.0-or-later

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
WHERE = {
    "bash": 'eval "$(memhp completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(memhp completion zsh)" in ~/.zshrc, after compinit',
    "fish": "memhp completion fish > ~/.config/fish/completions/memhp.fish",
}


@click.command(epilog=" · ".join(f"{shell}: {text}" for shell, text in WHERE.items()))
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print the completion script of SHELL."""
    from memhp.cli.main import COMPLETE, cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "memhp", COMPLETE).source())
    return 0
