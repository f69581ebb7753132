//! The query of a call to `/api/v1`: every parameter is known, or the call is refused.

use std::fmt::Display;
use std::str::FromStr;

use poem::http::{StatusCode, Uri};

use super::error::Problem;

/// The parameters of one request.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes the query of `uri` apart.
    ///
    /// # Errors
    /// 400 `unknown_parameter` for one that is not in `known`, `bad_parameter` for one that is there twice.
    pub fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none are".to_owned() } else { known.join(", ") };
                let detail = format!("there is no parameter {name:?}; known: {known}");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "unknown_parameter", detail));
            }
            if pairs[..index].iter().any(|(other, _)| other == name) {
                return Err(bad_parameter(&format!("{name} is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// Each name with its value, in the order in which they were given.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The text of a parameter; an empty one counts as not given.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// A parameter of some form; `form` names it with an example.
    ///
    /// # Errors
    /// 400 `bad_parameter`.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str, form: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad_parameter(&format!("{name}={text:?} is not {form}")))
    }

    /// `limit`: how many rows are wanted, `usual` if it is not said, `most` at most.
    ///
    /// # Errors
    /// 400 `bad_parameter`.
    pub fn limit(&self, usual: u32, most: u32) -> Result<u32, Problem> {
        let limit = self.parsed("limit", "a whole number")?.unwrap_or(usual);
        if (1..=most).contains(&limit) {
            return Ok(limit);
        }
        Err(bad_parameter(&format!("limit must be a whole number from 1 to {most}")))
    }

    /// The same as [`Query::parsed`] for one that must be there.
    ///
    /// # Errors
    /// 400 `bad_parameter`.
    pub fn needed<T: FromStr<Err: Display>>(&self, name: &str, form: &str) -> Result<T, Problem> {
        self.parsed(name, form)?.ok_or_else(|| bad_parameter(&format!("{name} is missing; give {form}")))
    }
}

/// 400 `bad_parameter`.
pub fn bad_parameter(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", detail)
}
