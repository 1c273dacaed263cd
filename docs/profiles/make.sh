#!/usr/bin/env bash
# Draws the flame graphs beside this script anew: the controller under a swarm of small tasks, the node under it, and durable
# submits by 64 clients. Wants root, perf (Debian's linux-perf), and some minutes of an idle machine.
#
#   docs/profiles/make.sh [swarm | submits]     both without
#
# Exit codes: 0 they are drawn, 1 something could not be measured, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=docs/profiles
seconds=4
work=$(mktemp -d)
background=
trap '[ -z "$background" ] || kill "$background" 2>/dev/null || true; rm -rf "$work"' EXIT

say() { echo "profiles: $*" >&2; }

if [ "$(id -u)" != 0 ] || ! command -v perf >/dev/null; then
    say "root and perf (Debian's linux-perf) are needed"
    exit 1
fi

# Programs on virtual nodes lie in file systems of their own, and are known by their build ids.
perf() { command perf --buildid-dir "$work/debug" "$@"; }
for program in musterd muster-node; do
    perf buildid-cache --add "target/release/$program"
done

# Samples with whole stacks, so many a second that no clock's beat is hit. perf gives up if a process that it is to look at has ended by the
# time that it is there: it is given others then.
record() { # FILE HERTZ COMMAND-THAT-SAYS-OF-WHAT...
    local file=$1 hertz=$2 of
    shift 2
    for _ in 1 2 3 4 5; do
        mapfile -t of < <("$@")
        if perf record -q -o "$file" -F "$hertz" --buildid-mmap --call-graph dwarf,8192 "${of[@]}" -- sleep "$seconds" 2>"$file.log"; then
            return
        fi
    done
    cat "$file.log" >&2
    exit 1
}

# Of processes that are there, and of what they start.
processes() { # PIDS
    printf -- '-p\n%s\n' "$1"
}

# Of all processes of a virtual host.
host() { # NAME
    processes "$(ip netns pids "$1" | paste -sd,)"
}

# Of the whole machine, in buffers that are large enough for it: those of single processes are not where thousands come and go.
everything() { printf -- '-a\n-m\n64M\n'; }

draw() { # FILE TITLE SVG [PERF-SCRIPT-OPTIONS...]
    perf script -i "$1" --no-inline -F comm,tid,time,ip,sym "${@:4}" 2>/dev/null | python3 "$here/flame.py" "$2" >"$work/graph.svg"
    mv "$work/graph.svg" "$here/$3"
    say "$here/$3"
}

# The line of a file that says so, once it is there.
until_said() { # FILE WORDS
    for _ in $(seq 600); do
        if grep -q "$2" "$1"; then return; fi
        kill -0 "$background" 2>/dev/null || break
        sleep 0.2
    done
    cat "$1" >&2
    say "'$2' did not come"
    exit 1
}

swarm() {
    target/release/muster-demo swarm --count 40000 --rounds 1 >"$work/swarm.out" 2>&1 &
    background=$!
    until_said "$work/swarm.out" 'the same, with files'
    # The first of them start; what is measured is the middle.
    sleep 2
    local cluster=qsw$((background % 10000))
    # It is at work for a twentieth of the time.
    record "$work/head.data" 4999 host "$cluster-head"
    record "$work/node.data" 499 everything
    wait "$background"
    background=
    draw "$work/head.data" 'The controller under a swarm of small tasks' controller-swarm.svg
    draw "$work/node.data" 'A node under a swarm of small tasks: agent, supervisors, and the tasks' node-swarm.svg --comm muster-node,muster-superv,starter,sh
}

submits() {
    # Compiled first: what is looked for below comes soon then.
    cargo test --release --locked -q --workspace --test growth --no-run
    cargo test --release --locked -q --workspace --test growth -- \
        --ignored --nocapture waiting_tasks >"$work/submits.out" 2>&1 &
    background=$!
    local controller=
    for _ in $(seq 600); do
        controller=$(pgrep -f -n 'musterd --config' -P "$(pgrep -d, -x 'growth-.*' || echo 1)" || true)
        [ -z "$controller" ] || break
        sleep 0.2
    done
    sleep 1
    # All of them take some six seconds.
    seconds=3
    record "$work/submits.data" 499 processes "$controller"
    wait "$background"
    background=
    draw "$work/submits.data" 'The controller under durable submits by 64 clients' submits-64.svg
}

case ${1-all} in
    swarm) swarm ;;
    submits) submits ;;
    all) swarm && submits ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
