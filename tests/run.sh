#!/usr/bin/env bash
# The test command: everything that must hold, on a fresh Debian machine or a worn one.
#
#   tests/run.sh             every step, closing with `N passed, N failed`
#   tests/run.sh STEP...     some of them
#   tests/run.sh --list      what there is
#
# Each step writes target/test-logs/STEP.log; of a step that fails, the end of it is shown. What is missing is installed:
# by apt if this runs as root (otherwise it says what to install), by pip and npm below tests/, by cargo below target/.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

logs=$PWD/target/test-logs
tools=$PWD/target/tools
fuzz_seconds=7
simulator_seconds=20

# name | minutes it may take | what it does
steps() {
    cat <<'END'
setup        | 10 | installs what the other steps need and this machine lacks
fmt          |  2 | the sources are formatted
clippy       | 12 | no lint warns, in any target
doc          | 10 | the documentation builds without a warning, and the README has the figures of the record
unit         | 20 | unit, property, simulator, network and command line tests
build        | 15 | the release binaries build
instructions | 10 | a shard's work costs at most 5 % more instructions than the record says
simulator    |  5 | whole brokers in virtual time: a fixed set of seeds, then random ones
fuzz         | 12 | what reads input of strangers, under libFuzzer, over the committed corpus
million      |  5 | 20,000 connections held and woken by the load generator, within their memory
e2e-1        |  8 | real clients, a browser among them, on the release binary with 1 shard
e2e-4        |  8 | real clients on the release binary with 4 shards
END
}

# --- the steps -------------------------------------------------------------------------------------------------------

step_setup() {
    if ! command -v cargo >/dev/null; then
        echo "missing: Rust. Install it with rustup (rust-toolchain and edition: see Cargo.toml)."
        return 1
    fi
    command -v cc >/dev/null && command -v c++ >/dev/null || apt_install build-essential || return 1
    cargo fmt --version && cargo clippy --version || {
        echo "installing rustfmt and clippy (rustup)"
        rustup component add rustfmt clippy || return 1
    }
    command -v valgrind >/dev/null || apt_install valgrind || return 1
    tests/clients/setup.sh || return 1
    if has_fuzz_targets && ! cargo_fuzz --version 2>/dev/null; then
        echo "installing cargo-fuzz into target/tools (cargo)"
        cargo install --quiet --locked --root "$tools" cargo-fuzz || return 1
    fi
}

apt_install() {
    if [ "$(id -u)" != 0 ]; then
        echo "missing: $*. Run as root: apt-get install --no-install-recommends $*"
        return 1
    fi
    echo "installing $* (apt)"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
}

client_crate=tests/clients/rumqttc/Cargo.toml

step_fmt() {
    cargo fmt --all --check && cargo fmt --check --manifest-path "$client_crate"
}

step_clippy() {
    cargo clippy --workspace --all-targets --locked -- -D warnings &&
        cargo clippy --all-targets --locked --manifest-path "$client_crate" -- -D warnings
}

step_doc() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked && benches/table.py --check
}

step_unit() {
    cargo test --workspace --locked --no-fail-fast
}

step_build() {
    cargo build --release --locked --workspace --bins
}

step_instructions() {
    benches/instructions.sh
}

step_simulator() {
    # The development build: a failure unwinds, so that it is told with its seed, and assertions are on.
    cargo run --locked --bin ringmq-sim -- --fixed --seconds "$simulator_seconds"
}

step_million() {
    [ -x target/release/ringmq-loadgen ] || step_build || return 1
    benches/million.sh 20000
}

has_fuzz_targets() { [ -f tests/fuzz/Cargo.toml ]; }

# Nightly brings the address sanitizer. Without it the coverage-guided search is the same, only blind to stray pointers.
cargo_fuzz() {
    if cargo +nightly --version >/dev/null 2>&1; then
        PATH=$tools/bin:$PATH cargo +nightly fuzz "$@"
    else
        PATH=$tools/bin:$PATH cargo fuzz "$@"
    fi
}

