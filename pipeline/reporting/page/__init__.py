"""The report that people look at: one self-contained HTML page a run, made from the stores alone."""
