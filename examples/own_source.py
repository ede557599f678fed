"""A source of one's own. Install it beside Sottovoce at the client, and name it in `policy.yaml`:

    source: {kind: callable, function: "own_source:read", key: [patient]}

It is called for every snapshot, and to see whether the table has changed. What it raises stays in the client's log.
"""

from __future__ import annotations

import pandas as pd


def read() -> pd.DataFrame:
    """One record a row: here what three devices wrote down, joined by the patient."""
    stays = pd.DataFrame({"patient": [1, 1, 2, 3], "ward": ["medical", "medical", "surgical", "medical"]})
    lab = pd.DataFrame({"patient": [1, 2, 3], "lactate": [1.1, 4.2, 0.9]})
    died = pd.DataFrame({"patient": [1, 2, 3], "died": ["no", "yes", "no"]})
    return stays.merge(lab, on="patient").merge(died, on="patient")
