//! Signals, requeues and changes of jobs that run on real nodes.

use std::time::Duration;

use muster_client::api::{JobUpdate, TaskState};
use muster_core::ids::{JobRef, TaskIndex};
use muster_core::spec::SignalTo;

use crate::support::Bench;

const SOON: Duration = Duration::from_secs(30);

/// The text of a file, once a line of it is there.
fn text(bench: &Bench, name: &str) -> String {
    std::fs::read_to_string(bench.work.join(name)).unwrap_or_default()
}

#[test]
fn signals_reach_whom_they_are_for_and_a_job_is_put_back_and_changed() {
    let Some(bench) = Bench::up("ch", 2, 2) else { return };
    let mut client = bench.site.client().unwrap();
    // The shell and its program note what they get; a subshell between them is passed over.
    let script = "trap 'echo shell >> got' USR1\n\
        (echo $BASHPID > between; python3 -c '\n\
import signal, time, pathlib\n\
def got(number, frame):\n    open(\"got\", \"a\").write(\"program %d\\n\" % number)\n\
signal.signal(signal.SIGUSR1, got)\n\
signal.signal(signal.SIGUSR2, got)\n\
pathlib.Path(\"ready\").touch()\n\
end = time.time() + 120\n\
while time.time() < end and not pathlib.Path(\"enough\").exists(): time.sleep(0.05)\n'; echo after >> got) &\nwait; wait; wait";
    let job = bench.submit(&["-n1", "-t5"], script);
    bench.await_file("ready");
    let whole = JobRef { job, task: None };
    assert_eq!(client.signal(whole, 10, SignalTo::Ranks).unwrap().tasks, 1);
    bench.until("the program's signal", SOON, || text(&bench, "got") == "program 10\n");
    client.signal(whole, 10, SignalTo::Script).unwrap();
    bench.until("the shell's signal", SOON, || text(&bench, "got") == "program 10\nshell\n");
    client.signal(whole, 12, SignalTo::Ranks).unwrap();
    bench.until("the other signal", SOON, || text(&bench, "got").ends_with("program 12\n"));
    bench.write("enough", "");
    let detail = bench.complete(job);
    assert!(text(&bench, "got").ends_with("after\n"), "the subshell went on: {:?}", bench.output(&detail));

    // A script's first line may signal its own job, before anybody was told that it runs.
    let (faces, socket) = (bench.make_faces(), bench.site.socket());
    let first = bench.submit(
        &["-n1", "-t5"],
        &format!(
            "trap 'exit 7' USR1\nMUSTER_SOCKET={} {}/scancel -b -s USR1 $SLURM_JOB_ID || exit 8\n\
             sleep 100 & wait",
            socket.display(),
            faces.display()
        ),
    );
    let detail = bench.wait(first);
    assert_eq!(detail.task_list[0].exit_code, Some(7), "{}", bench.output(&detail));

    // The signal that was wished for comes before the limit.
    let wishes =
        bench.submit(&["-n1", "--signal=B:USR2@3595", "-t1:00:00"], "trap 'exit 3' USR2\nsleep 100 & wait");
    let detail = bench.wait(wishes);
    assert_eq!((detail.summary.state, detail.task_list[0].exit_code), (TaskState::Failed, Some(3)));

    // Put back, a task runs again, whatever it ended with; its limit ends it when that is lowered.
    let again = bench.submit(
        &["-n1", "-a0-1", "-t5"],
        "echo ${SLURM_RESTART_COUNT:-0} > run-$SLURM_ARRAY_TASK_ID-${SLURM_RESTART_COUNT:-0}\ntrap 'exit 255' TERM\nsleep 200 & wait",
    );
    bench.await_file("run-0-0");
    bench.await_file("run-1-0");
    let task = JobRef { job: again, task: Some(TaskIndex(1)) };
    assert_eq!(client.requeue(task, false).unwrap().tasks, 1);
    bench.await_file("run-1-1");
    client.update_job(again, &JobUpdate { time_limit_s: Some(1), ..JobUpdate::default() }).unwrap();
    let detail = bench.wait(again);
    let attempts: Vec<u32> = detail.task_list.iter().map(|task| task.attempt).collect();
    assert_eq!((detail.summary.state, attempts), (TaskState::TimedOut, vec![1, 2]));
    assert!(!bench.work.join("run-0-1").exists(), "the other element was left alone");
    bench.await_clean(&["node01", "node02"]);
}
