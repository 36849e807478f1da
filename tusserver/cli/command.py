"""Which command is meant, and what its flags and environment say."""

from __future__ import annotations

from collections.abc import Sequence

from tusserver.cli import ls, serve
from tusserver.cli.options import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the name of the program; those of the process by default.

    Returns:
        The exit status: 0 when it did what was asked, 1 when it could not, 2 when it was asked wrongly.
    """
    parser = Parser(prog="tusserver", description="Resumable uploads by the tus protocol.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    for command in (serve, ls):
        sub = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_options(sub)
        sub.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    result: int = options.run(options)
    return result
