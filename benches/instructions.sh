#!/usr/bin/env bash
# Counts the instructions of a shard's work and compares them with benches/records/instructions.tsv.
#
#   benches/instructions.sh                judges every scenario: over 5 % more than the record says is a failure
#   benches/instructions.sh NAME...        those whose names contain one of these
#   benches/instructions.sh --record       renews the record (after a change that is worth its price, or a gain)
#
# Needs valgrind. Profiles for callgrind_annotate are left in target/instructions.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "missing: valgrind (apt-get install valgrind)" >&2; exit 2; }
# Counts of another compiler, C library or valgrind are other counts.
surroundings="$(rustc --version | cut -d' ' -f1,2), $(getconf GNU_LIBC_VERSION), $(valgrind --version)"
cargo build --release --locked --example instructions
exec target/release/examples/instructions --surroundings "$surroundings" --day "$(date +%F)" "$@"