step_fuzz() {
    has_fuzz_targets || { echo "tests/fuzz is missing"; return 1; }
    cargo +nightly --version >/dev/null 2>&1 && sanitizer=address || sanitizer=none
    echo "sanitizer: $sanitizer"
    local target passed=0 failed=0
    for target in $(cargo_fuzz list --fuzz-dir tests/fuzz); do
        # What a run finds goes to the first directory, so that the committed corpus stays as it is.
        mkdir -p "target/fuzz-corpus/$target"
        if cargo_fuzz run --fuzz-dir tests/fuzz --sanitizer "$sanitizer" "$target" \
            "target/fuzz-corpus/$target" tests/fuzz/seeds -- \
            -max_total_time="$fuzz_seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1; then
            passed=$((passed + 1))
            echo "ok fuzz/$target"
        else
            failed=$((failed + 1))
            echo "FAIL fuzz/$target the input that did it is named above"
        fi
    done
    echo "$passed passed, $failed failed"
    [ "$passed" -gt 0 ] && [ "$failed" = 0 ]
}

step_e2e-1() { end_to_end 1; }
step_e2e-4() { end_to_end 4; }

end_to_end() {
    [ -x target/release/ringmq ] || cargo build --release --locked || return 1
    E2E_LOGS=$logs/e2e-$1 tests/clients/run.sh --shards "$1" \
        --broker "target/release/ringmq --listen 127.0.0.1:{port} --shards {shards}"
}

# --- running and counting --------------------------------------------------------------------------------------------

# Reads a step's log: the sum of cargo's own results, or the last `N passed, N failed`, or the exit code alone.
count() { # count LOG EXIT_CODE -> "passed failed skipped"
    awk -v code="$2" '
        /^test result: / { passed += $4; failed += $6; skipped += $8; cargo = 1 }
        /^[0-9]+ passed, [0-9]+ failed/ && !cargo { passed = $1; failed = $3; skipped = $6 == "skipped" ? $5 : 0; own = 1 }
        END {
            if (!cargo && !own) passed = code == 0
            # Whatever the lines say, a step that ended badly did not pass.
            if (code != 0 && failed == 0) failed = 1
            printf "%d %d %d\n", passed, failed, skipped
        }' "$1"
}

run_step() { # run_step NAME MINUTES WHAT
    local name=$1 log=$logs/$1.log started=$SECONDS code passed failed skipped
    printf '%-12s %s\n' "$name" "$3"
    timeout --kill-after=10 "$2m" "$BASH" tests/run.sh --inside "$name" >"$log" 2>&1
    code=$?
    [ "$code" != 124 ] || echo "stopped after $2 minutes" >>"$log"
    read -r passed failed skipped < <(count "$log" "$code")
    # To install is no test, unless it fails.
    [ "$name" != setup ] || passed=0
    printf '%-12s %d passed, %d failed%s, %d s\n' "" "$passed" "$failed" \
        "$([ "$skipped" = 0 ] || echo ", $skipped skipped")" $((SECONDS - started))
    if [ "$failed" != 0 ]; then
        echo "----- ${log#"$PWD"/}"
        grep -E '^(FAIL |error|test .* FAILED|---- )' "$log" | head -n 30
        echo "..."
        tail -n 40 "$log"
        echo "-----"
    fi
    sum_passed=$((sum_passed + passed)) sum_failed=$((sum_failed + failed)) sum_skipped=$((sum_skipped + skipped))
}

main() {
    local name minutes what wanted=" $* " known
    known=" $(steps | cut -d'|' -f1 | tr -s ' \n' ' ')"
    for name in "$@"; do
        [[ $known == *" $name "* ]] || { echo "no such step: $name (tests/run.sh --list)" >&2; exit 2; }
    done
    mkdir -p "$logs"
    sum_passed=0 sum_failed=0 sum_skipped=0
    while IFS='|' read -r name minutes what <&3; do
        name=${name// /} minutes=${minutes// /}
        [ $# = 0 ] || [[ $wanted == *" $name "* ]] || continue
        run_step "$name" "$minutes" "${what# }"
    done 3< <(steps)
    echo "$sum_passed passed, $sum_failed failed$([ "$sum_skipped" = 0 ] || echo ", $sum_skipped skipped")"
    [ "$sum_failed" = 0 ]
}

case ${1:-} in
    --list) steps ;;
    --inside) "step_$2" ;;
    -*) sed -n '2,/^set /{/^#/!d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
    *) main "$@" ;;
esac
