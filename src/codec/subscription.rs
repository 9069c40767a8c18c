//! Subscription options and the filters of SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 §3.8.3).

use super::wire::{Reader, put_string};
use super::{DecodeError, FilterRequest, Filters, ProtocolVersion, QoS, RetainHandling, SubscriptionOptions, topic};

impl QoS {
    /// The QoS of its two bits; `None` for 3.
    #[inline]
    pub fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;

impl SubscriptionOptions {
    /// The options byte of 5.0; 3.x knows only its two lowest bits, the QoS.
    pub fn to_byte(self) -> u8 {
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        self.qos as u8 | no_local | retain_as_published | (self.retain_handling as u8) << 4
    }

    /// Reads the options byte, of which 3.x has only the QoS.
    ///
    /// # Errors
    /// QoS or retain handling 3, or reserved bits.
    pub fn from_byte(byte: u8, version: ProtocolVersion) -> Result<SubscriptionOptions, DecodeError> {
        let qos = QoS::from_bits(byte & 0x03).ok_or(DecodeError::SubscriptionQoS)?;
        let reserved = if version == ProtocolVersion::V5 { 0xC0 } else { 0xFC };
        if byte & reserved != 0 {
            return Err(DecodeError::ReservedSubscriptionOptions);
        }
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandling),
        };
        let no_local = byte & NO_LOCAL != 0;
        let retain_as_published = byte & RETAIN_AS_PUBLISHED != 0;
        Ok(SubscriptionOptions { qos, no_local, retain_as_published, retain_handling })
    }
}

impl<'a> Filters<'a> {
    /// The filters in order; those of an UNSUBSCRIBE have default options.
    pub fn iter(&self) -> impl Iterator<Item = FilterRequest<'a>> + use<'a> {
        let mut reader = Reader::new(self.payload);
        let with_options = self.with_options;
        // A decoder has read the whole payload already, so this ends where the payload ends.
        std::iter::from_fn(move || {
            let filter = reader.string().ok()?;
            let options = if with_options {
                // What 3.x allows means the same in 5.0.
                SubscriptionOptions::from_byte(reader.u8().ok()?, ProtocolVersion::V5).ok()?
            } else {
                SubscriptionOptions::default()
            };
            Some(FilterRequest { filter, options })
        })
    }
}

impl FilterRequest<'_> {
    /// Appends this filter to the payload of a SUBSCRIBE, to build [`Filters`].
    ///
    /// # Panics
    /// When the filter is longer than 65,535 bytes.
    pub fn put(&self, payload: &mut Vec<u8>) {
        put_string(payload, self.filter);
        payload.push(self.options.to_byte());
    }
}

/// Reads and checks one filter with its options.
pub(super) fn read_filter<'a>(
    reader: &mut Reader<'a>,
    with_options: bool,
    version: ProtocolVersion,
) -> Result<FilterRequest<'a>, DecodeError> {
    let filter = reader.string()?;
    topic::validate_filter(filter).map_err(DecodeError::TopicFilter)?;
    let mut options = SubscriptionOptions::default();
    if with_options {
        options = SubscriptionOptions::from_byte(reader.u8()?, version)?;
    }
    if options.no_local && topic::parse_shared(filter).is_some() {
        return Err(DecodeError::NoLocalOnShared);
    }
    Ok(FilterRequest { filter, options })
}
