//! A [`Sample`] as bytes: what a worker sends its coordinator, so that histograms are merged, never averaged.
//!
//! ```text
//!     version (1 byte) | length of the head (4 bytes, big-endian) | head (JSON) | three histograms (HdrHistogram V2)
//! ```
//!
//! The head is text so that a worker of a near version, which counts one thing more, is still understood. The
//! histograms are the compact V2 form, whose own header says how long each is; order: latency, acknowledged, connect.

use std::io;
use std::sync::OnceLock;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{DeserializeError, Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Counts, Sample, times};

/// Of this layout. A change that an old reader would misread raises it.
const VERSION: u8 = 1;

/// Where a V2 header says which values its histogram can hold: significant digits (4 bytes), lowest and highest
/// value (8 bytes each). They are compared before anything is allocated by them.
const BOUNDS: std::ops::Range<usize> = 12..32;

/// Bytes that are no sample.
#[derive(Debug, Error)]
pub enum Error {
    /// Another version of the program wrote them.
    #[error("samples of layout {0} are not understood, only of layout {VERSION}: use the same version everywhere")]
    Version(u8),
    /// They end in the middle.
    #[error("a sample was cut short")]
    Short,
    /// There is something after the end.
    #[error("{0} bytes follow a sample")]
    Trailing(usize),
    /// The head is no head.
    #[error("the head of a sample is not understood: {0}")]
    Head(#[from] serde_json::Error),
    /// A histogram is none, or one for other values.
    #[error("a histogram of a sample is not understood: {0}")]
    Histogram(String),
}

/// Everything but the histograms.
#[derive(Serialize, Deserialize)]
struct Head {
    thread: u32,
    tick: u32,
    #[serde(default)]
    counts: Counts,
    ready: u64,
    cpu_ns: u64,
}

static EMPTY: OnceLock<Histogram<u64>> = OnceLock::new();

/// The bytes of a sample.
pub fn encode(sample: &Sample) -> Vec<u8> {
    let &Sample { thread, tick, counts, ready, cpu_ns, .. } = sample;
    let head = serde_json::to_vec(&Head { thread, tick, counts, ready, cpu_ns }).expect("numbers only");
    let mut bytes = vec![VERSION];
    bytes.extend((head.len() as u32).to_be_bytes());
    bytes.extend(head);
    let mut serializer = V2Serializer::new();
    let empty = EMPTY.get_or_init(times);
    for histogram in [&sample.latency_ns, &sample.acknowledged_ns, &sample.connect_ns] {
        // One without entries may have been made without room for any.
        let histogram = if histogram.is_empty() { empty } else { histogram };
        serializer.serialize(histogram, &mut bytes).expect("a Vec takes all, and the bounds are constant");
    }
    bytes
}

/// The sample in these bytes, which must hold one and nothing else.
///
/// # Errors
///
/// When they don't.
pub fn decode(bytes: &[u8]) -> Result<Sample, Error> {
    let (&version, rest) = bytes.split_first().ok_or(Error::Short)?;
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let (length, rest) = rest.split_first_chunk().ok_or(Error::Short)?;
    let (head, mut rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Error::Short)?;
    let Head { thread, tick, counts, ready, cpu_ns } = serde_json::from_slice(head)?;
    let (latency_ns, acknowledged_ns, connect_ns) =
        (histogram(&mut rest)?, histogram(&mut rest)?, histogram(&mut rest)?);
    if !rest.is_empty() {
        return Err(Error::Trailing(rest.len()));
    }
    Ok(Sample { thread, tick, counts, ready, cpu_ns, latency_ns, acknowledged_ns, connect_ns })
}

/// Takes a histogram off the front.
fn histogram(bytes: &mut &[u8]) -> Result<Histogram<u64>, Error> {
    let bounds = bytes.get(BOUNDS).ok_or(Error::Short)?;
    if bounds != expected_bounds() {
        return Err(Error::Histogram("it is for other values than ours".to_owned()));
    }
    Deserializer::new().deserialize(bytes).map_err(|error| match error {
        DeserializeError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => Error::Short,
        error => Error::Histogram(error.to_string()),
    })
}

fn expected_bounds() -> [u8; BOUNDS.end - BOUNDS.start] {
    let ours = times();
    let mut bounds = [0; BOUNDS.end - BOUNDS.start];
    bounds[..4].copy_from_slice(&u32::from(ours.sigfig()).to_be_bytes());
    bounds[4..12].copy_from_slice(&ours.low().to_be_bytes());
    bounds[12..].copy_from_slice(&ours.high().to_be_bytes());
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let mut sample = Sample {
            thread: 3,
            tick: 86_399,
            counts: Counts { published: u64::MAX, delivered: 12, ..Counts::default() },
            ready: 50_000,
            cpu_ns: 999_999_999,
            latency_ns: times(),
            acknowledged_ns: times(),
            connect_ns: times(),
        };
        for value in [1_000, 70_000, 70_000, 2_500_000_000] {
            sample.latency_ns.record(value).unwrap();
        }
        sample.connect_ns.record_n(1_000_000, 40_000).unwrap();
        sample
    }

    #[test]
    fn an_empty_histogram_travels_whatever_it_had_room_for() {
        let small = Histogram::new_with_bounds(1, 2, 0).unwrap();
        let received = decode(&encode(&Sample { latency_ns: small, ..sample() })).unwrap();
        assert_eq!(received.latency_ns, times());
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        let sent = sample();
        let received = decode(&encode(&sent)).unwrap();
        assert_eq!((received.thread, received.tick), (sent.thread, sent.tick));
        assert_eq!((received.counts, received.ready, received.cpu_ns), (sent.counts, sent.ready, sent.cpu_ns));
        assert_eq!(received.latency_ns, sent.latency_ns);
        assert_eq!(received.acknowledged_ns, sent.acknowledged_ns);
        assert_eq!(received.connect_ns, sent.connect_ns);
    }

    #[test]
    fn a_sample_is_small() {
        assert!(encode(&sample()).len() < 1_000, "{}", encode(&sample()).len());
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = encode(&sample());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end} of {}", bytes.len());
        }
        assert!(matches!(decode(&[&bytes[..], b"x"].concat()), Err(Error::Trailing(1))));
    }

    #[test]
    fn another_layout_is_refused() {
        let mut bytes = encode(&sample());
        bytes[0] = 9;
        assert!(matches!(decode(&bytes), Err(Error::Version(9))));
    }

    #[test]
    fn a_histogram_for_other_values_is_refused_before_it_is_allocated() {
        let mut bytes = encode(&sample());
        let first = 5 + u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        bytes[first + 24..first + 32].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(matches!(decode(&bytes), Err(Error::Histogram(_))));
    }
}
