//! PURE: what becomes of a subscription when its period ends.
//!
//! The rule is the plain one for now: unpaid at the period's end becomes `past_due`, canceled becomes `expired`. Payments,
//! referral credits, grace and dunning will be decided in [`decide`] too, so that a dry run, the nightly run and the HTTP
//! call stay one and the same.

use chrono::{DateTime, Utc};

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Paid up.
    Active,
    /// The period ended unpaid.
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

/// What the rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Where it stands.
    pub status: Status,
    /// How often it is paid.
    pub billing_cycle: BillingCycle,
    /// Whether the subscriber wants it to go on.
    pub auto_renew: bool,
    /// Half-open end of what is paid for.
    pub current_period_end: DateTime<Utc>,
}

/// What is to be done about a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The period ended unpaid.
    MarkPastDue,
    /// The period ended and nobody wants the next.
    Expire,
    /// Nothing to do of itself, with the reason.
    Skip(&'static str),
    /// Not yet: look again then.
    Wait(DateTime<Utc>),
}

impl Decision {
    /// The name in answers and records.
    pub fn action(&self) -> &'static str {
        match self {
            Self::MarkPastDue => "marked_past_due",
            Self::Expire => "expired",
            Self::Skip(_) | Self::Wait(_) => "skipped",
        }
    }

    /// Why nothing was done.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::MarkPastDue | Self::Expire => None,
            Self::Skip(reason) => Some(reason),
            Self::Wait(_) => Some("the period has not ended"),
        }
    }

    /// Where the subscription stands afterwards.
    pub fn status_after(&self, before: Status) -> Status {
        match self {
            Self::MarkPastDue => Status::PastDue,
            Self::Expire => Status::Expired,
            Self::Skip(_) | Self::Wait(_) => before,
        }
    }

    /// Whether the decision ends the period, and so is recorded once for it.
    pub fn takes_effect(&self) -> bool {
        matches!(self, Self::MarkPastDue | Self::Expire)
    }

    /// When to look at it again of itself. A decided row leaves the queue, so it can never crowd out a newer one.
    pub fn next_action_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Wait(at) => Some(*at),
            _ => None,
        }
    }
}

/// Decides about a subscription that was due at `now`. A dry run calls this and nothing else.
pub fn decide(subscription: &Subscription, now: DateTime<Utc>) -> Decision {
    if now < subscription.current_period_end {
        return Decision::Wait(subscription.current_period_end);
    }
    match (subscription.status, subscription.auto_renew) {
        (Status::Active, true) => Decision::MarkPastDue,
        (Status::Active, false) | (Status::Canceled, _) => Decision::Expire,
        (Status::PastDue, _) => Decision::Skip("already past due"),
        (Status::Suspended, _) => Decision::Skip("suspended"),
        (Status::Expired, _) => Decision::Skip("already expired"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn decided(status: Status, auto_renew: bool, from_period_end: TimeDelta) -> Decision {
        let current_period_end = "2027-03-14T07:00:00Z".parse().unwrap();
        let billing_cycle = BillingCycle::Monthly;
        let subscription = Subscription { status, billing_cycle, auto_renew, current_period_end };
        decide(&subscription, current_period_end + from_period_end)
    }

    #[test]
    fn the_rule_at_the_end_of_a_period() {
        let table =
            [Status::Active, Status::PastDue, Status::Canceled, Status::Suspended, Status::Expired].map(|status| {
                let [renewing, ending] = [true, false].map(|auto_renew| decided(status, auto_renew, TimeDelta::zero()));
                format!("{status}: {} | {}", renewing.action(), ending.action())
            });
        insta::assert_snapshot!(table.join("\n"), @"
        active: marked_past_due | expired
        past_due: skipped | skipped
        canceled: expired | expired
        suspended: skipped | skipped
        expired: skipped | skipped
        ");
    }

    #[test]
    fn a_period_that_has_not_ended_is_left_alone_and_looked_at_again() {
        let decision = decided(Status::Canceled, false, TimeDelta::microseconds(-1));
        assert!(matches!(decision, Decision::Wait(_)));
        assert_eq!(decision.status_after(Status::Canceled), Status::Canceled);
        assert!(!decision.takes_effect());
    }
}
