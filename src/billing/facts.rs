//! What is known about an account's money. Facts are only added; where it stands is worked out of all of them at once
//! ([`super::coverage`]), so it does not matter in which order they came to be known, nor how often.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Change, Money, ReversalKind, Rules, Status, Terms};

/// What the provider said about a subscription of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The provider's id of the subscription.
    pub id: String,
    /// When it was so.
    pub at: DateTime<Utc>,
    /// What.
    pub change: Change,
    /// When the subscription was made.
    pub created_at: DateTime<Utc>,
    /// What it pays for, where that was said and is known here.
    pub terms: Option<Terms>,
}

/// Money that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The provider's id of the sale or capture.
    pub id: String,
    /// When it was paid.
    pub paid_at: DateTime<Utc>,
    /// How much.
    pub amount: Money,
    /// `false`: held, not here yet.
    pub completed: bool,
    /// The subscription it pays; `None`: a single purchase.
    pub link: Option<String>,
    /// What it says that it is for, where that is known here.
    pub terms: Option<Terms>,
    /// What it was found to pay for, and how many cycles of it, when it was first found good: it holds whatever the prices are later.
    pub good_for: Option<(Terms, u32)>,
}

/// Money that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reversal {
    /// The provider's id of it.
    pub id: String,
    /// The payment.
    pub of: String,
    /// How.
    pub kind: ReversalKind,
    /// How much; `None`: all.
    pub amount: Option<Money>,
    /// When.
    pub at: DateTime<Utc>,
}

/// A month that was paid with invites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeMonth {
    /// The end of the period before it: the key that makes it happen once.
    pub period_end: DateTime<Utc>,
    /// When it was given.
    pub at: DateTime<Utc>,
    /// Of what.
    pub terms: Terms,
}

/// What was paid for before payments were kept here: an import, or an earlier version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Its end.
    pub end: DateTime<Utc>,
    /// Of what.
    pub terms: Terms,
    /// Whether it was to go on.
    pub auto_renew: bool,
}

/// The account holder's own word on whether it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// When it was said.
    pub at: DateTime<Utc>,
    /// Whether it goes on.
    pub auto_renew: bool,
}

/// What a nightly run has decided about a period whose end went by unpaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lapse {
    /// The end of the period.
    pub period_end: DateTime<Utc>,
    /// The newest of its steps: past due, suspended or expired.
    pub status: Status,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// What was paid for before.
    pub opening: Option<Opening>,
    /// The newest word of the account holder.
    pub choice: Option<Choice>,
    /// What the provider said about subscriptions.
    pub links: Vec<Link>,
    /// Payments, each once.
    pub payments: Vec<Payment>,
    /// Refunds, reversals and denials, each once, also of payments that are not known yet.
    pub reversals: Vec<Reversal>,
    /// Months paid with invites.
    pub free_months: Vec<FreeMonth>,
    /// What was decided about the newest period that went by unpaid.
    pub lapse: Option<Lapse>,
}

/// What a payment is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It pays so many cycles.
    Pays(Terms, u32),
    /// It is held.
    Pending,
    /// It was taken back.
    TakenBack(ReversalKind),
    /// It is not what anything costs.
    WrongAmount,
    /// It is for nothing that is sold here.
    UnknownPlan,
}

impl Verdict {
    /// The name in records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pays(..) => "paid",
            Self::Pending => "pending",
            Self::TakenBack(kind) => kind.name(),
            Self::WrongAmount => "wrong_amount",
            Self::UnknownPlan => "unknown_plan",
        }
    }
}

impl Link {
    /// Whether it is more than that it was made or changed: of what nobody approved there is no such word.
    pub fn says_how_it_stands(&self) -> bool {
        !matches!(self.change, Change::Created | Change::Updated)
    }
}

/// Whether the provider takes money for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    Ended,
    Rests,
    Charges,
}

impl Facts {
    /// The subscription that counts: of those that charge, else of those that rest, else of those that have ended, the newest that was
    /// made. One that its holder never approved is none.
    pub fn current_link(&self) -> Option<&str> {
        self.approved_links().first().copied()
    }

    /// The subscriptions that have not ended, the one that counts first: the provider goes on charging for each.
    pub fn running_links(&self) -> Vec<&str> {
        let mut links = self.approved_links();
        links.retain(|id| self.pace(id) > Pace::Ended);
        links
    }

    /// Those that run against the holder's word: approved before it, and not again after it.
    pub fn links_to_end(&self) -> Vec<&str> {
        let Some(word) = self.choice.filter(|choice| !choice.auto_renew) else { return Vec::new() };
        let mut links = self.running_links();
        links.retain(|id| {
            let mut said = self.links.iter().filter(|link| link.id == *id && link.says_how_it_stands());
            let mut charged = self.payments.iter().filter(|payment| payment.link.as_deref() == Some(*id));
            let agreed_after = said.clone().any(|link| link.change == Change::Activated && link.at > word.at);
            !agreed_after && (said.any(|link| link.at <= word.at) || charged.any(|payment| payment.paid_at <= word.at))
        });
        links
    }

    /// The subscriptions that were approved once, by what was said about them or because they were charged; the one that counts first.
    fn approved_links(&self) -> Vec<&str> {
        let told = self.links.iter().filter(|link| link.says_how_it_stands()).map(|link| link.id.as_str());
        let charged = self.payments.iter().filter_map(|payment| payment.link.as_deref());
        let mut ids: Vec<&str> = told.chain(charged).collect::<BTreeSet<_>>().into_iter().collect();
        ids.sort_by_key(|id| Reverse((self.pace(id), self.made_at(id), *id)));
        ids
    }

