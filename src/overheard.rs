//! What is logged, for tests that hold lines to what they should say.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;

/// Lines, as somebody writes them.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// What was written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// Lets a subscriber hear what this thread logs meanwhile.
pub(crate) fn heard_by(subscriber: impl Subscriber + Send + Sync, work: impl FnOnce()) {
    // Whether anybody listens to a place is found out when it is reached first, for all threads. If that is just when a
    // subscriber comes, this one may be passed over, and the place is mute for good. One that hears everything and tells
    // nobody is always there from here on, so that the answer is yes whoever comes and goes.
    static EVERYTHING: Once = Once::new();
    EVERYTHING.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry())
            .expect("no test of the library sets one");
    });
    tracing::subscriber::with_default(subscriber, work);
}

/// The lines that this thread logs meanwhile, as an operator reads them.
pub(crate) fn overheard(work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    heard_by(subscriber, work);
    lines.text()
}
