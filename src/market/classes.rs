//! What a reader must know of a source before using its numbers: how late they are, and who may be shown them.

use serde::Serialize;

/// How far behind the market a source runs by contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DelayClass {
    /// As it is traded.
    RealTime,
    /// Fifteen minutes behind.
    #[serde(rename = "delayed_15")]
    Delayed15,
    /// Once a session, after its close.
    EndOfDay,
}

/// Who may be shown a source's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LicenceClass {
    /// Made up: anybody, as what it is.
    Simulated,
    /// A contract allows showing them to others.
    Display,
    /// The holder of the key, nobody else.
    OwnKey,
    /// Private, non-commercial use.
    Personal,
    /// No contract at all.
    None,
}

impl DelayClass {
    /// The name in answers, configuration and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::RealTime => "real_time",
            Self::Delayed15 => "delayed_15",
            Self::EndOfDay => "end_of_day",
        }
    }
}

impl LicenceClass {
    /// The name in answers, configuration and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Display => "display",
            Self::OwnKey => "own_key",
            Self::Personal => "personal",
            Self::None => "none",
        }
    }

    /// The class of a name that an operator may give to a source by contract.
    pub fn of_contract(name: &str) -> Option<Self> {
        [Self::Display, Self::OwnKey, Self::Personal].into_iter().find(|class| class.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_answers() {
        use LicenceClass::{Display, None, OwnKey, Personal, Simulated};
        for class in [DelayClass::RealTime, DelayClass::Delayed15, DelayClass::EndOfDay] {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
        for class in [Simulated, Display, OwnKey, Personal, None] {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
    }
}
