"""The lifecycle: configuration, the DAG engine on Ray, the stages, artifacts and lineage, the registry."""