    fn pace(&self, id: &str) -> Pace {
        match self.standing_of_link(id).map(|link| link.change) {
            Some(Change::Canceled | Change::Expired) => Pace::Ended,
            Some(Change::Suspended) => Pace::Rests,
            _ => Pace::Charges,
        }
    }

    /// When a subscription was made, as it was told, else when it was first charged.
    fn made_at(&self, id: &str) -> Option<DateTime<Utc>> {
        let told = self.links.iter().filter(|link| link.id == id).map(|link| link.created_at).min();
        let charged = self.payments.iter().filter(|payment| payment.link.as_deref() == Some(id));
        told.or_else(|| charged.map(|payment| payment.paid_at).min())
    }

    /// The newest of what was said about a subscription that changes how it stands.
    pub fn standing_of_link(&self, id: &str) -> Option<&Link> {
        let of_it = self.links.iter().filter(|link| link.id == id && link.says_how_it_stands());
        of_it.max_by_key(|link| (link.at, link.change))
    }

    /// What a subscription paid for at `at`, then what it paid for at any other time, newest first.
    fn terms_of_link(&self, id: &str, at: DateTime<Utc>) -> Vec<&Terms> {
        let mut said: Vec<&Link> = self.links.iter().filter(|link| link.id == id && link.terms.is_some()).collect();
        said.sort_by_key(|link| (link.at <= at, link.at, link.change));
        said.iter().rev().filter_map(|link| link.terms.as_ref()).collect()
    }

    /// What a payment is worth, whatever was taken back of it: what it was found to be worth, else what it is by the prices of today.
    pub fn worth(&self, payment: &Payment, rules: &Rules) -> Verdict {
        match &payment.good_for {
            Some((terms, cycles)) if payment.completed => Verdict::Pays(terms.clone(), *cycles),
            _ => self.judge(payment, rules),
        }
    }

    /// Looks at a payment anew, by all that is known of what it is for. What it was found to pay for has the price that it had.
    pub fn judge(&self, payment: &Payment, rules: &Rules) -> Verdict {
        if !payment.completed {
            return Verdict::Pending;
        }
        let of_link = payment.link.as_ref().map(|link| self.terms_of_link(link, payment.paid_at));
        let candidates: Vec<_> = of_link.into_iter().flatten().chain(payment.terms.as_ref()).collect();
        let cycles_of = |terms: &Terms| match &payment.good_for {
            Some((kept, cycles)) if kept == terms => Some(*cycles),
            _ if payment.link.is_some() => rules.cycles_paid(terms, payment.amount),
            _ => rules.is_price(terms, payment.amount).then_some(1),
        };
        let fitting = candidates.iter().find_map(|terms| Some(((*terms).clone(), cycles_of(terms)?)));
        match fitting.or_else(|| payment.good_for.clone()) {
            Some((terms, cycles)) => Verdict::Pays(terms, cycles),
            None if candidates.is_empty() => Verdict::UnknownPlan,
            None => Verdict::WrongAmount,
        }
    }

    /// How a payment was taken back, if it was: by a reversal, a denial, or refunds that come to all of it.
    pub fn taken_back(&self, payment: &Payment) -> Option<ReversalKind> {
        let of_it = || self.reversals.iter().filter(|reversal| reversal.of == payment.id);
        let refunded: i64 = of_it().map(|reversal| reversal.amount.unwrap_or(payment.amount).minor.abs()).sum();
        let by_provider = of_it().map(|reversal| reversal.kind).filter(|kind| *kind != ReversalKind::Refunded).max();
        by_provider
            .or_else(|| (refunded >= payment.amount.minor && of_it().count() > 0).then_some(ReversalKind::Refunded))
    }

    /// What a payment is worth now.
    pub fn verdict(&self, payment: &Payment, rules: &Rules) -> Verdict {
        self.taken_back(payment).map_or_else(|| self.worth(payment, rules), Verdict::TakenBack)
    }

    /// Whether any payment is good: what makes an invited account a paying one.
    pub fn has_paid(&self, rules: &Rules) -> bool {
        self.payments.iter().any(|payment| matches!(self.verdict(payment, rules), Verdict::Pays(..)))
    }

    /// Whether any payment was found good before now, by the prices of its day, and is good still.
    pub fn was_found_paid(&self) -> bool {
        self.payments.iter().any(|payment| payment.good_for.is_some() && self.taken_back(payment).is_none())
    }

    /// How much is known of what a subscription pays for.
    fn words_on_terms(&self, id: &str) -> usize {
        self.links.iter().filter(|link| link.id == id && link.terms.is_some()).count()
    }

    /// Whether there is reason to judge a payment: it was not found good yet, or more is known of it than `before`.
    pub(super) fn is_to_be_judged(&self, payment: &Payment, before: &Self) -> bool {
        let knows_more = |link: &String| self.words_on_terms(link) > before.words_on_terms(link);
        payment.good_for.is_none()
            || !before.payments.contains(payment)
            || payment.link.as_ref().is_some_and(knows_more)
    }

    /// Money that came and money that went back, in minor units of each currency.
    pub fn totals(&self) -> BTreeMap<String, (i64, i64)> {
        let mut totals = BTreeMap::<String, (i64, i64)>::new();
        for payment in self.payments.iter().filter(|payment| payment.completed) {
            let of_it = self.reversals.iter().filter(|reversal| reversal.of == payment.id);
            let back: i64 = of_it.map(|reversal| reversal.amount.unwrap_or(payment.amount).minor.abs()).sum();
            let total = totals.entry(payment.amount.currency.code().to_owned()).or_default();
            total.0 += payment.amount.minor;
            total.1 += back.min(payment.amount.minor);
        }
        totals
    }
}
