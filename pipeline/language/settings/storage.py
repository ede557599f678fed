"""Where things are kept."""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


class StorageConfig(Frozen):
    """Where artifacts and metadata live. Relative to the workspace unless they are URLs."""

    artifacts: str = Field("artifacts", description="Folder or fsspec URL of the artifact store.")
    metadata: str = Field("metadata.db", description="SQLite file or SQLAlchemy URL of lineage metadata.")
    registry: str = Field("registry.db", description="SQLite file or MLflow tracking URL of the registry.")
