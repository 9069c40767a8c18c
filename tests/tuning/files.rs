//! The files of `tuning/` that are made from the table.

use std::fs;
use std::path::Path;
use std::process::Command;

use ringmq::doctor::tune::{Form, Place, README_BEGIN, README_END, Severity, Target, print, table};

use crate::host::{Host, run, tuning};

fn made(form: Form) -> String {
    print(form, &Target::default()).unwrap()
}

fn text(name: &str) -> String {
    fs::read_to_string(tuning(name)).unwrap()
}

#[test]
fn the_committed_files_are_what_the_table_makes_of_them() {
    let files = [
        (Form::Sysctl, "90-ringmq.conf"),
        (Form::Unit, "ringmq.service"),
        (Form::Tuned, "tuned.conf"),
        (Form::Nic, "nic"),
        (Form::LoadgenHost, "loadgen-host"),
    ];
    for (form, name) in files {
        assert!(text(name) == made(form), "tuning/{name} is not what knobs.toml makes: run tuning/generate");
    }
    let readme = text("README.md");
    let (_, rest) = readme.split_once(&format!("{README_BEGIN}\n")).unwrap();
    let (tables, _) = rest.split_once(README_END).unwrap();
    assert!(tables == made(Form::Readme), "tuning/README.md is not what knobs.toml makes: run tuning/generate");
}

#[test]
fn a_larger_host_gets_larger_numbers() {
    let of = |connections| print(Form::Sysctl, &Target { connections, ..Target::default() }).unwrap();
    assert!(of(1_000_000).contains("-fs.file-max = 1065536\n"));
    assert!(of(5_000_000).contains("-fs.file-max = 5065536\n"));
    let unit = |cores| print(Form::Unit, &Target { cores, ..Target::default() }).unwrap();
    assert!(unit(1).contains("LimitMEMLOCK=67108864\n") && unit(64).contains("LimitMEMLOCK=2147483648\n"));
}

#[test]
fn every_knob_of_the_table_is_in_the_file_that_it_belongs_to() {
    let (unit, nic, readme) = (made(Form::Unit), text("templates/nic"), made(Form::Readme));
    for knob in table() {
        assert!(readme.contains(&format!("`{}", knob.name)), "{} is not in the README", knob.name);
        match &knob.place {
            Place::Unit(name) => assert!(unit.contains(&format!("{name}=")), "{name}"),
            Place::Limit { unit: name, .. } => assert!(unit.contains(&format!("\n{name}=")), "{name}"),
            // The others have no value but to be done.
            Place::Nic(_) if !knob.wanted[0].ends_with("spread") => {
                assert!(nic.contains(&format!("{{{{{}}}}}", knob.name)), "{}", knob.name);
            }
            _ => {}
        }
    }
}

#[test]
fn what_only_advises_is_a_comment_in_the_files() {
    let sysctl = made(Form::Sysctl);
    for knob in table().iter().filter(|knob| knob.severity == Severity::Advice) {
        if let Place::Sysctl(name) = &knob.place {
            assert!(!sysctl.contains(&format!("\n-{name} ")), "{name}");
        }
    }
    assert!(sysctl.contains("\n#-net.ipv4.tcp_notsent_lowat = 131072\n"));
    assert!(made(Form::Unit).contains("\n# CPUAffinity="));
}

#[test]
fn nothing_of_a_template_is_left() {
    for form in [Form::Unit, Form::Nic, Form::LoadgenHost] {
        assert!(!made(form).contains("{{"), "{form:?}");
    }
}

#[test]
fn every_shell_reads_the_scripts() {
    for name in ["nic", "loadgen-host", "generate", "tune", "check", "apply", "revert"] {
        for shell in ["sh", "bash"] {
            let (code, said) = run(Command::new(shell).arg("-n").arg(tuning(name)));
            assert_eq!((code, said.as_str()), (0, ""), "{shell} -n {name}");
        }
    }
}

#[test]
fn systemd_knows_every_directive_of_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let host = Host::empty("unit");
    let unit = made(Form::Unit).replace("/usr/local/bin/ringmq", env!("CARGO_BIN_EXE_ringmq"));
    host.set("ringmq.service", &unit);
    let (code, said) = verify(&host.root.join("ringmq.service"));
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("ringmq.service:"), "{said}");
    host.set("ringmq.service", &unit.replace("NoNewPrivileges=", "NoNewPriviledges="));
    assert!(verify(&host.root.join("ringmq.service")).1.contains("NoNewPriviledges"), "a mistake would be seen");
}

fn verify(unit: &Path) -> (i32, String) {
    run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit))
}
