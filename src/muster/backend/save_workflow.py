"""`PUT /api/workflows/{id}`: a version is added, never overwritten (R0.2); seed recipes at first start."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from muster.backend.refusal import ProblemSlug, Refusal
from muster.contracts.api import FieldError, ValidationAnswer, WorkflowVersion
from muster.recipe.issues import RecipeIssue
from muster.recipe.model import Recipe
from muster.recipe.parse import parse_recipe
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.store import workflows
from muster.store.database import Database
from muster.store.dialects import AnyRow

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Saved:
    """The newest version, and whether this request made it (201) or it was the same already (200)."""

    workflow: WorkflowVersion
    is_new: bool


def validate(document: object) -> ValidationAnswer:
    """All that is wrong with a document, and what is worth a look."""
    parsed = parse_recipe(document)
    return ValidationAnswer(
        ok=parsed.recipe is not None, errors=field_errors(parsed.errors), warnings=field_errors(parsed.warnings)
    )


class SaveWorkflow:
    """Saves recipes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def save(self, workflow_id: str, document: object) -> Saved | Refusal:
        """Adds a version when the content differs from the newest one's. `version` in the document plays no part."""
        parsed = parse_recipe(document)
        if parsed.recipe is None:
            errors = tuple(field_errors(parsed.errors))
            return Refusal(ProblemSlug.INVALID_RECIPE, f"{len(errors)} error(s) in the recipe", errors)
        if parsed.recipe.workflow_id != workflow_id:
            return Refusal.of_field(
                ProblemSlug.INVALID_RECIPE,
                "workflow_id",
                f"is {parsed.recipe.workflow_id}, but the address says {workflow_id}",
            )
        row, versions, is_new = await self._add(parsed.recipe)
        return Saved(workflow_version(row, versions, field_errors(parsed.warnings)), is_new)

    async def _add(self, recipe: Recipe) -> tuple[AnyRow, list[int], bool]:
        content_hash = _content_hash(recipe)
        async with self._database.writing() as tx:
            newest = await workflows.find(tx, recipe.workflow_id)
            is_new = newest is None or newest.content_hash != content_hash
            if is_new:
                version = newest.version + 1 if newest else 1
                await workflows.add(
                    tx,
                    workflow_id=recipe.workflow_id,
                    version=version,
                    name=recipe.name,
                    steps_count=len(recipe.steps),
                    definition=recipe.model_copy(update={"version": version}).document(),
                    content_hash=content_hash,
                    created_at=self._clock.now_ms(),
                )
            row = await workflows.find(tx, recipe.workflow_id)
            assert row is not None, "it was there, or it was just added"
            return row, await workflows.versions(tx, recipe.workflow_id), is_new

    async def save_seeds(self, documents: Iterable[dict[str, Any]]) -> None:
        """Adds the shipped recipes whose ids do not exist yet; what an operator has changed stays."""
        for document in documents:
            workflow_id = str(document["workflow_id"])
            async with self._database.reading() as tx:
                exists = await workflows.find(tx, workflow_id) is not None
            if exists:
                continue
            saved = await self.save(workflow_id, document)
            assert not isinstance(saved, Refusal), f"the shipped recipe {workflow_id} is valid"
            _log.info("Seed recipe added", workflow_id=workflow_id)


def workflow_version(row: AnyRow, versions: list[int], warnings: list[FieldError]) -> WorkflowVersion:
    """A row of `workflows` as it is told to clients."""
    return WorkflowVersion(
        workflow_id=row.workflow_id,
        version=row.version,
        created_at=row.created_at,
        content_hash=row.content_hash,
        definition=row.definition,
        versions=versions,
        warnings=warnings,
    )


def field_errors(issues: Iterable[RecipeIssue]) -> list[FieldError]:
    """Recipe issues in the words of the API."""
    return [FieldError(field=issue.path, message=issue.message) for issue in issues]


def _content_hash(recipe: Recipe) -> str:
    content = {name: value for name, value in recipe.document().items() if name != "version"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
