//! Counters and gauges with one writer and any number of readers, none of whom waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owner's thread may call this: it is a load and a store, not an atomic addition.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Takes away (gauges). Only the owner's thread may call this.
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(amount), Relaxed);
    }

    /// Sets a level (gauges). Only the owner's thread may call this.
    pub fn set(&self, level: u64) {
        self.0.store(level, Relaxed);
    }

    /// The value as last written.
    pub fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Makes a struct of public counters, which can name them all.
macro_rules! counters {
    ($(#[$of:meta])* $struct:ident { $($(#[$doc:meta])* $name:ident,)* } $(and { $($(#[$rest_doc:meta])* $rest:ident: $type:ty,)* })?) => {
        $(#[$of])*
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $struct {
            $($(#[$doc])* pub $name: $crate::counter::Counter,)*
            $($($(#[$rest_doc])* pub $rest: $type,)*)?
        }

        impl $struct {
            /// Every plain counter with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name.load()),)*].into_iter()
            }
        }
    };
}

pub(crate) use counters;
