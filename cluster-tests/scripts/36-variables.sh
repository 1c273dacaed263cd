#!/bin/bash
#SBATCH --nodes=2 --ntasks=3
#SBATCH --time=5
#= state: completed
#= out: all are set
#= out: and none of these
#= out: 2,1 3
set -u
for name in JOB_ID JOBID JOB_NAME JOB_USER JOB_UID JOB_GID JOB_GROUP JOB_PARTITION CLUSTER_NAME JOB_NODELIST NODELIST \
    JOB_NUM_NODES NNODES JOB_CPUS_PER_NODE TASKS_PER_NODE NTASKS NPROCS CPUS_ON_NODE SUBMIT_DIR SUBMIT_HOST \
    JOB_START_TIME JOB_END_TIME NODEID PROCID LOCALID GTIDS TASK_PID; do
    name=SLURM_$name
    [ -n "${!name}" ] || echo "$name is empty"
done
[ "$SLURM_TASK_PID" = $$ ] && [ "$SLURMD_NODENAME" = "$HOSTNAME" ] && echo "all are set"
env | grep -E '^SLURM_(CPUS_PER_TASK|NTASKS_PER_NODE|MEM_PER|ARRAY|RESTART|GPUS|EXPORT)' || echo "and none of these"
echo "$SLURM_TASKS_PER_NODE $SLURM_NTASKS"
