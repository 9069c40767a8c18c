//! What the command line needs to write the files that this room reads.

pub(crate) use super::error::{Mistake, mistakes_text};
pub(crate) use super::files::{check_name, user_lines};
pub(crate) use super::password::{Cost, Hash, Users};
pub(crate) use super::scram::{ITERATIONS, ITERATIONS_MAX, ITERATIONS_MIN, ScramKeys, ScramUsers, new_secret_line};
