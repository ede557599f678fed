"""The lifecycle in the languages of other orchestrators: each of their tasks runs one stage of one run."""
