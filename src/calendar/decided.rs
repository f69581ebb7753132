//! What the exceptions say together about each date of a venue: later layers over earlier ones, refused where they do not fit.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;

use super::exceptions::{Declared, Exception, ExceptionKind, Mistake, Mistakes, Origin};
use super::layers::Layers;
use super::market::DayRule;
use super::types::DayKind;
use super::zone::LocalSeconds;

/// Why a date is not as usual, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub reason: Arc<str>,
    pub source: Option<Arc<str>>,
    pub declared_at: Option<Declared>,
    pub author: Option<Arc<str>>,
}

impl Why {
    pub(super) fn plain(reason: &str) -> Self {
        Self { reason: Arc::from(reason), source: None, declared_at: None, author: None }
    }

    pub(super) fn of_rule(rule: &DayRule) -> Self {
        let (reason, source) = (Arc::clone(&rule.reason), Some(Arc::clone(&rule.source)));
        Self { reason, source, declared_at: rule.declared_at, author: None }
    }

    fn of(exception: &Exception) -> Self {
        let Exception { reason, source, declared_at, author, .. } = exception.clone();
        Self { reason, source, declared_at, author }
    }
}

/// What the date is before its hours are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Base {
    /// As the rules say.
    #[default]
    Rules,
    /// Closed, whatever they say.
    Closed,
    /// Open, whatever they say.
    Open,
}

/// All that was decided about one date.
#[derive(Debug, Clone, Default)]
pub(super) struct Decided {
    pub base: Base,
    pub open: Option<LocalSeconds>,
    pub close: Option<LocalSeconds>,
    /// In order, not overlapping.
    pub halts: Vec<(LocalSeconds, LocalSeconds)>,
    pub why: Option<Why>,
    /// Whether an operator had a say in it.
    pub operator: bool,
    /// The row that was applied last: the one to name when they do not fit.
    last: (Option<Origin>, usize),
}

/// Which of the things a date can be told only once by each layer.
fn aspects(exception: &Exception) -> &'static [&'static str] {
    match exception.kind {
        ExceptionKind::Clear => &["clear"],
        ExceptionKind::Closure | ExceptionKind::Open => &["date", "open", "close"],
        ExceptionKind::LateOpen => &["open"],
        ExceptionKind::EarlyClose if exception.open.is_some() => &["open", "close"],
        ExceptionKind::EarlyClose | ExceptionKind::LateClose => &["close"],
        ExceptionKind::Halt => &[],
    }
}

/// Puts the rows of one venue together, the weaker layers first.
///
/// # Errors
/// Rows that contradict one another within a layer, or a time for a date that is closed by a weaker one.
pub(super) fn decide<'a>(
    exceptions: impl Iterator<Item = &'a Exception>,
) -> Result<BTreeMap<NaiveDate, Decided>, Mistakes> {
    let mut rows: Vec<&Exception> = exceptions.collect();
    rows.sort_by_key(|row| (row.date, row.origin, row.kind, row.halt, row.line));
    let mut mistakes = Vec::new();
    let mut decided: BTreeMap<NaiveDate, Decided> = BTreeMap::new();
    for layer in rows.chunk_by(|a, b| (a.date, a.origin) == (b.date, b.origin)) {
        let date = layer[0].date;
        mistakes.extend(contradictions(layer));
        let day = decided.entry(date).or_default();
        mistakes.extend(layer.iter().filter_map(|row| day.apply(row).err()));
    }
    // A date whose rows undid one another is as if nobody had spoken.
    decided.retain(|_, day| day.why.is_some() || day.operator);
    if mistakes.is_empty() { Ok(decided) } else { Err(Mistakes(mistakes)) }
}

fn contradictions(layer: &[&Exception]) -> Vec<Mistake> {
    let mut seen: Vec<(&str, usize)> = Vec::new();
    let mut mistakes = Vec::new();
    for row in layer {
        let told = aspects(row).iter().find_map(|aspect| seen.iter().find(|(seen, _)| seen == aspect));
        if let Some((aspect, line)) = told {
            let message = format!("{} is told twice (line {line} too: {aspect})", row.date);
            mistakes.push(row.mistake("date", message, "keep one line"));
        }
        seen.extend(aspects(row).iter().map(|aspect| (*aspect, row.line)));
    }
    mistakes
}

