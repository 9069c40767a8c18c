//! `ringmq tune`: what of the host matters, held against a table, changed and changed back.
//!
//! The table is `tuning/knobs.toml`; nothing in this room knows any knob by itself. `expression` and `want` are the
//! language in which it says what it wants, `target` the host and load that this is computed for, `reading` what a
//! knob is now. [`check`](check()) compares, [`apply`](apply()) and [`revert`] change (with `state` in between), and
//! [`print`](print()) writes the files of `tuning/` that are made from the table.

mod apply;
mod check;
mod expression;
mod knob;
mod print;
mod reading;
mod state;
mod target;
mod want;

pub use self::apply::{ApplyError, Done, Outcome, Selection, apply, revert};
pub use self::check::{Count, Row, State, check};
pub use self::expression::{ExpressionError, evaluate};
pub use self::knob::{Knob, Place, Severity, TableError, Takes, table};
pub use self::print::{Form, PrintError, README_BEGIN, README_END, print};
pub use self::state::{STATE_FILE, StateError};
pub use self::target::{Role, Target};
pub use self::want::{Want, WantError};
