//! The layers of a venue, asked one date at a time: exceptions over rules over the usual hours.
//!
//! This is the truth of the calendar for every date; the table is compiled from it and must not differ.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use super::decided::{Base, Decided, Why};
use super::market::{DayRule, Hours, Market, Venue};
use super::rules::{is_weekend, place};
use super::types::{Confidence, Day, DayKind, Phase};
use super::zone::LocalSeconds;

/// Which holidays and early closes the rules give to a range of years.
#[derive(Debug, Clone, Default)]
pub(super) struct Almanac {
    years: (i32, i32),
    /// Date and number of the rule, in order of date; where two rules meet the first one written counts.
    holidays: Vec<(NaiveDate, usize)>,
    early_closes: Vec<(NaiveDate, usize)>,
}

impl Almanac {
    fn of(market: &Market, known_at: Option<DateTime<Utc>>, years: (i32, i32)) -> Self {
        let known = |rule: &DayRule| match (known_at, rule.declared_at) {
            (Some(at), Some(declared)) => declared.is_known(at, market.zone),
            _ => true,
        };
        let dates = |rules: &[DayRule]| {
            let known =
                rules.iter().enumerate().filter(|(_, rule)| known(rule)).map(|(index, rule)| (index, &rule.rule));
            let known: Vec<_> = known.collect();
            // A date may be moved over the turn of a year.
            let years = years.0.saturating_sub(1)..=years.1.saturating_add(1);
            let mut dates: Vec<_> = years.flat_map(|year| place(known.iter().copied(), year)).collect();
            dates.sort_unstable();
            dates.dedup_by_key(|(date, _)| *date);
            dates
        };
        Self { years, holidays: dates(&market.holidays), early_closes: dates(&market.early_closes) }
    }
}

fn rule_on<'a>(dates: &[(NaiveDate, usize)], rules: &'a [DayRule], date: NaiveDate) -> Option<&'a DayRule> {
    let found = dates.binary_search_by_key(&date, |(date, _)| *date).ok()?;
    rules.get(dates[found].1)
}

/// Everything that decides about a date at one venue.
#[derive(Debug)]
pub(super) struct Layers {
    pub market: Arc<Market>,
    pub venue: usize,
    pub decided: BTreeMap<NaiveDate, Decided>,
    /// Whether the night sessions of the hours are held.
    pub overnight: bool,
    pub known_at: Option<DateTime<Utc>>,
    official_until: NaiveDate,
    almanac: Almanac,
    weekend: Why,
    beyond: Why,
}

/// What the layers say together about one date.
pub(super) struct Plan<'a> {
    pub kind: DayKind,
    /// `None` where the market does not trade.
    pub hours: Option<DayHours<'a>>,
    pub why: Option<Cow<'a, Why>>,
    pub operator: bool,
}

/// The hours of one session in local time.
#[derive(Debug, Clone, Copy)]
pub(super) struct DayHours<'a> {
    pub usual: &'a Hours,
    pub open: LocalSeconds,
    pub close: LocalSeconds,
    pub halts: &'a [(LocalSeconds, LocalSeconds)],
    /// Whether an operator's word lies behind when it begins.
    pub begun_by_operator: bool,
    overnight: bool,
}

impl Layers {
    pub(super) fn new(
        market: Arc<Market>,
        venue: usize,
        decided: BTreeMap<NaiveDate, Decided>,
        overnight: bool,
        known_at: Option<DateTime<Utc>>,
        years: (i32, i32),
    ) -> Self {
        let almanac = Almanac::of(&market, known_at, years);
        let official_until = market.horizon(known_at).0;
        let beyond = Why::plain("Beyond the years this calendar knows, 1700 to 9000");
        Self {
            market,
            venue,
            decided,
            overnight,
            known_at,
            official_until,
            almanac,
            weekend: Why::plain("Weekend"),
            beyond,
        }
    }

    pub(super) fn venue(&self) -> &Venue {
        &self.market.venues[self.venue]
    }

    /// The first and the last date that the exchange itself has published.
    pub(super) fn official(&self) -> (NaiveDate, NaiveDate) {
        let first = NaiveDate::from_ymd_opt(self.market.exact_from, 1, 1).unwrap_or(NaiveDate::MIN);
        (first, self.official_until)
    }

