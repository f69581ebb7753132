//! Letters: what is written in them (PURE), and the way to the server that takes them.

mod letter;
mod message;
mod smtp;

pub use letter::{Letter, STEPS, example, is_still_true};
pub use message::{Composed, Cover, Unsendable, compose, message_id};
pub use smtp::{Mailer, Session, Trouble, Undelivered};
