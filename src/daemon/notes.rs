//! What a start says of where its numbers come from.

use tracing::warn;

use crate::config::Stage;
use crate::ingest::providers::Description;
use crate::market::LicenceClass;

/// Says what nobody may overlook.
pub(super) fn of_provider(provider: &Description, stage: Stage) {
    if provider.simulated {
        warn!("ALL PRICES ARE SIMULATED: ingest.provider is \"sim\"; nothing that is served is real market data");
    }
    if provider.licence_class == LicenceClass::None {
        warn!(
            provider = provider.name,
            environment = stage.name(),
            "NOBODY HAS GRANTED THE USE OF THIS DATA: its terms of service restrict automated use, storing and showing it to others \
             (docs/providers.md); ingest.yahoo.accept_terms says that you have read them and may use it"
        );
    }
}
