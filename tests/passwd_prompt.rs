//! `ringmq passwd` asks for a password on a terminal: twice, without echo, and changes nothing if the two differ.
//!
//! The terminal is a real one (a pty); `setsid` of util-linux makes it the program's controlling terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

const PATIENCE: Duration = Duration::from_secs(20);

/// The program, and whoever sits at its terminal.
struct Terminal {
    keyboard: File,
    /// Kept open, so that the terminal's settings can be looked at when the program has ended.
    line: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    program: Child,
}

impl Terminal {
    fn running(arguments: &[&str]) -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap();
        let mut opening = OpenOptions::new();
        opening.read(true).write(true).custom_flags(libc::O_NOCTTY);
        let line = opening.open(path.to_str().unwrap()).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let program = Command::new("setsid")
            .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_ringmq"), "passwd"])
            .args(arguments)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let (shows, screen) = mpsc::channel();
        let mut output = keyboard.try_clone().unwrap();
        // Ends when nobody looks any more; the terminal itself never says that it is over while its line is open.
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(read) = output.read(&mut bytes)
                && shows.send(bytes[..read].to_vec()).is_ok()
            {}
        });
        Terminal { keyboard, line, screen, shown: String::new(), program }
    }

    fn wait_for(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let bytes = self.screen.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("{text:?} is not shown: {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Types an answer when it is asked for, and the terminal has stopped to show what is typed.
    fn answer(&mut self, prompt: &str, typed: &str) {
        self.wait_for(prompt);
        let given_up = Instant::now() + PATIENCE;
        while self.echoes() {
            assert!(Instant::now() < given_up, "it goes on to echo");
            thread::yield_now();
        }
        writeln!(self.keyboard, "{typed}").unwrap();
    }

    /// Waits for the end; returns how it ended and all that was to be seen.
    fn end(mut self, last: &str) -> (ExitStatus, String) {
        self.wait_for(last);
        let status = self.program.wait().unwrap();
        assert!(self.echoes(), "it leaves the terminal as it was");
        (status, self.shown)
    }
}

fn file(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&file);
    file
}

const CHEAP: [&str; 4] = ["--memory", "8", "--passes", "1"];

fn set_password_of_ann(file: &Path) -> Terminal {
    Terminal::running(&[&[file.to_str().unwrap(), "ann"][..], &CHEAP].concat())
}

#[test]
fn a_password_is_asked_for_twice_and_never_shown() {
    let file = file("prompted");
    let mut terminal = set_password_of_ann(&file);
    terminal.answer("Password of ann: ", "swordfish");
    terminal.answer("Once more: ", "swordfish");
    let (status, shown) = terminal.end("added ann");
    assert!(status.success(), "{shown}");
    assert!(!shown.contains("swordfish"), "{shown}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("ann:$argon2id$") && !text.contains("swordfish"), "{text}");
}

#[test]
fn two_passwords_that_differ_change_nothing() {
    let file = file("mismatch");
    for before in [
        None,
        Some("ann:$6$AAAA$z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==\n"),
    ] {
        if let Some(before) = before {
            fs::write(&file, before).unwrap();
        }
        let mut terminal = set_password_of_ann(&file);
        terminal.answer("Password of ann: ", "swordfish");
        terminal.answer("Once more: ", "sword-fish");
        let (status, shown) = terminal.end("nothing was changed");
        assert_eq!(status.code(), Some(1), "{shown}");
        assert!(shown.contains("the two are not the same") && !shown.contains("fish"), "{shown}");
        assert_eq!(fs::read_to_string(&file).ok().as_deref(), before);
    }
}

#[test]
fn without_a_terminal_it_says_how_to_give_the_password() {
    let file = file("nowhere");
    let output = Command::new("setsid")
        .args(["--wait", env!("CARGO_BIN_EXE_ringmq"), "passwd", file.to_str().unwrap(), "ann"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the password cannot be read") && said.contains("--stdin"), "{said}");
    assert!(!file.exists());
}
