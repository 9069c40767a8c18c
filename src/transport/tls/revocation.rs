//! Revocation lists and how long they are good for. An authority that has revoked a certificate since the end of its last
//! list is not heard: so an old list is told early, and by default nobody gets in by it.

use std::path::Path;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{CertificateRevocationList, FromDer};
use x509_parser::time::ASN1Time;

use super::load::{LoadError, unreadable, wrong};

/// The lists of a file.
pub struct Lists {
    pub der: Vec<CertificateRevocationListDer<'static>>,
    /// Of the one that ends first.
    pub term: Term,
}

/// From when to when a list is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub from: ASN1Time,
    pub until: ASN1Time,
}

/// How a list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Good for a while.
    Fresh,
    /// The last quarter of its time has begun.
    Old,
    /// Its time is over.
    OutOfDate,
}

impl Lists {
    /// Reads a file of lists in PEM.
    pub fn read(file: &Path) -> Result<Lists, LoadError> {
        let read = CertificateRevocationListDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let der = read.map_err(|error| wrong(file, unreadable("revocation list", &error)))?;
        let terms = der.iter().map(|list| Term::of(list)).collect::<Result<Vec<_>, _>>();
        let terms = terms.map_err(|what| wrong(file, what))?;
        match terms.into_iter().min_by_key(|term| term.until) {
            Some(term) => Ok(Lists { der, term }),
            None => Err(wrong(file, "there is no revocation list in it (PEM is expected)")),
        }
    }
}

impl Term {
    fn of(list: &[u8]) -> Result<Term, String> {
        let (_, list) =
            CertificateRevocationList::from_der(list).map_err(|error| format!("a list cannot be read: {error}"))?;
        let until =
            list.next_update().ok_or("a list does not say until when it is good (nextUpdate, RFC 5280 §5.1.2.5)")?;
        Ok(Term { from: list.last_update(), until })
    }

    /// How it stands, so many seconds after 1970.
    pub fn age(&self, now: i64) -> Age {
        let (from, until) = (self.from.timestamp(), self.until.timestamp());
        match until.saturating_sub(now) {
            ..=0 => Age::OutOfDate,
            left if left <= until.saturating_sub(from) / 4 => Age::Old,
            _ => Age::Fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_old_in_the_last_quarter_of_its_time_and_then_out_of_date() {
        let at = |seconds| ASN1Time::from_timestamp(seconds).unwrap();
        let term = Term { from: at(1000), until: at(1400) };
        let ages = [(0, Age::Fresh), (1299, Age::Fresh), (1300, Age::Old), (1399, Age::Old), (1400, Age::OutOfDate)];
        for (now, age) in ages {
            assert_eq!(term.age(now), age, "{now}");
        }
    }
}
