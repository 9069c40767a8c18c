#!/usr/bin/env bash
# Runs the benches and writes what they measured to benches/records/DATE-benches.txt, with machine, kernel and compiler.
#
#   benches/record.sh [BENCH...]                    all of acl, codec, core, index, mesh and wheel, or these
#   RINGMQ_BENCH_LARGE=1 benches/record.sh index    up to 10,000,000 subscriptions: takes 4 GiB
#
# The machine has to be idle: these are times. Of several benches run on one day, each is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

names=("$@")
[ $# != 0 ] || names=(acl codec core index mesh wheel)
record=benches/records/$(date +%F)-benches.txt
targets=()
for name in "${names[@]}"; do targets+=(--bench "$name"); done
cargo bench --locked --no-run "${targets[@]}"

{
    echo "# $(date +%F), $(git describe --always --dirty), $(rustc --version)"
    echo "# $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, Linux $(uname -r)"
    echo "# ${names[*]}: median ns per iteration, and the standard deviation"
    for name in "${names[@]}"; do
        cargo bench --locked --bench "$name" -- --output-format bencher --noplot
    done | grep -E '^test |bytes per subscription' | sed -E 's/^test (.*) \.\.\. bench: +([0-9,.]+ ns\/iter.*)$/\1\t\2/'
} | tee -a "$record"
echo "recorded in $record"