    /// The rules around `year`: those of the table, or found anew for a year it does not hold.
    pub(super) fn almanac(&self, years: (i32, i32)) -> Cow<'_, Almanac> {
        if self.almanac.years.0 <= years.0 && years.1 <= self.almanac.years.1 {
            return Cow::Borrowed(&self.almanac);
        }
        Cow::Owned(Almanac::of(&self.market, self.known_at, years))
    }

    /// A date beyond what is `knowable` is no session, as no other question finds one there.
    pub(super) fn day(&self, date: NaiveDate, knowable: bool) -> Day {
        let plan = if knowable {
            self.plan(date, &self.almanac((date.year(), date.year())))
        } else {
            Plan { kind: DayKind::Closure, hours: None, why: Some(Cow::Borrowed(&self.beyond)), operator: false }
        };
        let Plan { kind, why, operator, .. } = plan;
        let why = why.map(Cow::into_owned);
        Day {
            date,
            kind,
            is_session: kind.is_session(),
            reason: why.as_ref().map(|why| Arc::clone(&why.reason)),
            source: why.as_ref().and_then(|why| why.source.clone()),
            declared_at: why.as_ref().and_then(|why| why.declared_at).map(|declared| Arc::from(declared.to_string())),
            author: why.and_then(|why| why.author),
            confidence: self.confidence(date, operator),
        }
    }

    pub(super) fn confidence(&self, date: NaiveDate, operator: bool) -> Confidence {
        let (first, last) = self.official();
        match operator {
            true => Confidence::Operator,
            false if (first..=last).contains(&date) => Confidence::Official,
            false => Confidence::Rule,
        }
    }

    /// What is so about a date, by an almanac that knows its year.
    pub(super) fn plan<'a>(&'a self, date: NaiveDate, almanac: &Almanac) -> Plan<'a> {
        let decided = self.decided.get(&date);
        let operator = decided.is_some_and(|decided| decided.operator);
        let told = decided.and_then(|decided| decided.why.as_ref()).map(Cow::Borrowed);
        let shut = |kind, why| Plan { kind, hours: None, why, operator };
        let base = decided.map_or(Base::Rules, |decided| decided.base);
        let mut early = None;
        match base {
            Base::Closed => return shut(DayKind::Closure, told),
            Base::Open => {}
            Base::Rules if is_weekend(date) => return shut(DayKind::Weekend, Some(Cow::Borrowed(&self.weekend))),
            Base::Rules => {
                if let Some(holiday) = rule_on(&almanac.holidays, &self.market.holidays, date) {
                    return shut(DayKind::Holiday, Some(Cow::Owned(Why::of_rule(holiday))));
                }
                early = rule_on(&almanac.early_closes, &self.market.early_closes, date);
            }
        }
        let usual = self.hours_on(date);
        let open = decided.and_then(|decided| decided.open).unwrap_or(usual.open);
        let by_rule = early.and_then(|early| early.close).unwrap_or(usual.close);
        let close = decided.and_then(|decided| decided.close).unwrap_or(by_rule);
        let halts = decided.map_or(&[][..], |decided| &decided.halts);
        let why = told.or_else(|| early.map(|early| Cow::Owned(Why::of_rule(early))));
        let starts = |open: LocalSeconds| usual.pre_open.map_or(open, |pre_open| pre_open.min(open));
        let begun_by_operator = operator && (base == Base::Open || starts(open) != starts(usual.open));
        let hours = DayHours { usual, open, close, halts, begun_by_operator, overnight: self.overnight };
        Plan { kind: hours.kind(), hours: Some(hours), why, operator }
    }

    fn hours_on(&self, date: NaiveDate) -> &Hours {
        let hours = &self.venue().hours;
        let index = hours.partition_point(|hours| hours.from <= date).saturating_sub(1);
        &hours[index]
    }
}

impl DayHours<'_> {
    /// The kind follows from the hours, so that the two cannot contradict each other.
    fn kind(&self) -> DayKind {
        match (self.open.cmp(&self.usual.open), self.close.cmp(&self.usual.close)) {
            (Ordering::Equal, Ordering::Equal) => DayKind::Full,
            (Ordering::Equal, Ordering::Less) => DayKind::EarlyClose,
            (Ordering::Greater, Ordering::Equal) => DayKind::LateOpen,
            _ => DayKind::Special,
        }
    }

    /// Where the night session begins, if one is held, in seconds from midnight: negative.
    pub(super) fn night(&self) -> Option<LocalSeconds> {
        self.usual.overnight.filter(|_| self.overnight).map(|(start, _)| start)
    }

    /// Gives the changes of phase in order, the last one into `Closed`.
    pub(super) fn phases(&self, into: &mut Vec<(LocalSeconds, Phase)>) {
        let Self { usual, open, close, .. } = *self;
        into.clear();
        if let (Some(start), Some((_, end))) = (self.night(), usual.overnight) {
            into.push((start, Phase::Overnight));
            begin(into, end.min(open), Phase::Closed);
        }
        if let Some(pre_open) = usual.pre_open.filter(|pre_open| *pre_open < open) {
            begin(into, pre_open, Phase::Pre);
        }
        let within = |pauses: &[(LocalSeconds, LocalSeconds)], at| {
            pauses.iter().any(|(start, end)| (*start..*end).contains(&at))
        };
        let edges = usual.breaks.iter().chain(self.halts).flat_map(|(start, end)| [*start, *end]);
        let mut edges: Vec<_> = edges.filter(|edge| open < *edge && *edge < close).chain([open]).collect();
        edges.sort_unstable();
        // What was ordered is stronger than what is always so: a halt over the lunch break is a halt.
        for edge in edges {
            let phase = match () {
                () if within(self.halts, edge) => Phase::Halt,
                () if within(&usual.breaks, edge) => Phase::Break,
                () => Phase::Regular,
            };
            begin(into, edge, phase);
        }
        let early = close < usual.close;
        let post_close = if early { usual.early_post_close.or(usual.post_close) } else { usual.post_close };
        // A late session makes room for the night that begins on the same evening.
        let latest = self.night().map_or(LocalSeconds::MAX, |night| night + 86_400);
        if let Some(post_close) = post_close.map(|post| post.min(latest)).filter(|post_close| close < *post_close) {
            begin(into, close, Phase::Post);
            begin(into, post_close, Phase::Closed);
        } else {
            begin(into, close, Phase::Closed);
        }
    }
}

/// A phase that begins as another does leaves that one no time at all, and a phase is not followed by itself.
fn begin(into: &mut Vec<(LocalSeconds, Phase)>, start: LocalSeconds, phase: Phase) {
    into.pop_if(|(last, _)| *last >= start);
    if into.last().is_none_or(|(_, last)| *last != phase) {
        into.push((start, phase));
    }
}
