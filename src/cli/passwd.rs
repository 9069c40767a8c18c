//! `ringmq passwd`: users and hashes in a file, for `auth.password.file` and, with `--scram`, `auth.scram.file`.
//!
//! The file is written anew beside the old one and takes its place in one step, readable by its owner only; lines that are
//! not about the user in question stay as they are.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use zeroize::Zeroizing;

use super::{REFUSED, UNREADABLE};
use crate::auth::edit::{
    Cost, Hash, ITERATIONS, ITERATIONS_MAX, ITERATIONS_MIN, Mistake, ScramKeys, ScramUsers, Users, check_name,
    mistakes_text, new_secret_line, user_lines,
};

/// The command.
#[derive(Args)]
#[command(
    after_help = "The password is asked for, twice and without echo, unless --stdin or --batch says where it comes \
    from. A running broker loads the file anew on SIGHUP."
)]
pub(super) struct Passwd {
    /// The file; it is made if there is none
    file: PathBuf,
    /// The user to add, or to give another password
    #[arg(required_unless_present_any = ["batch", "list", "delete"], conflicts_with_all = ["batch", "list", "delete"])]
    user: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, requires = "user")]
    stdin: bool,
    /// Add or change many: a file of user:password lines; - is standard input
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
    /// Remove a user
    #[arg(long, value_name = "USER", conflicts_with_all = ["batch", "list"])]
    delete: Option<String>,
    /// List the users
    #[arg(long, conflicts_with = "batch")]
    list: bool,
    /// The file is one of SCRAM-SHA-256 keys
    #[arg(long)]
    scram: bool,
    /// argon2id: memory in KiB
    #[arg(long, value_name = "KIB", default_value_t = 19 * 1024, conflicts_with = "scram")]
    #[arg(value_parser = clap::value_parser!(u32).range(8..=1 << 20))]
    memory: u32,
    /// argon2id: passes over the memory
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "scram")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    passes: u32,
    /// SCRAM: iterations, which each client has to compute at each connect
    #[arg(long, value_name = "N", default_value_t = ITERATIONS, requires = "scram")]
    #[arg(value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS_MIN)..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{text}\n  remedy: correct these lines; the file was left as it is")]
    Malformed { text: String },
    #[error("the password cannot be read: {0}\n  remedy: run it in a terminal, or give the password by --stdin")]
    Prompt(io::Error),
    #[error("{0}")]
    Refused(String),
}

