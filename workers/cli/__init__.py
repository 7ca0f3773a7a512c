"""`aigc`: the door for people. Commands load when they are called, so that each pays only for what it uses."""

import sys
from importlib import import_module

import click

from aigc_core.errors import AigcError

#: Command → module of this package that has it, under the same name with `_` for `-`.
COMMANDS = {
    "quickstart": "quickstart",
    "up": "stack",
    "status": "stack",
    "down": "stack",
    "dataset": "orders",
    "train": "orders",
    "generate": "orders",
    "jobs": "views",
    "job": "views",
    "watch": "views",
    "results": "papers",
    "cancel": "steer",
    "pause": "steer",
    "resume": "steer",
    "priority": "steer",
    "retry": "steer",
    "dead": "steer",
    "drain": "steer",
    "workers": "steer",
    "team": "steer",
    "teams": "steer",
    "audit": "steer",
    "webhooks": "repair",
    "recover": "repair",
    "verify": "repair",
    "models": "views",
    "datasets": "views",
    "worker": "process",
    "beat": "process",
    "healthcheck": "process",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"workers.cli.{COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="aigc")
def aigc() -> None:
    """Order generated pictures in bulk: ingest data, train, generate, watch."""


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 the job ended badly, 2 refused (one line says why), 130 interrupted."""
    try:
        sys.exit(aigc.main(standalone_mode=False))  # the exit code of click.exceptions.Exit, None for 0
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except AigcError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
