//! How far a thread is, where others can read it while it works.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Status;

/// One thread's figures: it is their only writer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Gauges {
    arrived: AtomicU64,
    ready: AtomicU64,
    connecting: AtomicU64,
    away: AtomicU64,
    finished: AtomicU64,
    owed: AtomicU64,
    paid: AtomicU64,
    unacknowledged: AtomicU64,
    arrivals: AtomicU64,
    wills_owed: AtomicU64,
    wills_came: AtomicU64,
    lost: AtomicU64,
    rebuffed: AtomicU64,
    failed: AtomicU64,
}

/// The same as plain numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// [`Status::arrived`].
    pub arrived: u64,
    /// [`Status::ready`].
    pub ready: u64,
    /// [`Status::connecting`].
    pub connecting: u64,
    /// [`Status::away`].
    pub away: u64,
    /// Limited publications that are finished.
    pub finished: u64,
    /// [`Status::owed`].
    pub owed: u64,
    /// [`Status::paid`].
    pub paid: u64,
    /// [`Status::wills_owed`].
    pub wills_owed: u64,
    /// [`Status::wills_came`].
    pub wills_came: u64,
    /// Messages sent that the broker has to acknowledge.
    pub sent: u64,
    /// Of them, those that it has, or never will.
    pub acknowledged: u64,
    /// [`Status::lost`].
    pub lost: u64,
    /// [`Status::rebuffed`].
    pub rebuffed: u64,
}

impl Gauges {
    /// Shows the thread's figures.
    pub fn show(&self, figures: &Figures) {
        // What was paid is read before what is owed, and so must be shown after it: else it could look like too much.
        self.owed.store(figures.owed, Ordering::Release);
        self.paid.store(figures.paid, Ordering::Release);
        self.arrived.store(figures.arrived, Ordering::Relaxed);
        self.ready.store(figures.ready, Ordering::Relaxed);
        self.connecting.store(figures.connecting, Ordering::Relaxed);
        self.away.store(figures.away, Ordering::Relaxed);
        self.unacknowledged.store(figures.sent - figures.acknowledged, Ordering::Relaxed);
        self.finished.store(figures.finished, Ordering::Relaxed);
        self.arrivals.store(figures.paid + figures.acknowledged, Ordering::Relaxed);
        self.wills_owed.store(figures.wills_owed, Ordering::Relaxed);
        self.wills_came.store(figures.wills_came, Ordering::Relaxed);
        self.lost.store(figures.lost, Ordering::Relaxed);
        self.rebuffed.store(figures.rebuffed, Ordering::Relaxed);
    }

    /// The thread ended because something failed.
    pub fn fail(&self) {
        self.failed.store(1, Ordering::Release);
    }

    /// What the thread showed last. `of` and `unfinished` are not a thread's to know; the second holds what is finished.
    pub fn read(&self) -> Status {
        let paid = self.paid.load(Ordering::Acquire);
        Status {
            of: 0,
            arrived: self.arrived.load(Ordering::Relaxed),
            ready: self.ready.load(Ordering::Relaxed),
            connecting: self.connecting.load(Ordering::Relaxed),
            away: self.away.load(Ordering::Relaxed),
            unfinished: self.finished.load(Ordering::Relaxed),
            owed: self.owed.load(Ordering::Acquire),
            paid,
            unacknowledged: self.unacknowledged.load(Ordering::Relaxed),
            arrivals: self.arrivals.load(Ordering::Relaxed),
            wills_owed: self.wills_owed.load(Ordering::Relaxed),
            wills_came: self.wills_came.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            rebuffed: self.rebuffed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Acquire) > 0,
        }
    }
}
