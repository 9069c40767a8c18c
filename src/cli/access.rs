//! Users and rules of the running broker, and how both are read again on SIGHUP.

use std::sync::{Arc, OnceLock};

use tracing::{error, info};

use super::addresses::Sight;
use super::reload::Reload;
use crate::acl::Policy;
use crate::auth::Office;
use crate::config::Acl;
use crate::core::Shared;
use crate::engine::ShardId;
use crate::mesh::Remote;

/// How the shards are woken, once they run, and how many there are.
pub(super) type Wake = Arc<OnceLock<(Remote, u16)>>;

/// Has idle shards take a turn too.
pub(super) fn wake_all(wake: &Wake) {
    if let Some((remote, shards)) = wake.get() {
        (0..*shards).for_each(|shard| remote.wake(ShardId(shard)));
    }
}

/// Reads the files of users again, and has the shards hold those who are connected against them. One that cannot be used leaves its users as they were.
pub(super) fn users(office: Office, wake: Wake) -> Reload {
    Box::new(move |insist| {
        if insist {
            match office.reload() {
                Ok(()) => info!("clients are authenticated by what is in the files now"),
                Err(errors) => error!("{errors}\nits users stay as they were"),
            }
            wake_all(&wake);
        }
    })
}

/// Reads the rules again, and has the shards hold their clients against them. A file that cannot be used, or that asks
/// for what is not known, changes nothing.
pub(super) fn rules(acl: Acl, shared: Arc<Shared>, wake: Wake, sight: Sight) -> Reload {
    Box::new(move |insist| {
        if !insist || acl.file.is_none() {
            return;
        }
        let policy = match Policy::load(&acl) {
            Ok(policy) => policy,
            Err(error) => return error!("{error}\nthe rules stay as they were"),
        };
        match sight.of_rules(&policy, &acl) {
            Ok(()) => {
                shared.set_policy(Some(Arc::new(policy)));
                wake_all(&wake);
                info!("clients may do what the rules say now");
            }
            Err(error) => error!("{error}\nthe rules stay as they were"),
        }
    })
}
