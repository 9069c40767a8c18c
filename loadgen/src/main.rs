//! `ringmq-loadgen`: drives an MQTT broker with a scenario, checks every message that comes back, and says what it
//! cost the broker. See the library for everything.

use std::process::ExitCode;

use ringmq_loadgen::cli::{Cli, execute};

fn main() -> ExitCode {
    execute(Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit()))
}