impl Decided {
    fn apply(&mut self, row: &Exception) -> Result<(), Mistake> {
        let why = Some(Why::of(row));
        match row.kind {
            ExceptionKind::Clear => {
                let operator = self.why.is_some() && row.origin != Origin::BuiltIn;
                *self = Self { operator, ..Self::default() };
                return Ok(());
            }
            ExceptionKind::Closure => *self = Self { base: Base::Closed, why, ..Self::default() },
            ExceptionKind::Open => {
                *self = Self { base: Base::Open, open: row.open, close: row.close, why, ..Self::default() };
            }
            ExceptionKind::LateOpen | ExceptionKind::EarlyClose | ExceptionKind::LateClose | ExceptionKind::Halt
                if self.base == Base::Closed =>
            {
                let reason = self.why.as_ref().map_or("an exception", |why| &*why.reason);
                let message = format!("{} is closed ({reason})", row.date);
                return Err(row.mistake(
                    "kind",
                    message,
                    "write kind open with the hours, or clear in a line before it",
                ));
            }
            ExceptionKind::Halt => {
                self.halts.extend(row.halt);
                self.halts.sort_unstable();
                self.why = match self.why.take() {
                    // What shapes the whole day comes first.
                    Some(told)
                        if *told.reason != *row.reason && !told.reason.ends_with(&format!("halt: {}", row.reason)) =>
                    {
                        Some(Why { reason: format!("{}; halt: {}", told.reason, row.reason).into(), ..told })
                    }
                    told => told.or(why),
                };
            }
            ExceptionKind::LateOpen | ExceptionKind::EarlyClose | ExceptionKind::LateClose => {
                (self.open, self.close) = (row.open.or(self.open), row.close.or(self.close));
                self.why = why;
            }
        }
        self.operator = row.origin != Origin::BuiltIn;
        self.last = (Some(row.origin), row.line);
        Ok(())
    }

    fn mistake(&self, column: &'static str, message: String, fix: &str) -> Mistake {
        let (origin, line) = self.last;
        Mistake { origin, line, column: Some(column), message, fix: fix.to_owned() }
    }
}

impl Exception {
    fn mistake(&self, column: &'static str, message: String, fix: &str) -> Mistake {
        Mistake { origin: Some(self.origin), line: self.line, column: Some(column), message, fix: fix.to_owned() }
    }
}

/// Whether every date that was decided about gives hours that make sense beside the rules.
///
/// # Errors
/// One mistake for each date that does not.
pub(super) fn check(layers: &Layers) -> Result<(), Mistakes> {
    let mistakes: Vec<_> =
        layers.decided.iter().filter_map(|(date, day)| check_day(layers, *date, day).err()).collect();
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
}

fn check_day(layers: &Layers, date: NaiveDate, day: &Decided) -> Result<(), Mistake> {
    let year = chrono::Datelike::year(&date);
    let plan = layers.plan(date, &layers.almanac((year, year)));
    let mic = &layers.venue().mic;
    let Some(hours) = plan.hours else {
        if plan.kind == DayKind::Closure || day.why.is_none() {
            return Ok(());
        }
        let reason = plan.why.map(|why| why.reason.to_string()).unwrap_or_default();
        let message = format!("{date} is no session of {mic} ({reason}), so it has no such hours");
        return Err(day.mistake("date", message, "correct the date, or write kind open if it does trade"));
    };
    let times = |(start, end): (LocalSeconds, LocalSeconds)| format!("{}-{}", wall(start), wall(end));
    let span = times((hours.open, hours.close));
    if hours.open >= hours.close {
        let message = format!("the session of {mic} on {date} would be {span}");
        return Err(day.mistake("close", message, "write times that leave some session between open and close"));
    }
    if let Some(at) = hours.usual.breaks.iter().find(|(start, end)| *start < hours.close && hours.close <= *end) {
        let message = format!("{} on {date} is within the break {} of {mic}", wall(hours.close), times(*at));
        return Err(day.mistake("close", message, "write the time the break begins"));
    }
    if let Some(at) = hours.usual.breaks.iter().find(|(start, end)| (*start..*end).contains(&hours.open)) {
        let message = format!("{} on {date} is within the break {} of {mic}", wall(hours.open), times(*at));
        return Err(day.mistake("open", message, "write the time the break ends"));
    }
    if let Some(night) = hours.night().filter(|night| hours.close > 86_400 + night) {
        let message = format!(
            "the close {} on {date} is after the night session has begun, {}",
            wall(hours.close),
            wall(86_400 + night)
        );
        return Err(day.mistake("close", message, "write an earlier time"));
    }
    if let Some(halt) = hours.halts.iter().find(|(start, end)| *start <= hours.open || hours.close <= *end) {
        let message = format!("the halt {} is not within the session of {mic} on {date}, {span}", times(*halt));
        return Err(day.mistake("halt_start", message, "write a late_open or an early_close for its beginning or end"));
    }
    if let Some(pair) = hours.halts.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        let message = format!("the halts {} and {} on {date} overlap", times(pair[0]), times(pair[1]));
        return Err(day.mistake(
            "halt_start",
            message,
            "write one halt from the first to the last time, after a clear where one of them is built in",
        ));
    }
    Ok(())
}

/// A local time as people write it.
pub(super) fn wall(seconds: LocalSeconds) -> String {
    let (hours, minutes, seconds) = (seconds.div_euclid(3_600), seconds.rem_euclid(3_600) / 60, seconds.rem_euclid(60));
    if seconds == 0 { format!("{hours:02}:{minutes:02}") } else { format!("{hours:02}:{minutes:02}:{seconds:02}") }
}
