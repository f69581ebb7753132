//! Where a subscription stands, worked out of the facts.

use chrono::{DateTime, Utc};

use super::{BillingCycle, Change, Coverage, FREE, Facts, Rules, Status, Terms, Verdict};

/// Where a subscription stands: what is kept of it, so that the nightly run need not look at all facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Where it stands.
    pub status: Status,
    /// What is given now.
    pub terms: Terms,
    /// Whether it is to go on.
    pub auto_renew: bool,
    /// Half-open end of what is paid for.
    pub current_period_end: DateTime<Utc>,
    /// Where months are counted from, and how many after it the period ends; `None`: nothing was paid yet.
    pub anchor: Option<(DateTime<Utc>, u32)>,
    /// When something else is given, where that is already paid for, and what.
    pub next_terms: Option<(DateTime<Utc>, Terms)>,
    /// Whether a run has decided that the period ended unpaid.
    pub lapsed: bool,
    /// The subscription at the provider that pays it, while that one runs.
    pub link: Option<String>,
}

impl Subscription {
    /// Whether what is paid for may be used at `now`: to the end of the period, and, where the next one is wanted, until the nightly
    /// run has decided about it and while a payment that is late may still come.
    pub fn has_access(&self, now: DateTime<Utc>, rules: &Rules) -> bool {
        let in_grace = now < self.current_period_end + rules.grace;
        now < self.current_period_end || in_grace && matches!(self.status, Status::Active | Status::PastDue)
    }

    /// The plan that may be used at `now`.
    pub fn plan_at(&self, now: DateTime<Utc>, rules: &Rules) -> &str {
        if !self.has_access(now, rules) {
            return FREE;
        }
        self.next_terms.as_ref().filter(|(at, _)| *at <= now).map_or(&self.terms.plan, |(_, terms)| &terms.plan)
    }

    /// When something is to be done about it of itself; `None`: nothing is.
    pub fn next_action_at(&self, now: DateTime<Utc>, rules: &Rules) -> Option<DateTime<Utc>> {
        let end = self.current_period_end;
        if now < end {
            return Some(self.next_terms.as_ref().map_or(end, |(at, _)| end.min(*at)));
        }
        match self.status {
            Status::Expired => None,
            _ if !self.lapsed => Some(end),
            Status::Suspended => Some(end + rules.give_up),
            _ => Some(end + rules.grace),
        }
    }
}

/// How an unpaid subscription stands, by how long it has been unpaid.
pub fn overdue(end: DateTime<Utc>, now: DateTime<Utc>, rules: &Rules) -> Status {
    match now - end {
        age if age < rules.grace => Status::PastDue,
        age if age < rules.give_up => Status::Suspended,
        _ => Status::Expired,
    }
}

/// Where the account stands at `at`. What the nightly run has not decided about yet stands as it did: it is due, not lapsed.
/// `None`: there is no subscription.
pub fn derive(facts: &Facts, rules: &Rules, at: DateTime<Utc>) -> Option<Subscription> {
    let Some(coverage) = Coverage::of(facts, rules) else { return nothing_left(facts, rules) };
    let end = coverage.end();
    let auto_renew = wants_more(facts, rules);
    let would_have_been = Coverage::with_what_was_taken_back(facts, rules).map(|coverage| coverage.end());
    // The steps from one to the next are the nightly run's.
    let decided = facts.lapse.filter(|lapse| lapse.period_end == end).map(|lapse| lapse.status);
    let taken_back = would_have_been.filter(|would| *would > end).map(|_| overdue(end, at, rules));
    let unpaid = decided.or(taken_back);
    let status = match (at < end, auto_renew, unpaid) {
        (true, false, _) | (false, false, None) => Status::Canceled,
        (false, false, Some(_)) => Status::Expired,
        (false, true, Some(unpaid)) => unpaid,
        (true, true, _) | (false, true, None) => trouble(facts, rules),
    };
    let terms = coverage.at(at)?.terms.clone();
    Some(Subscription {
        status,
        terms,
        auto_renew,
        current_period_end: end,
        anchor: (!coverage.provisional).then_some((coverage.anchor, coverage.months)),
        next_terms: coverage.next_switch(at).map(|(at, terms)| (at, terms.clone())),
        lapsed: end <= at && unpaid.is_some(),
        link: running_link(facts),
    })
}

/// All that was ever paid was taken back, or was never good: what there was ends where it began.
fn nothing_left(facts: &Facts, rules: &Rules) -> Option<Subscription> {
    let back = facts.payments.iter().filter(|payment| facts.taken_back(payment).is_some());
    let back = back.filter_map(|payment| match facts.worth(payment, rules) {
        Verdict::Pays(terms, _) => Some((payment.paid_at, terms)),
        _ => None,
    });
    let activated = facts.links.iter().filter(|link| link.change == Change::Activated);
    let activated = activated.filter_map(|link| Some((link.at, link.terms.clone()?)));
    let (end, terms) = back.min_by_key(|(at, _)| *at).or_else(|| activated.min_by_key(|(at, _)| *at))?;
    Some(Subscription {
        status: Status::Expired,
        terms,
        auto_renew: false,
        current_period_end: end,
        anchor: None,
        next_terms: None,
        lapsed: true,
        link: running_link(facts),
    })
}

/// Whether it is to go on, by the newest word on it: the account holder's, the provider's, or a new purchase.
fn wants_more(facts: &Facts, rules: &Rules) -> bool {
    let opening = facts.opening.iter().map(|opening| (DateTime::<Utc>::MIN_UTC, opening.auto_renew));
    let choice = facts.choice.iter().map(|choice| (choice.at, choice.auto_renew));
    let link = facts.current_link().and_then(|id| facts.standing_of_link(id)).into_iter();
    let link = link.filter_map(|link| match link.change {
        Change::Canceled | Change::Expired => Some((link.at, false)),
        Change::Activated => Some((link.at, true)),
        _ => None,
    });
    let bought = facts.payments.iter().filter(|payment| payment.link.is_none());
    let bought = bought.filter(|payment| matches!(facts.verdict(payment, rules), Verdict::Pays(..)));
    let bought = bought.map(|payment| (payment.paid_at, true));
    // Of two at one instant the one that ends it counts: nobody is charged against their word.
    let words = opening.chain(choice).chain(link).chain(bought);
    words.max_by_key(|(at, more)| (*at, !more)).is_none_or(|(_, more)| more)
}

/// A period that is paid for may have the next one in doubt already.
fn trouble(facts: &Facts, rules: &Rules) -> Status {
    let Some(link) = facts.current_link().and_then(|id| facts.standing_of_link(id)) else { return Status::Active };
    let paid = facts.payments.iter().filter(|payment| matches!(facts.verdict(payment, rules), Verdict::Pays(..)));
    let paid = paid.map(|payment| payment.paid_at).chain(facts.free_months.iter().map(|month| month.at));
    let is_settled = paid.max().is_some_and(|paid_at| paid_at >= link.at);
    match link.change {
        Change::PaymentFailed if !is_settled => Status::PastDue,
        Change::Suspended if !is_settled => Status::Suspended,
        _ => Status::Active,
    }
}

/// The provider's subscription that counts, unless it was ended.
fn running_link(facts: &Facts) -> Option<String> {
    facts.running_links().first().map(|id| (*id).to_owned())
}

impl BillingCycle {
    /// How many calendar months it has.
    pub fn months(self) -> u32 {
        match self {
            Self::Monthly => 1,
            Self::Annual => 12,
        }
    }
}
