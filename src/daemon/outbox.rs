//! What brings letters to the mail server, put together.

use std::sync::Arc;

use super::Parts;
use crate::config::Config;
use crate::jobs::Outbox;
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
