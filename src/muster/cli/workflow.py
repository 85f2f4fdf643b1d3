"""`muster workflow list | show | validate | apply`."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from muster.cli.asking import JsonOption, UrlOption, ask
from muster.cli.failing import COULD_NOT, CommandFailed
from muster.cli.output import as_document, local_time, say, tell, tell_json, tell_table
from muster.contracts.api import FieldError, ValidationAnswer, WorkflowVersion
from muster.domain import limits
from muster.recipe.parse import DocumentError, load_document

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Recipes: list, read, check, and add versions.")

_YAML: Final = (".yaml", ".yml")
FileArgument = Annotated[Path, typer.Argument(help="A recipe: JSON, or YAML when its name ends in .yaml or .yml.")]


@app.command("list")
def list_(url: UrlOption = None, json: JsonOption = False) -> None:
    """Lists every workflow at its newest version."""
    listed = ask(url, lambda client: client.workflows())
    if json:
        tell_json(as_document(listed))
        return
    tell_table(
        ["WORKFLOW", "VERSION", "STEPS", "UPDATED", "NAME"],
        [[w.workflow_id, w.version, w.steps_count, local_time(w.updated_at), w.name] for w in listed.workflows],
        flexible="NAME",
    )


@app.command()
def show(
    workflow_id: Annotated[str, typer.Argument(help="Workflow, e.g. login_settings_screenshot_v1.")],
    version: Annotated[int | None, typer.Option("--version", min=1, help="Default: the newest.")] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Shows one version of a workflow.

    Example: muster workflow show demo_20steps_v1 --json
    """
    found = ask(url, lambda client: client.workflow(workflow_id, version))
    if json:
        tell_json(as_document(found))
        return
    older = ", ".join(str(number) for number in sorted(found.versions))
    tell(f"{found.workflow_id}  version {found.version} (of {older})  {local_time(found.created_at)}")
    tell(str(found.definition.get("name", "")))
    tell_table(
        ["#", "STEP", "PHASE", "KIND", "DOES"],
        [_step_row(number, step) for number, step in enumerate(found.definition.get("steps", []), start=1)],
        flexible="DOES",
    )


@app.command()
def validate(file: FileArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Checks a recipe and tells everything that is wrong with it; stores nothing.

    Example: muster workflow validate my-recipe.yaml
    """
    document = _read(file)
    answer = ask(url, lambda client: client.validate_workflow(document))
    if json:
        tell_json(as_document(answer))
    else:
        _tell_findings(file, answer)
    if not answer.ok:
        raise typer.Exit(COULD_NOT)


@app.command()
def apply(file: FileArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Adds the recipe in FILE as the next version of the workflow that it names; never overwrites one.

    Example: muster workflow apply my-recipe.yaml
    """
    document = _read(file)
    workflow_id = document.get("workflow_id")
    if not isinstance(workflow_id, str) or not workflow_id:
        raise CommandFailed(f"{file}: workflow_id is missing; a recipe names its workflow")
    stored = ask(url, lambda client: client.put_workflow(workflow_id, document))
    if json:
        tell_json(as_document(stored))
    else:
        _tell_stored(file, stored)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(limits.RECIPE_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from error
    if len(content) > limits.RECIPE_BYTES_MAX:
        raise CommandFailed(f"{file} is larger than {limits.RECIPE_BYTES_MAX} bytes, the limit of a recipe")
    try:
        document = load_document(content.decode("utf-8-sig"), yaml=file.suffix.lower() in _YAML)
    except (DocumentError, UnicodeDecodeError) as error:
        is_named = file.suffix.lower() in (*_YAML, ".json")
        hint = "" if is_named else "; read as JSON, for only a name in .yaml or .yml says YAML"
        raise CommandFailed(f"{file}: {error}{hint}") from error
    if not isinstance(document, dict):
        raise CommandFailed(f"{file}: a recipe is an object with workflow_id and steps")
    return document


def _tell_findings(file: Path, answer: ValidationAnswer) -> None:
    for finding in answer.errors:
        tell(_finding("error", finding))
    for finding in answer.warnings:
        tell(_finding("warning", finding))
    tell(f"{file}: {'valid' if answer.ok else f'{len(answer.errors)} errors'}")


def _tell_stored(file: Path, stored: WorkflowVersion) -> None:
    for finding in stored.warnings:
        say(_finding("warning", finding))
    tell(f"{file}: stored as {stored.workflow_id} version {stored.version}")


def _finding(kind: str, finding: FieldError) -> str:
    return f"{kind}: {finding.field or 'document'}: {finding.message}"


def _step_row(number: int, step: dict[str, Any]) -> list[object]:
    does = step.get("command") or step.get("source") or step.get("name") or step.get("assert")
    return [number, step.get("id"), step.get("phase"), step.get("kind"), does]
