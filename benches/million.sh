#!/usr/bin/env bash
# Holds many idle MQTT connections, wakes one in a hundred, and says what they cost: broker, generator and kernel.
#
#   benches/million.sh                  a million (needs 13 GiB of free memory and about four minutes)
#   benches/million.sh 20000            fewer
#   benches/million.sh --json FILE      the figures for other programs, too
#   benches/million.sh --no-subscribe   connections alone; nobody is woken
#   benches/million.sh --hold 600s      as long as that, to see that keep alive keeps them (300 s; default 10s)
#
# Each connection is there twice on this host, at the broker and at the generator. Neither needs more open files than
# `ulimit -Hn` allows one thread: the broker gets as many shards, the generator as many threads as it takes. What the
# kernel's limits lack is raised if this is root, and put back at the end.
#
# Exit code: 0 every bar was held, 1 one was not, 2 it could not be measured. RINGMQ and LOADGEN name other binaries.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

connections=1000000 subscribe=true hold=10s json=
while [ $# -gt 0 ]; do
    case $1 in
        --json) json=${2:?--json needs a file}; shift ;;
        --hold) hold=${2:?--hold needs a time}; shift ;;
        --no-subscribe) subscribe=false ;;
        -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0"; exit 0 ;;
        *[!0-9]* | '') echo "million.sh: $1: not an option, nor a number of connections (--help)" >&2; exit 2 ;;
        *) connections=$1 ;;
    esac
    shift
done

ringmq=${RINGMQ:-target/release/ringmq} loadgen=${LOADGEN:-target/release/ringmq-loadgen}
work=$(mktemp -d)
broker= generator= watcher= raised=()

fail() {
    echo "million.sh: $*" >&2
    exit 2
}

# --- before and after ------------------------------------------------------------------------------------------------

build() {
    [ -x "$ringmq" ] && [ -x "$loadgen" ] && return
    cargo build --release --workspace --bins || fail "the build failed"
}

