//! Places in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A place in the write-ahead log: a byte offset since the cluster was made. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lsn(pub(super) u64);

/// As Postgres spells it: two hexadecimal numbers of 32 bits, `16/B374D848`.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let part = |text| u32::from_str_radix(text, 16).map_err(|_| ());
        Ok(Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_spelled_as_postgres_does() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "0/16B3748"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert!(
            "16".parse::<Lsn>().is_err()
                && "x/1".parse::<Lsn>().is_err()
                && "1/123456789".parse::<Lsn>().is_err()
        );
        assert!("0/FFFFFFFF".parse::<Lsn>().unwrap() < "1/0".parse().unwrap());
    }
}
