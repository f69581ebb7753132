//! Amounts of money: whole minor units of a currency. No float ever touches them.

use std::fmt;
use std::str::FromStr;

/// A currency by its three-letter code (ISO 4217).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The dollar of the United States.
    pub const USD: Self = Self(*b"USD");

    /// The code, e.g. `USD`.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many digits the minor unit takes: 2 for cents. What PayPal sends decides: it has no decimals for HUF and TWD.
    pub fn exponent(self) -> u32 {
        match &self.0 {
            b"JPY" | b"HUF" | b"TWD" | b"KRW" | b"CLP" | b"VND" | b"ISK" | b"PYG" | b"UGX" | b"XAF" | b"XOF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            _ => 2,
        }
    }
}

impl FromStr for Currency {
    type Err = String;

    fn from_str(code: &str) -> Result<Self, String> {
        match code.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|letter| letter.is_ascii_uppercase()) => Ok(Self([*a, *b, *c])),
            _ => Err(format!("{code:?} is not a currency code such as \"USD\"")),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Whole minor units: 2499 is $24.99.
    pub minor: i64,
    /// Of what.
    pub currency: Currency,
}

impl Money {
    /// Reads `24.99` as an amount of `currency`: digits, and a point with as many digits behind it as the currency has, or
    /// more that are zero. PayPal writes a minus before what it takes back.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, String> {
        let refused = || format!("{text:?} is not an amount of {currency}");
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').map_or((digits, ""), |(whole, fraction)| (whole, fraction));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let has_point = digits.contains('.');
        if whole.is_empty() || has_point && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
            return Err(refused());
        }
        let places = currency.exponent() as usize;
        let (kept, rest) = fraction.split_at(fraction.len().min(places));
        if rest.bytes().any(|digit| digit != b'0') {
            return Err(format!("{text:?} has a fraction that {currency} does not have"));
        }
        let minor: i64 = format!("{whole}{kept:0<places$}").parse().map_err(|_| refused())?;
        Ok(Self { minor: if negative { -minor } else { minor }, currency })
    }

    /// How often `price` fits in, where it does so without a rest.
    pub fn times(self, price: Self) -> Option<u32> {
        let fits = self.currency == price.currency && price.minor > 0 && self.minor > 0;
        (fits && self.minor % price.minor == 0).then(|| u32::try_from(self.minor / price.minor).ok()).flatten()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.currency.exponent() as usize;
        let sign = if self.minor < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.minor.unsigned_abs(), width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let point = if places == 0 { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction} {}", self.currency)
    }
}
