//! What others post to us: whether it is genuine, and what it says. Knows neither the database nor who asks.
//!
//! `delivery`, `certificate`, `json`, `paypal` and `standard` are PURE: bytes and an instant in, a verdict out. `verifier` fetches PayPal's
//! certificates and `client` calls PayPal's API.

pub mod certificate;
pub mod client;
pub mod delivery;
pub mod json;
pub mod paypal;
mod site;
pub mod standard;
pub mod verifier;

pub use client::{PayPalClient, PayPalError};
pub use delivery::Delivery;
pub use json::Envelope;
pub use site::{SiteClient, SiteFault};
pub use verifier::Verifier;

/// Why a delivery is not believed. It is final: the same bytes will not be believed later either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// Stays the same in every version; metrics and answers carry it.
    pub code: &'static str,
    /// For people; holds nothing secret.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Why a delivery was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not genuine.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody can tell now: something that is needed to tell is away. Whoever sent it should send it again.
    #[error("{code}: {detail}")]
    Undecided {
        /// Stays the same in every version.
        code: &'static str,
        /// For people.
        detail: String,
    },
}

impl Fault {
    pub(crate) fn undecided(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Undecided { code, detail: detail.into() }
    }

    /// The code of either.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Undecided { code, .. } => code,
        }
    }
}

/// How a delivery was found genuine; kept with the event for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its signature was checked here.
    Offline,
    /// PayPal said so.
    Api,
    /// It carries a Standard Webhooks signature under a shared secret.
    Hmac,
    /// It was fetched from PayPal itself.
    Fetched,
}

named!(Verdict { Offline => "offline", Api => "api", Hmac => "hmac", Fetched => "fetched" });

#[cfg(test)]
mod tests;
