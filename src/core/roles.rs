//! Roles, and the limits that profiles tie to them. Authentication gives a client roles, and so do the rules, by its names: when
//! either changes while it is connected, its limits change.

use super::Core;
use super::access::Said;
use crate::auth::Principal;
use crate::guard::profile::{Class, Who};

impl Core {
    /// The roles of a client: of its authentication, and of the rules. For these a name that nobody checked is no user's.
    pub(super) fn roles_of<'a>(&'a self, client_id: &'a str, principal: Option<&'a Principal>) -> Vec<&'a str> {
        let user = principal.and_then(|principal| principal.user.as_deref());
        let given = principal.into_iter().flat_map(|principal| &principal.roles).map(|role| &**role);
        let bound = self.rules.policy.iter().flat_map(|policy| policy.bound_roles(client_id, user));
        given.chain(bound).collect()
    }

    /// New rules, or authenticating again, may have given a client other roles, and these other limits. Those hold for
    /// what comes; what CONNACK told it stays until it connects again.
    pub(super) fn guard_roles(&mut self, slot: u32) {
        let classes = self.guarding.guard.classes();
        if !classes.know_roles() {
            return;
        }
        let session = &self.sessions[slot];
        let Some(access) = session.access.as_deref() else { return };
        let user = match (&access.said, access.principal.user.as_deref()) {
            (_, Some(user)) => Some(user),
            (Said::User(said), None) => said.as_deref(),
            // It connected before anything was kept of it.
            (Said::Unknown, None) => return,
        };
        let roles = self.roles_of(&session.client_id, Some(&access.principal));
        let class = classes.instead_of(session.class, Who { client_id: &session.client_id, user, roles: &roles });
        if class != session.class {
            self.change_class(slot, class);
        }
    }

    fn change_class(&mut self, slot: u32, class: Class) {
        self.sessions[slot].class = class;
        let limits = self.limits_of(class).clone();
        if let Some(connection) = self.wire.conns.get_mut(self.sessions[slot].conn) {
            connection.class = class;
            self.guard_meter_anew(slot, limits);
        }
    }
}
