"""Lineage for other people's catalogues: OpenLineage events, and what ML Metadata loads."""
