"""The SQL files of ``include/sql``, found as package resources: on a laptop beside ``dags``, on MWAA inside plugins.zip."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def folder() -> Path:
    """Return ``include/sql``, for Airflow's template_searchpath."""
    return Path(str(resources.files("include"))) / "sql"


def names(part: str) -> list[str]:
    """Return the numbered files of a part ("load"), in running order, as ``template_searchpath`` finds them: ``load/10_lock.sql``."""
    return sorted(f"{part}/{file.name}" for file in (folder() / part).glob("[0-9]*.sql"))


def texts(part: str) -> dict[str, str]:
    """Return the text of each numbered file by its name without number: ``lock`` for ``10_lock.sql``."""
    return {name.partition("_")[2].removesuffix(".sql"): (folder() / name).read_text(encoding="utf-8") for name in names(part)}
