"""flink: the command of Flink's operators, for the one job of a cluster. `portfolio-stream flink` is the same.

It asks Flink's REST interface of the supervisor, and prints what Flink's own command prints. Where Flink's command has
no such action any more (modify) or never had it (log -j, info -j), this one does what the action's name says.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import click

from portfolio_stream.commands.common import WholeRange, read_settings
from portfolio_stream.commands.flink_cluster import JOB_ID, FlinkAddress, FlinkCluster, FlinkTarget, no_yarn, placed
from portfolio_stream.commands.output import note, print_line, print_lines
from portfolio_stream.errors import FlinkRefused

F = TypeVar("F", bound=Callable[..., Any])

NAME = "flink"
#: a script's variable may be empty: the job would go on with another state than the script's author meant
NO_SAVEPOINT = "it is empty, so it names no savepoint. To go on with the state that the job has, leave -s out."
PROGRAM_ARGUMENTS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def cluster_options(command: F) -> F:
    for option in (
        click.option(
            "-t", "--target", type=FlinkTarget(), metavar="TARGET", expose_value=False, help="remote: as without it."
        ),
        click.option(
            "-m",
            "--jobmanager",
            type=FlinkAddress(),
            metavar="HOST:PORT",
            help="The cluster's address. Default: PORTFOLIO_FLINK_HOST and PORTFOLIO_FLINK_PORT, or 127.0.0.1:8081.",
        ),
    ):
        command = option(command)
    return command


def cluster_of(jobmanager: str | None) -> FlinkCluster:
    return FlinkCluster(read_settings(), jobmanager)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def flink() -> None:
    """Flink's command for the job of a cluster: run, list, info, savepoint, stop, cancel, modify, log, checkpoint.

    The cluster is the one of `portfolio-stream cluster start`.
    """


def main(arguments: list[str]) -> int:
    """The launcher's entry."""
    code = flink.main(arguments, prog_name=NAME, standalone_mode=False)
    return code if isinstance(code, int) else 0


# -- run


@flink.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-c", "--class", "entry_class", metavar="CLASS", help="A name only: the workers' own code is the program."
)
@click.option("-p", "--parallelism", type=WholeRange(min=1), metavar="N", help="How many workers.")
@click.option("-s", "--fromSavepoint", "savepoint", metavar="SAVEPOINT", help="With the state of this savepoint.")
@click.option("-d", "--detached", is_flag=True, help="Do not wait until the job runs.")
@click.option("-D", "options", multiple=True, metavar="KEY=VALUE", help="An option of Flink's.")
@click.option("-n", "--allowNonRestoredState", "allows_less", is_flag=True, help="No effect: all state is restored.")
@click.option("-claimMode", "--claimMode", "-rm", "--restoreMode", "claim_mode", metavar="MODE", help="NO_CLAIM.")
@click.option("-C", "--classpath", "class_path", multiple=True, metavar="URL", help="No effect.")
@click.option("-sae", "--shutdownOnAttachedExit", "shuts_down", is_flag=True, help="No effect.")
@cluster_options
@click.argument("jar")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(jar: str, arguments: tuple[str, ...], jobmanager: str | None, **given: Any) -> None:
    """Let the job run: JAR is a name only, and ARGUMENTS may name the job's Kafka and topics.

    With -s the job goes on from that savepoint, whatever state it is in. Without -s it goes on with the state that it
    has. -p and -D give it another number of workers and other settings. Standard error has a line for each option:
    applied, already so, or no effect and why.
    """
    from portfolio_stream.commands.flink_run import run_job

    if given["savepoint"] is not None and not given["savepoint"].strip():
        raise click.BadParameter(NO_SAVEPOINT, param_hint="'-s' / '--fromSavepoint'")
    run_job(cluster_of(jobmanager), jar, arguments, **given)


