"""`muster settings`."""

import typer

from muster.cli.asking import JsonOption, settings_with
from muster.cli.output import tell_json, tell_table

app = typer.Typer(add_completion=False)


@app.command()
def settings(json: JsonOption = False) -> None:
    """Shows every setting in force and where it comes from; secrets are masked.

    Sources, strongest first: command line, environment, muster.toml (or the file that MUSTER_CONFIG names), default.
    """
    shown = settings_with().shown()
    if json:
        tell_json({line.name: {"value": line.value, "origin": line.origin} for line in shown})
        return
    tell_table(
        ["SETTING", "VALUE", "FROM", "MEANING"],
        [[line.name, line.value, line.origin, line.help] for line in shown],
        flexible="MEANING",
    )
