#!/usr/bin/env bash
# Holds many idle MQTT connections, wakes one in a hundred, and says what they cost: broker, generator and kernel.
#
#   benches/million.sh                  a million (needs 13 GiB of free memory and about four minutes)
#   benches/million.sh 20000            fewer
#   benches/million.sh --json FILE      the figures for other programs, too
#   benches/million.sh --no-subscribe   connections alone; nobody is woken
#   benches/million.sh --hold 600s      as long as that, to see that keep alive keeps them (300 s; default 10s)
#   benches/million.sh --root DIR       reads /proc/meminfo, reads and sets /proc/sys below DIR (for tests)
#
# Each connection is there twice on this host, at the broker and at the generator. Neither needs more open files than
# `ulimit -Hn` allows one thread, so fs.nr_open is as good as it is: the broker gets as many shards, the generator as
# many threads as it takes. What the limits of the whole kernel lack is raised if this is root, and put back at the
# end, however it ends (but by SIGKILL).
#
# Exit code: 0 every bar was held, 1 one was not, 2 it could not be measured. RINGMQ and LOADGEN name other binaries.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

connections=1000000 subscribe=true hold=10s json= root=
while [ $# -gt 0 ]; do
    case $1 in
        --json) json=${2:?--json needs a file}; shift ;;
        --hold) hold=${2:?--hold needs a time}; shift ;;
        --root) root=${2:?--root needs a directory}; shift ;;
        --no-subscribe) subscribe=false ;;
        -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0"; exit 0 ;;
        *[!0-9]* | '') echo "million.sh: $1: not an option, nor a number of connections (--help)" >&2; exit 2 ;;
        *) connections=$1 ;;
    esac
    shift
done

ringmq=${RINGMQ:-target/release/ringmq} loadgen=${LOADGEN:-target/release/ringmq-loadgen}
broker= generator= watcher= raised=()

fail() {
    echo "million.sh: $*" >&2
    exit 2
}

# --- before and after ------------------------------------------------------------------------------------------------

# What is missing is said now, not when there are four minutes of results to be told.
programs() {
    local program
    ((connections >= 100)) || fail "$connections connections: with fewer than 100 there is no sample of 1 % to wake"
    command -v python3 >/dev/null || fail "python3 is missing, which makes the table: install it"
    for program in ${RINGMQ+"$ringmq"} ${LOADGEN+"$loadgen"}; do
        command -v "$program" >/dev/null || fail "$program, named by RINGMQ or LOADGEN, is no program"
    done
    command -v "$ringmq" >/dev/null && command -v "$loadgen" >/dev/null && return
    command -v cargo >/dev/null ||
        fail "$ringmq or $loadgen is not built and cargo is missing: install Rust, or name binaries by RINGMQ and LOADGEN"
    cargo build --release --workspace --bins || fail "the build failed"
}

# Ends what was started and puts back what was raised, however this ends.
clean_up() {
    # A second Ctrl-C must not keep it from that.
    trap '' INT TERM HUP
    local process change
    for process in $watcher $generator $broker; do
        kill -KILL "$process" 2>/dev/null && wait "$process" 2>/dev/null
    done
    for change in ${raised+"${raised[@]}"}; do
        # shellcheck disable=SC2086 # three words
        restore $change
    done
    rm -rf "$work"
}

interrupted() {
    echo "million.sh: interrupted: broker and generator are ended" >&2
    exit 2
}

setting() {
    echo "$root/proc/sys/${1//.//}"
}

# Raises a limit of the kernel to what is wanted, if it is there and lower.
raise() {
    local file now
    file=$(setting "$1")
    [ -e "$file" ] || return 0
    now=$(<"$file")
    [ "$now" -ge "$2" ] && return
    # A signal between the two lines must not lose it.
    raised+=("$1 $now $2")
    { echo "$2" >"$file"; } 2>/dev/null || {
        unset 'raised[-1]'
        fail "$1 is $now and must be $2: run this as root, or set it (sysctl -w $1=$2)"
    }
    echo "$1 is raised from $now to $2 until the end"
}

# What somebody else has set meanwhile stays.
restore() { # restore NAME FORMER RAISED
    local file now
    file=$(setting "$1") now=$(<"$(setting "$1")")
    if [ "$now" != "$3" ]; then
        echo "million.sh: $1 was $2, was raised to $3 here and is $now by another's hand: left alone" >&2
    elif { echo "$2" >"$file"; } 2>/dev/null; then
        echo "$1 is $2 again"
    else
        echo "million.sh: $1 could not be put back to $2" >&2
    fi
}

meminfo() {
    echo $(($(awk -v key="$1:" '$1 == key { print $2 }' "$root/proc/meminfo") * 1024))
}

enough_memory() {
    # 10 KB of kernel memory for the two sockets, 1.3 KB in the two processes; and the host goes on living.
    local needed=$((connections * 12000 + (1 << 30)))
    [ "$(meminfo MemAvailable)" -ge $needed ] ||
        fail "$connections connections with both their ends take $((needed >> 20)) MiB of memory," \
            "$(($(meminfo MemAvailable) >> 20)) MiB are available: end other programs, or take fewer"
}

# --- the two processes -----------------------------------------------------------------------------------------------

ceil() {
    echo $((($1 + $2 - 1) / $2))
}

