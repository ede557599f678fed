"""A DAG file for Apache Airflow 3: one task a stage, retries where they help, a schedule, assets that start it."""

from __future__ import annotations

import re
from string import Template

from pipeline.engine.export.handover import BACKOFF, FINAL, RETRIES, Handover
from privacy.errors import ConfigError

_CRON = re.compile(r"@(hourly|daily|weekly|monthly|yearly)|\S+( \S+){4}")

_FILE = Template('''"""The lifecycle of $label: each task runs one stage of one run.

Written by `sottovoce export airflow`.

It starts when one of its assets is updated$when:
  POST /api/v2/assets/events {"asset_id": ID, "extra": {}}, or any task with $label-data among its outlets.
"""

import json
from datetime import datetime, timedelta

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, $imports, BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

COMMAND = $command
STAGES = $stages
FINAL = $final
"""Exit codes that a second try cannot mend: configuration, data, privacy or budget."""


class StageOperator(BaseOperator):
    """Runs one stage. A killed task ends its process; the next try goes on from what is finished."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.hook = SubprocessHook()

    def execute(self, context):
        run = context["dag_run"]
        changes = [word for change in context["params"]["set"] for word in ("--set", change)]
        name = f"{run.dag_id}/{run.run_id}"
        done = self.hook.run_command([*COMMAND, "--run", name, "--until", self.task_id, *changes])
        try:
            said = json.loads(done.output)
        except ValueError:
            said = {}
        if done.exit_code:
            kind = AirflowFailException if done.exit_code in FINAL else AirflowException
            cause, remedy = said.get("cause", done.output), said.get("remedy") or ""
            raise kind(f"{self.task_id}: {cause} {remedy} (exit {done.exit_code})")
        if said.get("event") != "Report":
            return None
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"version": said["version"], "champion": said["champion"]}
        return said

    def on_kill(self):
        self.hook.send_sigterm()


data = Asset(name="$label-data", uri="x-sottovoce://$label/data")
"""New rows at the clients, or outcomes of predictions."""
version = Asset(name="$label-version", uri="x-sottovoce://$label/version")
"""A version was registered."""

with DAG(
    "$label",
    schedule=$schedule,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"set": Param([], type="array", items={"type": "string"}, description="Settings to change: a.b=c")},
    default_args={
        "retries": $retries,
        "retry_delay": timedelta(seconds=$backoff),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(hours=$hours),
    },
) as dag:
    tasks = [StageOperator(task_id=name, outlets=[version] if name == STAGES[-1] else []) for name in STAGES]
    for before, after in zip(tasks, tasks[1:]):  # a workspace is for one process at a time
        before >> after
''')


def written(handover: Handover, schedule: str | None) -> str:
    """The DAG file. schedule: a cron text, or `@daily` and its like; None: only its assets start it.

    Raises ConfigError for a schedule that is none.
    """
    if schedule is not None and not _CRON.fullmatch(schedule):
        raise ConfigError(
            f"--schedule {schedule!r} is no cron text", remedy='Five fields, as in "0 2 * * *", or @daily.'
        )
    imports = "Asset" if schedule is None else "Asset, AssetOrTimeSchedule, CronTriggerTimetable"
    timed = f'AssetOrTimeSchedule(timetable=CronTriggerTimetable({schedule!r}, timezone="UTC"), assets=[data])'
    return _FILE.substitute(
        label=handover.label,
        when="" if schedule is None else f", and at {schedule} (UTC)",
        imports=imports,
        schedule="[data]" if schedule is None else timed,
        command=repr(handover.words),
        stages=repr(list(handover.stages)),
        final=repr(set(FINAL)),
        retries=RETRIES,
        backoff=BACKOFF,
        hours=f"{handover.hours:g}",
    )
