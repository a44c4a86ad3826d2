"""``torchgauge mcp``: answer an assistant in an editor over stdin and stdout."""

from __future__ import annotations

import argparse

from torchgauge.cli.options import number_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--timeout",
        type=number_of("seconds", may_be_zero=False),
        default=300.0,
        metavar="SECONDS",
        help="the longest that one answer may take (default 300)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> int:
    """Serve until the client closes stdin.

    Raises:
        MissingExtraError: the SDK of the Model Context Protocol is not installed.
    """
    from torchgauge.integrations.optional import optional

    optional("mcp")
    from torchgauge.integrations.mcp.server import serve

    serve(arguments.timeout)
    return 0