# Clients are hashed onto shards, which is uneven by a little; a thread of the generator takes exactly its share.
plan() {
    local files cpus ports
    files=$(ulimit -Hn) cpus=$(nproc) ports=$(ports_used) || exit
    # The most that a ring's table holds.
    [ "$files" != unlimited ] && ((files < 1048576)) || files=1048576
    ((files >= 1024)) || fail "ulimit -Hn is $files: raise it to 1024 at least"
    shards=$(ceil $((connections * 11 / 10 + 256)) "$files")
    ((shards < cpus)) && shards=$cpus
    ((shards <= 64)) || fail "$connections connections take $shards shards with ulimit -Hn $files, 64 is the most: raise it"
    threads=$(ceil $((connections + 1)) $((files - 512)))
    sources=$(ceil "$connections" "$ports")
    ((sources < 65534)) || fail "$connections connections take $sources source addresses, 127.0.0.0/16 has not so many"
    last_source=127.0.$(((sources + 1) / 256)).$(((sources + 1) % 256))
}

# How many connections come from one source address. All its ports can be used, but the kernel finds one faster while
# half of them are free: before Linux 6.8 ten times as fast.
ports_used() {
    local first last
    read -r first last <"$root/proc/sys/net/ipv4/ip_local_port_range" || fail "net.ipv4.ip_local_port_range cannot be read"
    ((last - first >= 255)) || fail "net.ipv4.ip_local_port_range leaves $((last - first + 1)) ports:" \
        "widen it (sysctl -w net.ipv4.ip_local_port_range='1024 65535')"
    # Some are aside for what does not divide evenly.
    echo $(((last - first + 1) / 2 - 100))
}

start_broker() {
    # Receive buffers are shared by a shard's connections: with many shards each needs few.
    cat > "$work/broker.toml" <<END
[server]
shards = $shards
stop_timeout = "60s"
[[listener]]
address = "127.0.0.1:0"
[limits]
connections_max = $((connections + 1000))
[ring]
recv_buffers = 256
END
    "$ringmq" --config "$work/broker.toml" > "$work/broker.log" 2>&1 &
    broker=$!
    for _ in $(seq 100); do
        address=$(sed -n 's/.*listening on \([0-9.]*:[0-9]*\).*/\1/p' "$work/broker.log")
        [ -n "$address" ] && return
        kill -0 $broker 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/broker.log" >&2
    fail "the broker does not start"
}

# The generator, with what is to be done as its arguments.
generate() {
    "$loadgen" run benches/million.toml --host "$address" --threads "$threads" --source-ips "127.0.0.2-$last_source" \
        --set connections="$connections" --set subscribe="$subscribe" "$@" &
    generator=$!
}

# Notes the least of the available memory, and the generator's largest size.
watch() {
    local least now size
    least=$(meminfo MemAvailable)
    while kill -0 "$generator" 2>/dev/null; do
        now=$(meminfo MemAvailable)
        ((now < least)) && least=$now
        echo "$least" > "$work/available"
        size=$(awk '/^VmHWM/ { print $2 }' "/proc/$generator/status" 2>/dev/null)
        [ -n "$size" ] && echo $((size * 1024)) > "$work/generator-rss"
        sleep 0.5
    done
}

hold_and_wake() {
    available_before=$(meminfo MemAvailable)
    generate --set hold="$hold" --broker-pid $broker --json "$work/run.json"
    watch & watcher=$!
    wait $generator
    verdict=$?
    wait $watcher
    generator= watcher=
    [ -s "$work/run.json" ] || fail "the generator has no result"
}

# Everybody connects again, and the broker is asked to stop while all are there.
stop_with_all_connected() {
    local began
    echo "once more, to stop the broker while all are connected"
    generate --set hold=30m > "$work/stop.log" 2>&1
    # The generator's line for when the last is in.
    until grep -q ' s  connected ' "$work/stop.log"; do
        kill -0 $generator 2>/dev/null || { cat "$work/stop.log" >&2; fail "the generator ended early"; }
        sleep 0.5
    done
    # Else its clients would come back at once, and take the CPU that the broker stops with.
    kill -STOP $generator
    began=$(date +%s.%N)
    kill -TERM $broker
    wait $broker
    stop_code=$?
    broker=
    stop_seconds=$(echo "$(date +%s.%N) $began" | awk '{ print $1 - $2 }')
    kill -KILL $generator
    wait $generator 2>/dev/null
    generator=
}

# --- the figures -----------------------------------------------------------------------------------------------------

tell() {
    cat >"$work/facts.json" <<END
{
    "connections": $connections, "subscribed": $subscribe, "shards": $shards, "generator_threads": $threads,
    "source_addresses": $sources, "cpus": $(nproc), "verdict": $verdict, "stop_code": $stop_code, "stop_seconds": $stop_seconds,
    "host_bytes": $((available_before - $(<"$work/available"))), "generator_rss_bytes": $(<"$work/generator-rss")
}
END
    python3 benches/million.py "$work/run.json" "$work/facts.json" ${json:+"$json"}
}

programs
plan
enough_memory
work=$(mktemp -d) || fail "no place for temporary files (TMPDIR)"
trap clean_up EXIT
trap interrupted INT TERM HUP
raise fs.file-max $((connections * 2 + 65536))
raise net.core.somaxconn 4096
raise net.netfilter.nf_conntrack_max $((connections * 5 / 4 + 65536))
start_broker
hold_and_wake
stop_with_all_connected
tell
