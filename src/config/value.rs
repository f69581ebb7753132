//! Raw configuration values and where each came from.

use std::fmt;

/// One value before it has a type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Text of a TOML string, or anything from the environment.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// TOML that no setting accepts, with its kind for the message.
    Other(&'static str),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::List(items) => write!(f, "{items:?}"),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// Where a value was said.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Nowhere: the key has no default and nobody set it.
    Unset,
    /// The compiled-in `config/default.toml`.
    Default,
    /// A line of the file given by `--config`.
    File {
        /// The path as it was given.
        path: String,
        /// 1-based.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A file that an environment variable `NAME_FILE` points to.
    SecretFile {
        /// The variable, `_FILE` included.
        variable: String,
        /// The file it names.
        path: String,
    },
    /// A systemd credential.
    Credential(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("not set"),
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::SecretFile { variable, path } => write!(f, "{variable}={path}"),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}

/// A value and where it was said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sourced {
    pub value: Value,
    pub origin: Origin,
}
