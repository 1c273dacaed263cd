#!/bin/bash
# Runs every program on this host under its own launcher, with 1, 2, 4 and 8 ranks: check.sh [ompi|mpich|all]
#
# Prints one line for each run; ends with 1 if any run did not end as it should. Needs what build.sh built.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${MPICH_HOME:-$here/../target/mpich}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# launch MPI RANKS PROGRAM... runs the program; ranks share cores here, so they must not bind, nor spin where the
# MPI can be told so.
launch() {
    local mpi=$1 ranks=$2
    shift 2
    case $mpi in
    ompi)
        OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout -k 5 "${LIMIT_S:-60}" \
            mpirun.openmpi --oversubscribe --mca mpi_yield_when_idle 1 --bind-to none -np "$ranks" "$@"
        ;;
    mpich) MPIR_CVAR_ENABLE_HEAVY_YIELD=1 timeout -k 5 "${LIMIT_S:-60}" "$home/bin/mpiexec" -n "$ranks" "$@" ;;
    esac
}

# expect CODES TITLE COMMAND... runs a command that must end with one of the codes (a|b|c).
expect() {
    local codes=$1 title=$2 start rc
    shift 2
    start=$(date +%s.%N)
    "$@" >"$work/out" 2>"$work/err" </dev/null
    rc=$?
    local verdict="ok  " spent
    spent=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    case "|$codes|" in
    *"|$rc|"*) ;;
    *) verdict=FAIL failed=1 ;;
    esac
    printf '%s %5ss rc %-3s %s: %s\n' "$verdict" "$spent" "$rc" "$title" "$(tail -n 1 "$work/out" | cut -c 1-150)"
    [ "$verdict" = FAIL ] && tail -n 20 "$work/err" | sed 's/^/       /'
    return 0
}

good_runs() {
    local mpi=$1 bin=$2 ranks
    for ranks in 1 2 4 8; do
        expect 0 "$mpi $ranks" launch "$mpi" "$ranks" "$bin/rank-report" --expect-ranks "$ranks"
        expect 0 "$mpi $ranks" launch "$mpi" "$ranks" "$bin/ping-pong" --iterations 20
        expect 0 "$mpi $ranks" launch "$mpi" "$ranks" "$bin/allreduce" --iterations 2 --max-elements 32768
        expect 0 "$mpi $ranks" launch "$mpi" "$ranks" "$bin/stencil" --nx 131 --ny 67 --steps 50
        expect 0 "$mpi $ranks" launch "$mpi" "$ranks" "$bin/pi-reduce" --expect-files 12 "$work/pi"
    done
}

wrong_runs() {
    local mpi=$1 bin=$2
    expect 1 "$mpi wrong size" launch "$mpi" 2 "$bin/rank-report" --expect-ranks 3
    expect 1 "$mpi wrong binding" env MUSTER_RANK_CORES=8191 bash -c "$(declare -f launch); home='$home'; launch $mpi 2 '$bin/rank-report' --check-binding"
    expect 2 "$mpi wrong word" launch "$mpi" 2 "$bin/stencil" --nz 3
    expect 2 "$mpi small grid" launch "$mpi" 4 "$bin/stencil" --nx 1 --ny 3
    expect 1 "$mpi seed twice" launch "$mpi" 2 "$bin/pi-reduce" "$work/pi" "$work/pi/3.json"
    expect 1 "$mpi lost file" launch "$mpi" 2 "$bin/pi-reduce" "$work/pi" "$work/none.json"
}

# The codes are those measured, exact for Open MPI. When a rank leaves without MPI_Finalize, Hydra gives
# either that rank's code or 9, from run to run; 9 is therefore no code that a mode asks for here.
bad_runs() {
    local mpi=$1 bin=$2 stray exit_codes=7 segfault_codes=139 oom_codes=4
    if [ "$mpi" = mpich ]; then
        exit_codes='7|9' segfault_codes=11 oom_codes='4|9'
    fi
    expect "$exit_codes" "$mpi exit" launch "$mpi" 4 "$bin/misbehave" --mode exit:7 --rank 2 --after-ms 100
    expect 5 "$mpi abort" launch "$mpi" 4 "$bin/misbehave" --mode abort:5 --rank 3
    expect "$segfault_codes" "$mpi segfault" launch "$mpi" 4 "$bin/misbehave" --mode segfault --rank 1
    expect "$oom_codes" "$mpi oom" launch "$mpi" 2 "$bin/misbehave" --mode oom --rank 1 --oom-limit-mib 64
    LIMIT_S=3 expect 124 "$mpi hang" launch "$mpi" 2 "$bin/misbehave" --mode hang --rank 1
    LIMIT_S=3 expect 124 "$mpi spin" launch "$mpi" 2 "$bin/misbehave" --mode spin --rank 0
    expect 0 "$mpi fork-away" launch "$mpi" 2 "$bin/misbehave" --mode fork-away --rank 1 --pid-file "$work/stray"
    stray=$(cat "$work/stray")
    kill -TERM "$stray"
    expect 0 "$mpi the stray survives its job and SIGTERM" grep -q misbehave-stray "/proc/$stray/cmdline"
    kill -KILL "$stray"
}

check() {
    local mpi=$1 bin="$here/target/bin/$1" seed
    if [ ! -x "$bin/stencil" ]; then
        echo "check.sh: nothing is built for $mpi: run build.sh $mpi" >&2
        exit 2
    fi
    mkdir -p "$work/pi"
    for seed in $(seq 12); do
        "$bin/pi-map" --seed "$seed" --samples 200000 --out "$work/pi/$seed.json" >/dev/null || failed=1
    done
    good_runs "$mpi" "$bin"
    wrong_runs "$mpi" "$bin"
    bad_runs "$mpi" "$bin"
}

case ${1:-all} in
ompi | mpich) check "$1" ;;
all) check ompi && check mpich ;;
*)
    echo "usage: check.sh [ompi|mpich|all]" >&2
    exit 2
    ;;
esac
exit "$failed"
