//! What writes reminders, and what brings letters to the mail server, put together.

use std::sync::Arc;

use super::Parts;
use crate::config::Config;
use crate::jobs::{Dunning, Outbox};
use crate::mail::Mailer;

/// Makes it.
pub(super) fn of(config: &Config, parts: &Parts) -> Outbox {
    Outbox {
        store: parts.store.clone(),
        clock: Arc::clone(&parts.clock),
        mailer: Mailer::new(&config.mail, Arc::clone(&parts.clock)),
        site: config.site.frontend_url.clone(),
        per_run: config.mail.per_run,
        keep_trying: config.mail.keep_trying,
        nudge: parts.store.letters_written(),
    }
}

/// Who writes reminders.
pub(super) fn reminders(config: &Config, parts: &Parts) -> Arc<Dunning> {
    let (store, clock) = (parts.store.clone(), Arc::clone(&parts.clock));
    Arc::new(Dunning { store, clock, days: config.site.dunning_days.clone() })
}