impl Passwd {
    pub(super) fn run(&self) -> ExitCode {
        match self.work() {
            Ok(told) => {
                print!("{told}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("ringmq: {error}");
                ExitCode::from(if matches!(error, Failed::File { .. }) { UNREADABLE } else { REFUSED })
            }
        }
    }

    /// What is to be told when it is done.
    fn work(&self) -> Result<String, Failed> {
        if (self.list || self.delete.is_some()) && !self.file.exists() {
            let what = format!("{}: there is no such file; the file is named before the user", self.file.display());
            return Err(Failed::Refused(what));
        }
        let mut file = UserFile::read(&self.file, self.scram)?;
        if self.list {
            return Ok(file.names().map(|name| format!("{name}\n")).collect());
        }
        let told = if let Some(user) = &self.delete {
            if !file.remove(user) {
                return Err(Failed::Refused(format!("{}: there is no user {user:?}", self.file.display())));
            }
            format!("removed {user}\n")
        } else if let Some(batch) = &self.batch {
            format!("{} users set\n", self.set_all(&mut file, batch)?)
        } else {
            let user = self.user.clone().unwrap_or_default();
            check_name(&user).map_err(|why| Failed::Refused(why.to_owned()))?;
            let password = if self.stdin { first_line(io::stdin().lock()) } else { prompt(&user) }?;
            let changed = file.set(&user, &self.hashed(&password)?);
            format!("{} {user}\n", if changed { "changed" } else { "added" })
        };
        file.write(self.scram)?;
        Ok(told)
    }

    fn set_all(&self, file: &mut UserFile, batch: &Path) -> Result<usize, Failed> {
        let failed = |source| Failed::File { file: batch.to_owned(), source };
        let mut text = Zeroizing::new(String::new());
        match batch == Path::new("-") {
            true => io::stdin().read_to_string(&mut text).map_err(failed)?,
            false => File::open(batch).and_then(|mut file| file.read_to_string(&mut text)).map_err(failed)?,
        };
        let lines: Vec<_> = user_lines(&text)
            .map(|line| {
                let line = line?;
                check_name(line.name).map_err(|what| Mistake::new(line.line, what))?;
                Ok((line.name, line.rest))
            })
            .collect();
        let mistakes: Vec<Mistake> = lines.iter().filter_map(|line| line.clone().err()).collect();
        if !mistakes.is_empty() {
            return Err(Failed::Malformed { text: mistakes_text(batch, &mistakes) });
        }
        for (name, password) in lines.iter().flatten() {
            file.set(name, &self.hashed(password)?);
        }
        Ok(lines.len())
    }

    fn hashed(&self, password: &str) -> Result<String, Failed> {
        if password.is_empty() {
            return Err(Failed::Refused("the password is empty".to_owned()));
        }
        let refused = |error: io::Error| Failed::Refused(error.to_string());
        if self.scram {
            let iterations = NonZeroU32::new(self.iterations).unwrap_or(NonZeroU32::MIN);
            return ScramKeys::of(password, iterations).map(|keys| keys.to_string()).map_err(refused);
        }
        let cost = Cost::Argon2 { memory_kib: self.memory, passes: self.passes, lanes: 1 };
        Hash::of(password.as_bytes(), cost).map(|hash| hash.to_string()).map_err(refused)
    }
}

fn first_line(mut input: impl BufRead) -> Result<Zeroizing<String>, Failed> {
    let mut line = Zeroizing::new(String::new());
    input.read_line(&mut line).map_err(Failed::Prompt)?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

fn prompt(user: &str) -> Result<Zeroizing<String>, Failed> {
    let ask = |text: String| rpassword::prompt_password(text).map(Zeroizing::new).map_err(Failed::Prompt);
    let password = ask(format!("Password of {user}: "))?;
    match *ask("Once more: ".to_owned())? == *password {
        true => Ok(password),
        false => Err(Failed::Refused("the two are not the same; nothing was changed".to_owned())),
    }
}

/// A file of users as lines.
struct UserFile {
    path: PathBuf,
    lines: Vec<String>,
}

impl UserFile {
    /// A file that has mistakes is not touched: what it means cannot be known.
    fn read(path: &Path, scram: bool) -> Result<UserFile, Failed> {
        // The file that a link leads to is what is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(UserFile { path, lines: Vec::new() });
            }
            Err(source) => return Err(Failed::File { file: path, source }),
        };
        let mistakes = match scram {
            true => ScramUsers::parse(text.as_bytes()).err(),
            false => Users::parse(text.as_bytes()).err(),
        };
        match mistakes {
            Some(mistakes) => Err(Failed::Malformed { text: mistakes_text(&path, &mistakes) }),
            None => Ok(UserFile { path, lines: text.lines().map(str::to_owned).collect() }),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| name_of(line))
    }

    /// Returns whether there was such a user.
    fn set(&mut self, user: &str, rest: &str) -> bool {
        let line = format!("{user}:{rest}");
        match self.lines.iter_mut().find(|line| name_of(line) == Some(user)) {
            Some(old) => {
                *old = line;
                true
            }
            None => {
                self.lines.push(line);
                false
            }
        }
    }

    /// Returns whether there was such a user.
    fn remove(&mut self, user: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| name_of(line) != Some(user));
        self.lines.len() < before
    }

    fn write(mut self, scram: bool) -> Result<(), Failed> {
        let failed = |source| Failed::File { file: self.path.clone(), source };
        if scram && !self.lines.iter().any(|line| line.starts_with(':')) {
            self.lines.insert(0, new_secret_line().map_err(failed)?);
        }
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        replace(&self.path, &text).map_err(failed)
    }
}

fn name_of(line: &str) -> Option<&str> {
    user_lines(line).next()?.ok().map(|line| line.name).filter(|name| !name.is_empty())
}

/// Puts a file in the place of another, whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    if let Ok(old) = fs::metadata(path) {
        // The broker's user must still be able to read it when root has written it.
        std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
