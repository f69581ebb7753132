//! PURE: what becomes of a subscription when money comes, goes back or stays away.
//!
//! Whatever a provider tells becomes an [`Event`]. [`apply()`] adds what it tells to the [`Facts`] of its account and works out
//! anew where the account stands, so neither the order of events nor their repetition matters. When a period ends, [`decide`]
//! says what is to be done; the nightly run, the HTTP call and a dry run are this one function.

mod apply;
mod coverage;
mod dunning;
mod event;
mod facts;
mod money;
pub mod period;
mod plan;
mod renewal;
mod state;

pub use apply::{Account, Effect, Letter, apply, apply_and_adopt, choose, settle};
pub use coverage::{Coverage, Span};
pub use dunning::reminder_due;
pub use event::{Change, CustomId, Event, Payer, ReversalKind, What};
pub use facts::{Choice, Facts, FreeMonth, Lapse, Link, Opening, Payment, Reversal, Verdict};
pub use money::{Currency, Money};
pub use plan::{FREE, Plan, Rules, Terms};
pub use renewal::{Confirmation, Decision, decide};
pub use state::{Subscription, derive, overdue};

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Paid up.
    Active,
    /// The period ended unpaid, or a charge failed; a payment may still come.
    PastDue,
    /// Given up; access lasts to the end of the period.
    Canceled,
    /// Withheld.
    Suspended,
    /// Over.
    Expired,
}

/// How often a subscriber pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillingCycle {
    /// Each calendar month.
    Monthly,
    /// Each calendar year.
    Annual,
}

named!(Status {
    Active => "active", PastDue => "past_due", Canceled => "canceled", Suspended => "suspended", Expired => "expired",
});
named!(BillingCycle { Monthly => "monthly", Annual => "annual" });

#[cfg(test)]
mod tests;
