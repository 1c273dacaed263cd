//! What sbatch says of itself.

use crate::slurm::connect::VERSION;
use crate::submit::{Layer, Opt};

const USAGE: &str = "\
Usage: sbatch [OPTIONS] SCRIPT [ARGUMENTS]
       sbatch [OPTIONS] --wrap=COMMAND
       sbatch [OPTIONS] < SCRIPT
";

const HELP: &str = "\
Usage: sbatch [OPTIONS] SCRIPT [ARGUMENTS]
       sbatch [OPTIONS] --wrap=COMMAND
       sbatch [OPTIONS] < SCRIPT

What is needed:
  -N, --nodes=N[-M]           number of nodes, or the least and the most
  -n, --ntasks=N              number of ranks of all nodes together
      --ntasks-per-node=N     ranks on each node
  -c, --cpus-per-task=N       cores of each rank
      --mem=SIZE              memory on each node; 0 is all
      --mem-per-cpu=SIZE      memory for each core
      --gres=LIST             devices on each node, such as gpu:2
  -G, --gpus=[TYPE:]N         GPUs of all nodes together
  -L, --licenses=LIST         licences held while it runs, such as matlab:2
      --gpus-per-node=[TYPE:]N, --gpus-per-task=[TYPE:]N
      --ntasks-per-gpu=N, --cpus-per-gpu=N, --mem-per-gpu=SIZE
  -t, --time=TIME             time limit: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S
      --time-min=TIME         shortest limit with which it may start earlier
      --exclusive[=user]      share the nodes with nobody

Where it runs:
  -p, --partition=NAME[,NAME] partition; the first that can run the job is taken
  -C, --constraint=FEATURES   features of the nodes
  -w, --nodelist=NODES, -F, --nodefile=FILE, -x, --exclude=NODES
      --switches=N[@TIME]     at most so many leaf switches
      --contiguous, --spread-job, --threads-per-core=N, --hint=HINT
  -m, --distribution=KIND     how srun lays ranks over nodes and cores
      --reservation=NAME      reservation to use
  -M, --clusters=NAME         this cluster's name, or all

When it runs:
  -a, --array=INDICES[%N]     a task for each index, at most N at once
  -b, --begin=WHEN, --deadline=WHEN
  -d, --dependency=LIST       after other jobs: afterok:12, singleton
      --kill-on-invalid-dep=yes|no
  -H, --hold                  submit it held
      --nice[=N], --priority=N, -A, --account=NAME, -q, --qos=NAME
      --requeue, --no-requeue
      --signal=[B:]SIGNAL[@S] signal S seconds before the time limit

What it reads, writes and inherits:
  -D, --chdir=DIRECTORY       working directory
  -i, --input=FILE, -o, --output=FILE, -e, --error=FILE, --open-mode=append|truncate
      --export=ALL|NONE|LIST, --get-user-env, --propagate[=LIMITS]
  -J, --job-name=NAME, --comment=TEXT, --wckey=KEY
      --mail-type=EVENTS, --mail-user=ADDRESS

What the command does:
  -W, --wait                  wait for the job, and end as it did
      --parsable              print the job's id alone
      --test-only             check the job and say when it would start
      --wrap=COMMAND          run a command line in place of a script
  -Q, --quiet, -v, --verbose, -V, --version, -h, --help, --usage

docs/slurm-compatibility.md lists every option of Slurm's: works, differs, refused.
";

const HINTS: &str = "\
Application hint options:
    --hint=             Bind tasks according to application hints
        compute_bound   use all cores in each socket
        memory_bound    use only one core in each socket
        [no]multithread [don't] use extra threads with in-core multi-threading
        help            show this help message
";

/// What was asked for in place of a job.
pub(super) fn asked(layer: &Layer) -> Option<&'static str> {
    if layer.has(Opt::Help) {
        Some(HELP)
    } else if layer.has(Opt::Usage) {
        Some(USAGE)
    } else if layer.has(Opt::Version) {
        Some(VERSION)
    } else if layer.get(Opt::Hint).is_some_and(|said| said.value == "help") {
        Some(HINTS)
    } else {
        None
    }
}
