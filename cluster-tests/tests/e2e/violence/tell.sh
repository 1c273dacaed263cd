# Sourced by every script and rank of the violence test: tells the ledger what happens, and holds the cores that the
# kernel lets this process use. LEDGER and LOCKS are set before.

read -r host </proc/sys/kernel/hostname
while read -r name value; do
    if [ "$name" = Cpus_allowed_list: ]; then cores=$value; fi
done </proc/self/status
# Field 22 of proc_pid_stat(5): when the host's process 1 started, which tells one boot of the host from another.
read -r -a init </proc/1/stat
me="$MUSTER_JOB_ID $MUSTER_TASK_INDEX $MUSTER_ATTEMPT $host $MUSTER_INSTANCE ${init[21]} $cores"
exec 8>>"$LEDGER"

# One short line with one write on a descriptor that appends: the order of the lines is the order of what they tell.
tell() {
    echo "$1 $me $EPOCHREALTIME $2" >&8
}

# Locks one file for each core. The kernel lets go of a lock when the last process that has the descriptor has ended,
# be it killed or not: so whoever does not get a lock at once shares a core with a process that is still alive.
hold_cores() {
    local range first last core lock
    for range in ${cores//,/ }; do
        first=${range%-*} last=${range#*-}
        for ((core = first; core <= last; core++)); do
            exec {lock}<>"$LOCKS/$host.$core"
            flock -n "$lock"
            # 1 is "somebody else has it"; anything else means that flock itself was ended.
            if [ $? = 1 ]; then tell clash "$core"; fi
        done
    done
}

# Says again and again that this process is alive.
work() {
    local i
    for ((i = 0; i < $1; i++)); do
        sleep 0.1
        tell beat "$i"
    done
}

# Ends with a code, and says so before.
finish() {
    tell end "$1"
    exit "$1"
}