# Ends what was started and puts back what was raised, however this ends.
clean_up() {
    for process in $watcher $generator $broker; do
        kill -KILL "$process" 2>/dev/null && wait "$process" 2>/dev/null
    done
    for setting in ${raised+"${raised[@]}"}; do
        sysctl -q -w "$setting"
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 2' INT TERM

# Raises a limit of the kernel to what is wanted, if it is there and lower.
raise() {
    local now
    now=$(sysctl -n "$1" 2>/dev/null) || return 0
    [ "$now" -ge "$2" ] && return
    sysctl -q -w "$1=$2" 2>/dev/null || fail "$1 is $now and must be $2: run this as root, or set it"
    raised+=("$1=$now")
}

meminfo() {
    echo $(($(awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo) * 1024))
}

enough_memory() {
    # 10 KB of kernel memory for the two sockets, 1.3 KB in the two processes; and the host goes on living.
    local needed=$((connections * 12000 + (1 << 30)))
    [ "$(meminfo MemAvailable)" -ge $needed ] ||
        fail "$connections connections with both their ends take $((needed >> 20)) MiB, $(($(meminfo MemAvailable) >> 20)) are available"
}

# --- the two processes -----------------------------------------------------------------------------------------------

ceil() {
    echo $((($1 + $2 - 1) / $2))
}

# Clients are hashed onto shards, which is uneven by a little; a thread of the generator takes exactly its share.
plan() {
    local files=$(($(ulimit -Hn) < 1048576 ? $(ulimit -Hn) : 1048576)) cpus
    cpus=$(nproc)
    shards=$(ceil $((connections * 11 / 10 + 256)) "$files")
    ((shards < cpus)) && shards=$cpus
    ((shards <= 64)) || fail "$connections connections take $shards shards with ulimit -Hn $files, 64 is the most: raise it"
    threads=$(ceil $((connections + 1)) $((files - 512)))
    # All ports of an address can be used, but the kernel finds one faster while half are free.
    sources=$(ceil "$connections" 14000)
    last_source=127.0.$(((sources + 1) / 256)).$(((sources + 1) % 256))
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
    python3 - "$work/run.json" "$json" <<END
import json, platform, sys

run = json.load(open(sys.argv[1]))
summary, broker = run["summary"], run["summary"]["broker"]
n, subscribed = $connections, "$subscribe" == "true"
woken = n // 100 if subscribed else 0
available_before, available_least = $available_before, $(cat "$work/available")
broker_rss, generator_rss = broker["rss_after_bytes"], $(cat "$work/generator-rss")
# Of many, the whole process; of fewer, what they added to it.
rss = broker_rss / n if n >= 200_000 else broker["rss_per_connection_bytes"]

figures = {
    "connections": n, "subscribed": subscribed, "shards": $shards, "generator_threads": $threads, "source_addresses": $sources,
    "kernel": platform.release(), "cpus": len(run["host"]["cpus"]) if isinstance(run["host"].get("cpus"), list) else $(nproc),
    "ended": run["about"]["ended"], "commit": run["about"]["commit"],
    "connects_per_second": summary["connect"]["per_second"],
    "seconds_until_last": summary["time"]["connect_seconds"],
    "broker_rss_bytes_per_connection": rss,
    "broker_rss_bytes": broker_rss,
    "generator_rss_bytes_per_connection": generator_rss / n,
    "kernel_slab_bytes_per_connection": summary["kernel"]["slab_per_connection_bytes"],
    "host_bytes_per_connection": (available_before - available_least) / n,
    "broker_connect_cpu_us": broker["connect_cpu_us"],
    "broker_idle_cpu_percent": broker["busy_percent"],
    "held_seconds": summary["time"]["window_at"][1] - summary["time"]["connect_seconds"],
    "pings": summary["whole"]["pings"],
    "woken": summary["whole"]["delivered"],
    "stop_seconds": $stop_seconds,
}
rss_bar = 1280 if subscribed else 1024
bars = [
    ("every client was in, and stayed", summary["connect"]["ready"] >= n and summary["whole"]["dropped"] == 0),
    ("every client of the sample was woken, once", summary["whole"]["delivered"] == woken),
    ("the generator's own checks", $verdict == 0),
    (f"at most {rss_bar:,} B of the broker for each", rss <= rss_bar),
    ("at most 5 % of a core while idle", broker["busy_percent"] <= 5 or figures["pings"] > 0),
    ("the broker stopped in order", $stop_code == 0),
]
rows = [
    ("connections", f"{n:,}" + (", each with one unique exact subscription" if subscribed else "")),
    ("shards / generator threads / source addresses", f"$shards / $threads / $sources"),
    ("connects per second", f"{figures['connects_per_second']:,.0f}"),
    ("until the last is in", f"{figures['seconds_until_last']:.1f} s"),
    ("broker CPU per connect", f"{figures['broker_connect_cpu_us']:.1f} µs"),
    ("broker RSS per connection", f"{rss:,.0f} B" + (" (all of it)" if n >= 200_000 else " (what they added)")),
    ("generator RSS per connection", f"{generator_rss / n:,.0f} B (all of it, at its largest)"),
    ("kernel memory per connection, both ends", f"{figures['kernel_slab_bytes_per_connection']:,.0f} B of slab"),
    ("all memory of the host per connection", f"{figures['host_bytes_per_connection']:,.0f} B"),
    ("idle CPU of the broker", f"{broker['busy_percent']:.2f} % of a core, {figures['pings']:,} pings"),
    ("woken by a message each", f"{figures['woken']:,} of {woken:,}"),
    ("broker stopped, with all connected", f"{figures['stop_seconds']:.1f} s"),
]
print()
for name, value in rows:
    print(f"{name:48}{value}")
print()
for name, held in bars:
    print(f"{'ok    ' if held else 'MISSED'}  {name}")
if sys.argv[2]:
    figures["bars"] = {name: held for name, held in bars}
    json.dump(figures, open(sys.argv[2], "w"), indent=2)
sys.exit(0 if all(held for _, held in bars) else 1)
END
}

build
plan
enough_memory
raise fs.file-max $((connections * 2 + 65536))
raise net.core.somaxconn 4096
raise net.netfilter.nf_conntrack_max $((connections * 5 / 4 + 65536))
start_broker
hold_and_wake
stop_with_all_connected
tell
