//! How many files and connections the process may hold open.

use tracing::{debug, warn};

/// What is open beside the connections of the API: the database, the provider, listeners, logs.
const OTHERS: u64 = 256;

/// Raises the soft limit of open files so that `connections` fit, as far as the hard limit lets it. The usual soft limit of
/// 1,024 is meant for programs that still use `select`.
#[cfg(target_os = "linux")]
pub fn raise(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if let Err(fault) = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        warn!(error = %fault, "the limit of open files could not be raised");
    } else if raised < wanted {
        let fix = "raise LimitNOFILE of the unit, or lower http.max_connections";
        warn!(open_files = raised, wanted, fix, "fewer connections fit into the limit of open files than are allowed");
    } else {
        debug!(open_files = raised, "the limit of open files was raised");
    }
}

/// Elsewhere the limit is left as it is.
#[cfg(not(target_os = "linux"))]
pub fn raise(_connections: usize) {}
