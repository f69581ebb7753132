//! The month, day by day: sessions with their hours, and why the market is closed on the others.

use std::sync::Arc;

use chrono::{Datelike, Months, NaiveDate};
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Response, Result, handler};

use super::Visit;
use crate::api::Problem;
use crate::console::page::{Block, Cell, Field, Form, show as shown};

/// One month, the present one where none is asked for (`month=2026-11`).
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let calendar = visit.console.app.calendar.load();
    let today = calendar.local_date(visit.now);
    let wanted = visit.fields.text("month").map(|text| NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d"));
    let first = wanted.transpose().ok().map(|month| month.unwrap_or(today)).and_then(|day| day.with_day(1));
    let first = first.filter(|day| (1990..=2100).contains(&day.year())).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", "month must be like 2026-11, between 1990 and 2100")
    })?;
    let next = first + Months::new(1);
    let rows = first.iter_days().take_while(|day| *day < next).map(|date| {
        let (day, session) = (calendar.why(date), calendar.session(date));
        let time = |at: Option<_>| visit.maybe_time(at);
        vec![
            Cell::text(format!("{}{}", date.format("%a %-d %b %Y"), if date == today { " (today)" } else { "" })),
            Cell::text(day.kind.to_string()),
            time(session.as_ref().map(|session| session.open)),
            time(session.as_ref().map(|session| session.close)),
            Cell::maybe(day.reason.as_deref()),
            Cell::text(day.confidence.to_string()),
        ]
    });
    let month = |day: NaiveDate| {
        let text = day.format("%B %Y").to_string();
        Cell::Link { href: format!("/admin/calendar?month={}", day.format("%Y-%m")), text }
    };
    let mut blocks = Vec::new();
    if visit.console.app.calendars.fault().is_some() {
        blocks.push(Block::Alarm(
            "A file or exception of an operator is not in force. Look: bellwether doctor calendar".to_owned(),
        ));
    }
    blocks.extend([
        Block::Facts(vec![
            ("Venue", Cell::text(format!("{} ({})", calendar.name(), calendar.mic()))),
            ("Calendar", Cell::Code(calendar.version().to_owned())),
            ("Before", month(first - Months::new(1))),
            ("After", month(next)),
        ]),
        Block::Table {
            caption: first.format("%B %Y").to_string(),
            header: vec!["Date", "Kind", "Opens", "Closes", "Why", "Known by"],
            rows: rows.collect(),
            none: "",
        },
        Block::Form(Form {
            action: "/admin/calendar".to_owned(),
            method: "get",
            title: "Another month",
            fields: vec![Field::wanted("month", "Month, as 2026-11", Some(&first.format("%Y-%m").to_string()))],
            button: "Show".to_owned(),
            danger: false,
            command: format!("bellwether calendar show {}", first.format("%Y-%m")),
        }),
    ]);
    Ok(shown(&visit, "Calendar", &blocks))
}
