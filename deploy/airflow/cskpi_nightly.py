"""The nightly run of cskpi, for Airflow 3.1 or later (tested with 3.3).

Environment of the scheduler and the workers:

    CSKPI            the program (cskpi, found by PATH, when not set)
    CSKPI_FOLDER     the folder it runs in: relative paths of the pipeline start here (/srv/cskpi)
    CSKPI_PIPELINE   the pipeline file, seen from that folder (pipelines/nightly.yaml)

and the variables that the pipeline file asks for. Schedule and time zone stand at the end of this file.

The instant of a night is that of its DAG run, so a task that is tried again, or cleared, decides as it did the first time
which months are complete. Triggered with `backfill_start`, the DAG does past months instead of the last ones.
"""

import json
import os
from datetime import timedelta

import pendulum
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param
from airflow.sdk.exceptions import AirflowFailException

PROGRAM = os.environ.get("CSKPI", "cskpi")
FOLDER = os.environ.get("CSKPI_FOLDER", "/srv/cskpi")
PIPELINE = os.environ.get("CSKPI_PIPELINE", "pipelines/nightly.yaml")

# What trying again cannot mend: 1, a check failed or an input's content is wrong; 2, a mistake in the pipeline file or the
# command line. All else is tried again: 75, another run holds the lock or an input is not there yet; 130 and 143, and
# below 0, the run was ended by a signal.
FINAL = {1: "a check, an input or publishing failed", 2: "a mistake in the pipeline file or the command line"}


class Cskpi(BaseOperator):
    """Runs one verb of cskpi without a shell; the last line of what it says goes to XCom. When the task is ended, cskpi
    gets a SIGTERM: it finishes the commit at hand, writes its results and gives the lock back."""

    def __init__(self, *, verb, **kwargs):
        super().__init__(**kwargs)
        self.verb = verb
        self.process = SubprocessHook()

    def arguments(self, context):
        return [self.verb, PIPELINE]

    def execute(self, context):
        command = [PROGRAM, *self.arguments(context)]
        code, last_line = self.process.run_command(command, cwd=FOLDER)
        if code in FINAL:
            raise AirflowFailException(f"cskpi {self.verb} ended with {code}: {FINAL[code]}; its log is above")
        if code != 0:
            raise RuntimeError(f"cskpi {self.verb} ended with {code}: to be tried again")
        return self.result(last_line)

    def result(self, last_line):
        return last_line

    def on_kill(self):
        self.process.send_sigterm()


class CskpiRun(Cskpi):
    """`run`, or `backfill` where the DAG run asks for it; XCom gets the summary as a dictionary."""

    def __init__(self, **kwargs):
        super().__init__(verb="run", **kwargs)

    def arguments(self, context):
        params = context["params"]
        # A run triggered by hand may have no logical date.
        as_of = context.get("data_interval_end") or context["dag_run"].run_after
        arguments = ["--as-of", as_of.isoformat(), "--reprocess", params["reprocess"], "--output", "json"]
        if not params["backfill_start"]:
            return ["run", PIPELINE, *arguments]
        if params["backfill_end"]:
            arguments += ["--end", params["backfill_end"]]
        return ["backfill", PIPELINE, "--start", params["backfill_start"], *arguments]

    def result(self, last_line):
        return json.loads(last_line)


with DAG(
    dag_id="cskpi_nightly",
    description="Customer-success KPIs of the last complete month and those before it",
    # After the exports are there, and after the pipeline's ready_after.
    schedule=CronTriggerTimetable("30 6 * * *", timezone="Asia/Tokyo"),
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Tokyo"),
    # A night that was missed need not be made up for: the next one looks at the same months.
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 18, "retry_delay": timedelta(minutes=10)},
    params={
        "backfill_start": Param(None, type=["null", "string"], description="First period of a backfill: 2025-04"),
        "backfill_end": Param(None, type=["null", "string"], description="The period after its last one: 2026-04"),
        "reprocess": Param("stale", enum=["none", "failed", "stale", "all"], description="Which of the periods to compute"),
    },
    tags=["cskpi"],
):
    CskpiRun(task_id="run") >> Cskpi(task_id="verify", verb="verify")
