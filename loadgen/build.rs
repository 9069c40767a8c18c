//! Tells the program which commit it is built from, for its reports. Outside of a repository it just doesn't know.

use std::process::Command;

fn main() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if let Some(directory) = git(&["rev-parse", "--absolute-git-dir"]) {
        // Rewritten by every commit, checkout and merge.
        println!("cargo::rerun-if-changed={directory}/logs/HEAD");
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=RINGMQ_COMMIT={commit}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
