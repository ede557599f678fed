"""A Beam pipeline: one step a stage, each waiting for the one before as a side input."""

from __future__ import annotations

from string import Template

from pipeline.engine.export.handover import BACKOFF, FINAL, RETRIES, Handover

_FILE = Template('''"""The lifecycle of $label as a Beam pipeline: each step runs one stage of one run.

Written by `sottovoce export beam`.
  python FILE --run NAME [--set A.B=C ...] [options of Beam, such as --runner]
A runner that repeats a step, or runs it twice, does no harm: what is finished is not done again.
"""

import argparse
import subprocess
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

COMMAND = $command
STAGES = $stages
FINAL = $final
"""Exit codes that a second try cannot mend: configuration, data, privacy or budget."""


class Stage(beam.DoFn):
    """Runs one stage, and passes on the name of the run."""

    def __init__(self, name, changes, tries=$tries, wait=$backoff):
        self.name, self.changes, self.tries, self.wait = name, changes, tries, wait

    def process(self, run, *needed):
        command = [*COMMAND, "--run", run, "--until", self.name, *self.changes]
        for attempt in range(self.tries):
            done = subprocess.run(command, capture_output=True, text=True, timeout=$seconds)
            if done.returncode == 0:
                yield run
                return
            if done.returncode in FINAL:
                break
            if attempt + 1 < self.tries:
                time.sleep(self.wait * 2**attempt)
        said = (done.stdout or done.stderr).strip().splitlines()
        raise RuntimeError(f"{self.name}: exit {done.returncode}: {said[-1] if said else 'it said nothing'}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", required=True, help="Name of the run: any text; the same text goes on with it.")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="Change one setting.")
    parser.add_argument("--wait", type=float, default=$backoff, help="Seconds before the second try.")
    given, rest = parser.parse_known_args()
    changes = [word for change in given.set for word in ("--set", change)]
    if not any(word.startswith("--runner") for word in rest):
        # Beam's DirectRunner first looks for another runner on the network; this is the same engine, and does not.
        rest.append("--runner=FnApiRunner")
    with beam.Pipeline(options=PipelineOptions(rest)) as pipeline:
        root = pipeline | "run" >> beam.Create([given.run])
        done = []
        for name in STAGES:
            waits = [beam.pvalue.AsIter(done[-1])] if done else []
            done.append(root | name >> beam.ParDo(Stage(name, changes, wait=given.wait), *waits))


if __name__ == "__main__":
    main()
''')


def written(handover: Handover) -> str:
    """The pipeline's file."""
    return _FILE.substitute(
        label=handover.label,
        command=repr(handover.words),
        stages=repr(list(handover.stages)),
        final=repr(set(FINAL)),
        tries=RETRIES + 1,
        backoff=BACKOFF,
        seconds=f"{handover.hours * 3600:g}",
    )
