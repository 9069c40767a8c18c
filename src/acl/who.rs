//! Whom rules are asked about.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Rules;

/// A client, as far as rules care.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Client identifier.
    pub client_id: &'a str,
    /// User name; `None` for a client that nobody authenticated.
    pub user: Option<&'a str>,
    /// Common name of its certificate.
    pub common_name: Option<&'a str>,
    /// Roles that its authentication gave it.
    pub roles: &'a [Arc<str>],
    /// Claims of its token.
    pub claims: &'a BTreeMap<Arc<str>, Arc<str>>,
    /// Where it connects from; `None` where nobody knows, as for a Unix domain socket: rules that deny by address are then
    /// about it, those that allow by address are not.
    pub address: Option<IpAddr>,
    /// Rules of its own: they are asked first.
    pub rules: Option<&'a Rules>,
}
