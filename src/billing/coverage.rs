//! What is paid for: all facts laid end to end.

use chrono::{DateTime, TimeDelta, Utc};

use super::period::{after_months, before_months};
use super::{Change, Facts, Rules, Terms, Verdict};

/// A stretch of time that is paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: DateTime<Utc>,
    /// Its half-open end.
    pub to: DateTime<Utc>,
    /// What it gives.
    pub terms: Terms,
}

/// What is paid for, without the spans before the last gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Where months are counted from.
    pub anchor: DateTime<Utc>,
    /// How many months after the anchor it ends.
    pub months: u32,
    /// End to end.
    pub spans: Vec<Span>,
    /// Whether it stands on no payment, but on a new subscription whose first payment is on its way.
    pub provisional: bool,
}

/// One thing that lengthens it.
struct Grant<'a> {
    at: DateTime<Utc>,
    key: &'a str,
    months: u32,
    /// Of these, months that were over when it came (charges that had failed).
    overdue: u32,
    terms: Terms,
}

impl Coverage {
    /// Lays out what the facts pay for, without what was taken back. `None`: nothing was ever paid.
    pub fn of(facts: &Facts, rules: &Rules) -> Option<Self> {
        let kept = |payment: &&super::Payment| facts.taken_back(payment).is_none();
        Self::laid_out(facts, rules, facts.payments.iter().filter(kept)).or_else(|| Self::provisional(facts, rules))
    }

    /// The same as if nothing had been taken back.
    pub fn with_what_was_taken_back(facts: &Facts, rules: &Rules) -> Option<Self> {
        Self::laid_out(facts, rules, facts.payments.iter())
    }

    /// Its half-open end.
    pub fn end(&self) -> DateTime<Utc> {
        self.spans.last().map_or(self.anchor, |span| span.to)
    }

    /// The span that holds at `at`; before the first the first, after the last the last.
    pub fn at(&self, at: DateTime<Utc>) -> Option<&Span> {
        self.spans.iter().find(|span| at < span.to).or(self.spans.last())
    }

    /// When something else than at `at` is given, where that is already paid for.
    pub fn next_switch(&self, at: DateTime<Utc>) -> Option<(DateTime<Utc>, &Terms)> {
        let now = &self.at(at)?.terms;
        let next = self.spans.iter().find(|span| span.from > at && span.terms != *now)?;
        Some((next.from, &next.terms))
    }

    fn laid_out<'a>(
        facts: &'a Facts,
        rules: &Rules,
        payments: impl Iterator<Item = &'a super::Payment>,
    ) -> Option<Self> {
        let paid = payments.filter_map(|payment| match facts.worth(payment, rules) {
            Verdict::Pays(terms, cycles) => {
                let (months, overdue) = (terms.cycle.months() * cycles, terms.cycle.months() * (cycles - 1));
                Some(Grant { at: payment.paid_at, key: &payment.id, months, overdue, terms })
            }
            _ => None,
        });
        let free = facts.free_months.iter();
        let free = free.map(|month| Grant { at: month.at, key: "", months: 1, overdue: 0, terms: month.terms.clone() });
        let mut grants: Vec<Grant<'_>> = paid.chain(free).collect();
        grants.sort_by(|one, other| (one.at, one.key).cmp(&(other.at, other.key)));
        let opening = facts.opening.as_ref().map(|opening| {
            let span = Span { from: opening.end, to: opening.end, terms: opening.terms.clone() };
            Self { anchor: opening.end, months: 0, spans: vec![span], provisional: false }
        });
        grants.into_iter().fold(opening, |before, grant| Some(Self::lengthened(before, grant, rules.grace)))
    }

    /// It goes on from its end; where that is too long ago, it begins anew.
    fn lengthened(before: Option<Self>, grant: Grant<'_>, grace: TimeDelta) -> Self {
        let from = before_months(grant.at, grant.overdue);
        let mut coverage = before.filter(|coverage| from <= coverage.end() + grace).unwrap_or_else(|| Self {
            anchor: from,
            months: 0,
            spans: Vec::new(),
            provisional: false,
        });
        let begin = coverage.spans.last().map_or(coverage.anchor, |span| span.to);
        coverage.months += grant.months;
        let to = after_months(coverage.anchor, coverage.months);
        coverage.spans.push(Span { from: begin, to, terms: grant.terms });
        coverage
    }

    /// A first subscription that was just agreed has access for a few days: its first payment may be told late. An account on which
    /// money was ever seen has no such days.
    fn provisional(facts: &Facts, rules: &Rules) -> Option<Self> {
        let approved = facts.links.iter().filter(|link| link.says_how_it_stands());
        let first = approved.min_by_key(|link| (link.created_at, &link.id))?;
        let activated = facts.links.iter().filter(|link| link.id == first.id && link.change == Change::Activated);
        let activated = activated.filter(|link| link.terms.is_some()).min_by_key(|link| link.at)?;
        let terms = activated.terms.clone().filter(|_| facts.payments.is_empty())?;
        let (from, to) = (activated.at, activated.at + rules.first_payment);
        Some(Self { anchor: from, months: 0, spans: vec![Span { from, to, terms }], provisional: true })
    }
}
