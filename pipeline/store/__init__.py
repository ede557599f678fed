"""What outlives a run: artifacts, lineage, versions, the workspace they are in."""
