"""Everything that runs beside the data: the Flower ClientApp, one module a stage, the client's own home on disk."""
