//! Letters: what is written in them (PURE).

mod letter;

pub use letter::Letter;
