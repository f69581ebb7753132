//! What the nightly run does about a subscription that is due.

use chrono::{DateTime, Utc};

use super::period::after_months;
use super::{Lapse, Rules, Status, Subscription, overdue};

/// What is known of the provider's side when a decision is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// It can be asked, and was not yet.
    Possible,
    /// It was asked and has no payment for the next period; or there is nobody to ask.
    Unpaid,
    /// It was asked and gave no answer.
    Unreachable,
}

/// What is to be done about a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Three paid invites pay the next month.
    UseCredit,
    /// Ask the provider whether the next period was paid: its message may be late.
    Confirm(String),
    /// The provider gave no answer: nothing is taken from anybody, and the next run asks again.
    Uncertain,
    /// The period ended unpaid.
    MarkPastDue,
    /// It was unpaid for as long as a payment may be late.
    Suspend,
    /// The period ended and nobody wants the next, or nobody paid for too long.
    Expire,
    /// What is given changes to what was paid for next.
    Switch,
    /// Nothing to do of itself, with the reason.
    Skip(&'static str),
    /// Not yet: look again then.
    Wait(DateTime<Utc>),
}

impl Decision {
    /// The name in answers and records.
    pub fn action(&self) -> &'static str {
        match self {
            Self::UseCredit => "applied_referral_credit",
            Self::Confirm(_) => "confirming",
            Self::Uncertain => "uncertain",
            Self::MarkPastDue => "marked_past_due",
            Self::Suspend => "suspended",
            Self::Expire => "expired",
            Self::Switch => "plan_changed",
            Self::Skip(_) | Self::Wait(_) => "skipped",
        }
    }

    /// Why nothing was done.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Skip(reason) => Some(reason),
            Self::Wait(_) => Some("nothing is due yet"),
            Self::Uncertain => Some("the payment provider gave no answer; the next run asks again"),
            _ => None,
        }
    }

    /// Whether the decision is the outcome of the period, recorded once for it.
    pub fn is_outcome(&self) -> bool {
        matches!(self, Self::UseCredit | Self::MarkPastDue | Self::Suspend | Self::Expire)
    }

    /// The fact that a period went by unpaid, where that is what was decided.
    pub fn lapse(&self, before: &Subscription, rules: &Rules, now: DateTime<Utc>) -> Option<Lapse> {
        let is_lapse = matches!(self, Self::MarkPastDue | Self::Suspend | Self::Expire);
        let status = self.after(before, rules, now).status;
        is_lapse.then_some(Lapse { period_end: before.current_period_end, status })
    }

    /// When to look at it again: always later than now, so that one run never decides twice about the same, and no row that stays
    /// due can keep newer ones from being reached.
    pub fn next_action_at(&self, after: &Subscription, rules: &Rules, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = match self {
            Self::Wait(at) => Some(*at),
            Self::Skip(_) => None,
            Self::Uncertain => Some(now),
            _ => after.next_action_at(now, rules),
        };
        next.map(|at| at.max(now + rules.ask_again))
    }

    /// Where the subscription stands afterwards.
    pub fn after(&self, before: &Subscription, rules: &Rules, now: DateTime<Utc>) -> Subscription {
        let status = match self {
            Self::UseCredit => return lengthened(before, rules, now),
            Self::MarkPastDue => Status::PastDue,
            Self::Suspend => Status::Suspended,
            Self::Expire => Status::Expired,
            _ => return before.clone(),
        };
        Subscription { status, lapsed: true, ..before.clone() }
    }
}

/// Decides about a subscription that was due at `now`. A dry run calls this and nothing else. `credits` is the balance of paid
/// invites.
pub fn decide(
    subscription: &Subscription,
    credits: i64,
    asked: Confirmation,
    rules: &Rules,
    now: DateTime<Utc>,
) -> Decision {
    let end = subscription.current_period_end;
    if now < end {
        return match &subscription.next_terms {
            Some((at, _)) if *at <= now => Decision::Switch,
            Some((at, _)) => Decision::Wait(end.min(*at)),
            None => Decision::Wait(end),
        };
    }
    let may_go_on = subscription.auto_renew && matches!(subscription.status, Status::Active | Status::PastDue);
    if may_go_on && credits >= rules.invites_per_month {
        return Decision::UseCredit;
    }
    if subscription.lapsed {
        return still_unpaid(subscription, rules, now);
    }
    match subscription.status {
        Status::Expired => Decision::Skip("already expired"),
        Status::Canceled => Decision::Expire,
        _ if !subscription.auto_renew => Decision::Expire,
        Status::Suspended => Decision::Suspend,
        Status::Active | Status::PastDue => match (&subscription.link, asked) {
            (Some(link), Confirmation::Possible) => Decision::Confirm(link.clone()),
            (Some(_), Confirmation::Unreachable) => Decision::Uncertain,
            _ => Decision::MarkPastDue,
        },
    }
}

/// The steps after the one that marked it.
fn still_unpaid(subscription: &Subscription, rules: &Rules, now: DateTime<Utc>) -> Decision {
    let end = subscription.current_period_end;
    match (subscription.status, overdue(end, now, rules)) {
        (Status::Expired, _) => Decision::Skip("already expired"),
        (_, Status::Expired) => Decision::Expire,
        (Status::Suspended, _) => Decision::Wait(end + rules.give_up),
        (_, Status::Suspended) => Decision::Suspend,
        _ => Decision::Wait(end + rules.grace),
    }
}

/// One calendar month more, whatever the cycle: from the end of the period, or from now where that is too long ago.
fn lengthened(before: &Subscription, rules: &Rules, now: DateTime<Utc>) -> Subscription {
    let goes_on = now <= before.current_period_end + rules.grace;
    let (anchor, months) = before.anchor.filter(|_| goes_on).unwrap_or((now, 0));
    let current_period_end = after_months(anchor, months + 1);
    let status = Status::Active;
    Subscription { status, lapsed: false, current_period_end, anchor: Some((anchor, months + 1)), ..before.clone() }
}
