//! What happened, told by a payment provider and already verified: the one form in which money enters.

use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::{BillingCycle, Money, Terms};

/// Something that happened at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who tells, e.g. `paypal`.
    pub source: String,
    /// The teller's id of the message. The same thing may be told under several: it takes effect by the ids in `what`.
    pub id: String,
    /// When the thing told happened, by the resource's own time, not by the time of the message.
    pub at: DateTime<Utc>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A subscription that the provider manages has changed.
    Subscription {
        /// The provider's id of it (`I-..`).
        id: String,
        /// How.
        change: Change,
        /// When it was made: of several of one account the newest counts.
        created_at: Option<DateTime<Utc>>,
        /// The provider's id of its plan (`P-..`); stronger than what `custom` says.
        plan_id: Option<String>,
        /// What the site wrote on it.
        custom: Option<CustomId>,
        /// Whose it is.
        payer: Payer,
    },
    /// Money came, or is on its way.
    Payment {
        /// The provider's id of the sale or capture. Money counts once for each.
        id: String,
        /// `true`: it is here; `false`: it is held (pending).
        completed: bool,
        /// How much.
        amount: Money,
        /// The subscription that it pays; `None` for a single purchase.
        subscription: Option<String>,
        /// What the site wrote on it: for a single purchase, what is bought and by whom.
        custom: Option<CustomId>,
        /// Whose it is.
        payer: Payer,
    },
    /// Money was taken back.
    Reversal {
        /// The provider's id of the refund; of a reversal or denial without one, the payment's.
        id: String,
        /// The sale or capture.
        of: String,
        /// How.
        kind: ReversalKind,
        /// How much; `None`: all of it.
        amount: Option<Money>,
    },
    /// Somebody disputes payments.
    Dispute {
        /// The provider's id of the dispute.
        id: String,
        /// The payments in question.
        payments: Vec<String>,
        /// How it stands, in the provider's words.
        state: String,
    },
}

/// How a subscription that the provider manages has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was made; nothing is agreed yet.
    Created,
    /// Its terms changed.
    Updated,
    /// It runs (again).
    Activated,
    /// A charge failed; the provider will try again.
    PaymentFailed,
    /// It rests.
    Suspended,
    /// It was ended.
    Canceled,
    /// It came to its planned end.
    Expired,
}

named!(Change {
    Created => "created", Updated => "updated", Activated => "activated", PaymentFailed => "payment_failed",
    Suspended => "suspended", Canceled => "canceled", Expired => "expired",
});

/// How money was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReversalKind {
    /// The merchant gave it back, in whole or in part.
    Refunded,
    /// The provider took it back, all of it.
    Reversed,
    /// It never came.
    Denied,
}

named!(ReversalKind { Refunded => "refunded", Reversed => "reversed", Denied => "denied" });

/// Who pays, as the provider knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payer {
    /// The provider's id.
    pub id: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
}

/// What the site writes on an order: `plan_cycle_unixtime[_user]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomId {
    /// Plan and cycle, as written: the plan may be an older name, or none that is known.
    pub terms: Terms,
    /// The site's name for the account.
    pub user: Option<String>,
}

impl FromStr for CustomId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not of the form plan_cycle_unixtime or plan_cycle_unixtime_user");
        let mut parts = text.splitn(4, '_');
        let (plan, cycle, time) = (parts.next(), parts.next(), parts.next());
        let (Some(plan), Some(cycle), Some(time)) = (plan, cycle, time) else { return Err(refused()) };
        let cycle: BillingCycle = cycle.to_lowercase().parse().map_err(|_| refused())?;
        if plan.is_empty() || time.parse::<i64>().is_err() {
            return Err(refused());
        }
        let user = parts.next().filter(|user| !user.is_empty()).map(str::to_owned);
        Ok(Self { terms: Terms { plan: plan.to_lowercase(), cycle }, user })
    }
}
