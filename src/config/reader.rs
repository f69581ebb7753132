//! Typed access to raw values. Asking for a key is what makes it known: what nobody asked for is an unknown key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

use super::sources::{self, Environment};
use super::value::{Origin, Sourced, Value};
use super::{COMPONENT_MARKS, Problem, Setting};

/// Reads every key once, keeps every problem, and remembers what it showed for `config show`.
pub(super) struct Reader<'a> {
    toml: BTreeMap<String, Sourced>,
    environment: &'a Environment,
    known: BTreeSet<String>,
    pub(super) settings: Vec<Setting>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(toml: BTreeMap<String, Sourced>, environment: &'a Environment) -> Self {
        Self { toml, environment, known: BTreeSet::new(), settings: Vec::new(), problems: Vec::new() }
    }

    /// Writes down a problem with a key that was read before.
    pub(super) fn refuse(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        let origin = self.origin(key);
        self.problems.push(Problem::new(key, origin, message, fix));
    }

    /// Where the value of a key that was read before came from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.settings.iter().find(|setting| setting.key == key).map_or(Origin::Unset, |setting| setting.origin.clone())
    }

    /// The same where the key is not said and something else tells the place.
    pub(super) fn refuse_at(&mut self, key: &str, origin: Origin, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::new(key, origin, message, fix));
    }

    /// The entries of an array of tables: the key of each and where it begins. Asking makes them known.
    pub(super) fn entries(&mut self, table: &str) -> Vec<(String, Origin)> {
        let keys = (1..).map(|number| format!("{table}.{number}"));
        let found = keys.map_while(|key| self.toml.get(&key).map(|found| (key, found.origin.clone())));
        let found: Vec<_> = found.collect();
        self.known.extend(found.iter().map(|(key, _)| key.clone()));
        found
    }

    /// The names said below a key, parts of a path that are deeper included.
    pub(super) fn names_below(&self, key: &str) -> Vec<String> {
        let prefix = format!("{key}.");
        self.toml.keys().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// Whether a key of a file was said at all.
    pub(super) fn is_said(&self, key: &str) -> bool {
        self.toml.contains_key(key)
    }

    /// A key that has a default where `default.toml` cannot give it one.
    pub(super) fn or_default(&mut self, key: String, value: Value) {
        self.toml.entry(key).or_insert(Sourced { value, origin: Origin::Default });
    }

    /// A key that exists and is not for here: known, so that it is not called unknown as well.
    pub(super) fn refuse_here(&mut self, key: &str, message: &str, fix: &str) {
        if let Some(origin) = self.toml.get(key).map(|found| found.origin.clone()) {
            self.known.insert(key.to_owned());
            self.refuse_at(key, origin, message, fix);
        }
    }

    /// A list whose items are taken as they stand: a text is no list here, because a comma may be part of an item.
    pub(super) fn arguments(&mut self, key: &str) -> Option<Vec<String>> {
        match self.take(key)?.value {
            Value::List(items) => Some(items),
            other => {
                self.refuse(key, format!("{other} is {}, not a list", other.kind()), "write [\"one\", \"two\"]");
                None
            }
        }
    }

    /// A text as it stands, blanks and all, shown to nobody.
    pub(super) fn secret_text(&mut self, key: &str) -> Option<SecretString> {
        match self.take_shown(key, |_| "[redacted]".to_owned())?.value {
            Value::Text(text) => Some(SecretString::from(text)),
            other => {
                self.refuse(key, format!("this must be text, not {}", other.kind()), "put the value in quotes");
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let found = self.take(key)?;
        let text = match found.value {
            Value::Text(text) => text,
            other => {
                self.refuse(key, format!("{other} is {}, not text", other.kind()), "put the value in quotes");
                return None;
            }
        };
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    }

    /// A secret is shown to nobody, not even as part of the message that refuses it.
    pub(super) fn secret(&mut self, key: &str) -> Option<SecretString> {
        let found = self.take_shown(key, |_| "[redacted]".to_owned())?;
        match found.value {
            Value::Text(text) if text.trim().is_empty() => None,
            Value::Text(text) => Some(SecretString::from(text.trim().to_owned())),
            other => {
                self.refuse(key, format!("a secret must be text, this is {}", other.kind()), "put the value in quotes");
                None
            }
        }
    }

    /// One or two secrets parted by a comma, as they are while one is being rotated.
    pub(super) fn secrets(&mut self, key: &str) -> Vec<SecretString> {
        let Some(both) = self.secret(key) else { return Vec::new() };
        let parts: Vec<_> = both.expose_secret().split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.len() > 2 {
            let message = format!("{} values, the most is two", parts.len());
            self.refuse(key, message, "keep the new value and, while rotating, the one before it");
        }
        parts.into_iter().map(|part| SecretString::from(part.to_owned())).collect()
    }

    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        let Some(found) = self.take(key) else { return Vec::new() };
        match found.value {
            Value::List(items) => items,
            Value::Text(text) => text.split(',').map(|item| item.trim().to_owned()).filter(|i| !i.is_empty()).collect(),
            other => {
                self.refuse(key, format!("{other} is {}, not a list", other.kind()), "write [\"one\", \"two\"]");
                Vec::new()
            }
        }
    }

    /// An integer in a range. A refused one is answered with the low end, so that reading can go on to the next mistake.
    pub(super) fn integer<T>(&mut self, key: &str, range: RangeInclusive<T>) -> T
    where
        T: Copy + Into<i64> + TryFrom<i64>,
    {
        let (low, high): (i64, i64) = ((*range.start()).into(), (*range.end()).into());
        let number = match self.take(key).map(|found| found.value) {
            None => None,
            Some(Value::Integer(number)) => Some(number),
            Some(Value::Text(text)) => self.parsed(key, &text, "a whole number"),
            Some(other) => {
                self.refuse(key, format!("{other} is {}, not a whole number", other.kind()), "write digits only");
                return *range.start();
            }
        };
        let Some(number) = number else { return *range.start() };
        match T::try_from(number) {
            Ok(typed) if (low..=high).contains(&number) => typed,
            _ => {
                self.refuse(key, format!("{number} is out of range"), format!("choose {low} to {high}"));
                *range.start()
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &str) -> bool {
        match self.take(key).map(|found| found.value) {
            Some(Value::Boolean(flag)) => flag,
            Some(Value::Text(text)) => match text.trim().to_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => true,
                "false" | "0" | "no" | "off" => false,
                _ => {
                    self.refuse(key, format!("{text:?} is neither true nor false"), "write true or false");
                    false
                }
            },
            Some(other) => {
                self.refuse(key, format!("{other} is {}, not true or false", other.kind()), "write true or false");
                false
            }
            None => false,
        }
    }

    /// A text of some form; `expected` names the form with an example.
    pub(super) fn parse<T: FromStr>(&mut self, key: &str, expected: &str) -> Option<T> {
        let text = self.text(key)?;
        self.parsed(key, &text, expected)
    }

    fn parsed<T: FromStr>(&mut self, key: &str, text: &str, expected: &str) -> Option<T> {
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.refuse(key, format!("{text:?} is not {expected}"), format!("write {expected}"));
        }
        parsed
    }

    fn take(&mut self, key: &str) -> Option<Sourced> {
        self.take_shown(key, ToString::to_string)
    }

    /// Like `text`, with a way of showing the value that keeps back what is secret in it.
    pub(super) fn text_shown(&mut self, key: &str, show: impl Fn(&str) -> String) -> Option<String> {
        let found = self.take_shown(key, |value| match value {
            Value::Text(text) => format!("{:?}", show(text)),
            other => other.to_string(),
        })?;
        match found.value {
            Value::Text(text) => (!text.trim().is_empty()).then(|| text.trim().to_owned()),
            _ => {
                self.refuse(key, "this must be text", "put the value in quotes");
                None
            }
        }
    }

    fn take_shown(&mut self, key: &str, show: impl Fn(&Value) -> String) -> Option<Sourced> {
        self.known.insert(key.to_owned());
        let found = match sources::outside(key, self.environment) {
            Ok(Some(found)) => Some(found),
            Ok(None) => self.toml.get(key).cloned(),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        };
        self.settings.push(Setting {
            key: key.to_owned(),
            shown: found.as_ref().map(|found| show(&found.value)),
            origin: found.as_ref().map_or(Origin::Unset, |found| found.origin.clone()),
        });
        found
    }

    /// After all keys were read: whatever is left was never asked for by anybody.
    pub(super) fn refuse_unknown(&mut self) {
        let unknown: Vec<_> = self.toml.iter().filter(|(key, _)| !self.known.contains(*key)).collect();
        let mut problems: Vec<Problem> = unknown
            .into_iter()
            .map(|(key, found)| Problem::new(key, found.origin.clone(), "there is no such key", self.nearest_key(key)))
            .collect();
        let names: BTreeSet<String> = self.known.iter().flat_map(|key| sources::names_of(key)).collect();
        // What the build and the test command read is not the daemon's to judge.
        let ours = |name: &&str| name.starts_with("BELLWETHER_") && !name.starts_with("BELLWETHER_TEST_");
        // A component may call the program that started it.
        let not_settings = |name: &&str| *name == "BELLWETHER_REVISION" || COMPONENT_MARKS.contains(name);
        for name in self.environment.names().filter(ours).filter(|name| !not_settings(name)) {
            let plain = name.strip_suffix("_FILE").unwrap_or(name);
            if !names.contains(name) && !names.contains(plain) {
                let fix = match name.starts_with("BELLWETHER_COMPONENT_") {
                    true => "components are said in the file of --config only".to_owned(),
                    false => nearest(name, "", names.iter().map(String::as_str)),
                };
                problems.push(Problem::new(name, Origin::Environment(name.to_owned()), "there is no such key", fix));
            }
        }
        self.problems.extend(problems);
    }

    fn nearest_key(&self, key: &str) -> String {
        let Some(entry) = sources::entry_of(key) else {
            return nearest(key, "", self.known.iter().map(String::as_str));
        };
        if entry == key {
            return nearest(key, "", std::iter::once("component.1"));
        }
        // What all keys of an entry begin with would make each of them look like any other.
        let prefix = format!("{entry}.");
        let siblings = self.known.iter().filter_map(|known| known.strip_prefix(&prefix));
        nearest(key.strip_prefix(&prefix).unwrap_or(key), &prefix, siblings)
    }
}

fn nearest<'n>(name: &str, prefix: &str, candidates: impl Iterator<Item = &'n str>) -> String {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(
            || "remove it; `bellwether config default` lists every key".to_owned(),
            |(_, candidate)| format!("did you mean {prefix}{candidate}?"),
        )
}