@flink.command("run-application", context_settings=PROGRAM_ARGUMENTS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_application(arguments: tuple[str, ...]) -> None:
    """Not here: Flink 2.0 removed the action, and the job runs on a cluster that is started before."""
    raise no_yarn("run-application")


# -- look


@flink.command("list")
@click.option("-r", "--running", is_flag=True, help="Only those that run.")
@click.option("-s", "--scheduled", is_flag=True, help="Only those that are being started.")
@click.option("-a", "--all", "every", is_flag=True, help="All of them: earlier generations of the state too.")
@cluster_options
def list_jobs(running: bool, scheduled: bool, every: bool, jobmanager: str | None) -> None:
    """List the job and the earlier generations of its state: since when, newest savepoint, id, name, state."""
    from portfolio_stream.commands.flink_shown import job_lists

    cluster = cluster_of(jobmanager)
    print_line("Waiting for response...")
    jobs = cluster.jobs()
    savepoints = {one["jid"]: newest_savepoint(cluster, one["jid"]) for one in jobs}
    print_lines(job_lists(jobs, savepoints, running=running, scheduled=scheduled, every=every))


def newest_savepoint(cluster: FlinkCluster, job: str) -> str | None:
    """The address of the newest complete savepoint of a job."""
    found = cluster.get(f"/jobs/{job}/checkpoints")["latest"]["savepoint"]
    return None if found is None else str(found["external_path"])


@flink.command()
@click.option("-j", "--job", "job", metavar="ID", help="The job. Without it, JAR is taken for the job of the cluster.")
@click.option("-c", "--class", "entry_class", metavar="CLASS", expose_value=False, help="A name only.")
@click.option("-p", "--parallelism", metavar="N", expose_value=False, help="No effect: nothing is started.")
@cluster_options
@click.argument("jar", required=False)
def info(job: str | None, jar: str | None, jobmanager: str | None) -> None:
    """Show a job's state, steps, checkpoints and savepoint; with JAR instead of -j the plan, as JSON."""
    from portfolio_stream.commands.flink_shown import info_lines, plan_lines

    cluster = cluster_of(jobmanager)
    if job is None and jar is not None and not JOB_ID.fullmatch(jar):
        print_lines(plan_lines(cluster.get(f"/jobs/{current_job(cluster)}/plan")))
        return
    if job is None and jar is None:
        raise click.UsageError("Say -j ID, or the name of a JAR.")
    found = cluster.job(job or jar or "")
    checkpoints = cluster.get(f"/jobs/{found}/checkpoints")
    exceptions = cluster.get(f"/jobs/{found}/exceptions")
    print_lines(info_lines(cluster.get(f"/jobs/{found}"), checkpoints, exceptions))


def current_job(cluster: FlinkCluster) -> str:
    """The id of the job as it is now: the newest one of the list."""
    return str(max(cluster.jobs(), key=lambda one: int(one["start-time"]))["jid"])


@flink.command()
@click.option("-j", "--job", "option", metavar="ID", help="The job.")
@click.option("-n", "--lines", type=WholeRange(min=1), default=100, show_default=True, help="How many of each log.")
@cluster_options
@click.argument("job", required=False)
def log(option: str | None, job: str | None, lines: int, jobmanager: str | None) -> None:
    """Show the newest lines of the logs of a job: the supervisor's and its workers'.

    A worker that the supervisor did not start has a log of its own elsewhere: a line says so, and the others follow.
    """
    from portfolio_stream.commands.flink_shown import tail_lines

    cluster = cluster_of(jobmanager)
    text = option or job
    if text is None:
        raise click.UsageError("Say -j ID.")
    cluster.get(f"/jobs/{cluster.job(text)}")
    places = [("supervisor", "/jobmanager/log")]
    places += [(one["id"], f"/taskmanagers/{one['id']}/log") for one in cluster.get("/taskmanagers")["taskmanagers"]]
    for name, path in places:
        try:
            text = cluster.text(path)
        except FlinkRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            note(f"{name}: {error.cause}")
            continue
        print_lines(tail_lines(name, text, lines))


# -- change


@flink.command()
@click.option("-d", "--dispose", is_flag=True, help="Not here: it deletes a savepoint.")
@click.option("-type", "--type", "kind", metavar="TYPE", help="No effect: savepoints have one form.")
@click.option("-detached", "--detached", is_flag=True, help="Do not wait until the savepoint is complete.")
@cluster_options
@click.argument("job")
@click.argument("directory", required=False)
def savepoint(
    job: str, directory: str | None, dispose: bool, kind: str | None, detached: bool, jobmanager: str | None
) -> None:
    """Write a savepoint of JOB while it runs. DIRECTORY may only be the place of savepoints."""
    from portfolio_stream.commands.flink_run import note_kind

    cluster = cluster_of(jobmanager)
    if dispose:
        cluster.post("/savepoint-disposal", {"savepoint-path": job})
    note_kind(kind)
    found = cluster.job(job)
    print_line(f"Triggering savepoint for job {found}.")
    trigger = cluster.post(f"/jobs/{found}/savepoints", {"target-directory": placed(directory)})["request-id"]
    if detached:
        print_line(f"Successfully trigger manual savepoint, triggerId: {trigger}")
        return
    print_line("Waiting for response...")
    done = cluster.until_over(f"/jobs/{found}/savepoints/{trigger}", "savepoint")
    print_line(f"Savepoint completed. Path: {done['location']}")
    print_line("You can resume your program from this savepoint with the run command.")


@flink.command()
@click.option("-p", "--savepointPath", "directory", is_flag=False, flag_value="", metavar="DIR", help="Where to.")
@click.option("-d", "--drain", is_flag=True, help="First fold everything that is in the source now.")
@click.option("-type", "--type", "kind", metavar="TYPE", help="No effect: savepoints have one form.")
@cluster_options
@click.argument("job", required=False)
def stop(job: str | None, directory: str | None, drain: bool, kind: str | None, jobmanager: str | None) -> None:
    """Stop JOB with a savepoint. `flink run -s` goes on from it, `flink run` from where the job stopped: the same."""
    from portfolio_stream.commands.flink_run import note_kind

    cluster = cluster_of(jobmanager)
    found, place = job_and_directory(cluster, job, directory)
    note_kind(kind)
    print_line(f'{"Draining" if drain else "Suspending"} job "{found}" with a CANONICAL savepoint.')
    body = {"drain": drain, "targetDirectory": place}
    trigger = cluster.post(f"/jobs/{found}/stop", body)["request-id"]
    done = cluster.until_over(f"/jobs/{found}/savepoints/{trigger}", "stop with a savepoint")
    print_line(f"Savepoint completed. Path: {done['location']}")


@flink.command()
@click.option("-s", "--withSavepoint", "directory", is_flag=False, flag_value="", metavar="DIR", help="With one.")
@cluster_options
@click.argument("job", required=False)
def cancel(job: str | None, directory: str | None, jobmanager: str | None) -> None:
    """Cancel JOB at once: what is not committed is dropped, and folded again later. With -s: stop with a savepoint."""
    cluster = cluster_of(jobmanager)
    found, place = job_and_directory(cluster, job, directory)
    if directory is None:
        print_line(f"Cancelling job {found}.")
        cluster.patch(f"/jobs/{found}?mode=cancel")
        print_line(f"Cancelled job {found}.")
        return
    note('DEPRECATION WARNING: Cancelling a job with savepoint is deprecated. Use "stop" instead.')
    where = "default savepoint directory" if place is None else place
    print_line(f"Cancelling job {found} with savepoint to {where}.")
    body = {"cancel-job": True, "target-directory": place}
    trigger = cluster.post(f"/jobs/{found}/savepoints", body)["request-id"]
    done = cluster.until_over(f"/jobs/{found}/savepoints/{trigger}", "stop with a savepoint")
    print_line(f"Cancelled job {found}. Savepoint stored in {done['location']}.")


def job_and_directory(cluster: FlinkCluster, job: str | None, directory: str | None) -> tuple[str, str | None]:
    """The job's id, and where its savepoint goes. Of `-s ID` without a directory, the id is the option's value."""
    if job is None:
        job, directory = directory, None
    if not job:
        raise click.UsageError("Missing JobID. Specify a JobID.")
    return cluster.job(job), placed(directory or None)


@flink.command()
@click.option("-p", "--parallelism", required=True, type=WholeRange(min=1), metavar="N", help="How many workers.")
@click.option("-d", "--detached", is_flag=True, help="Do not wait until the workers serve.")
@cluster_options
@click.argument("job")
def modify(job: str, parallelism: int, detached: bool, jobmanager: str | None) -> None:
    """Give JOB another number of workers while it runs. The supervisor starts or stops some; all share the work."""
    from portfolio_stream.commands.flink_run import modify_job

    cluster = cluster_of(jobmanager)
    modify_job(cluster, cluster.job(job), parallelism, waits=not detached)


@flink.command()
@click.option("-full", "--full", is_flag=True, expose_value=False, help="No effect: each commit holds what changed.")
@cluster_options
@click.argument("job")
def checkpoint(job: str, jobmanager: str | None) -> None:
    """Wait for the next checkpoint of JOB. Nothing has to be triggered: the job commits ten times a second."""
    from portfolio_stream.commands.flink_run import await_checkpoint

    cluster = cluster_of(jobmanager)
    await_checkpoint(cluster, cluster.job(job))
