//! Positions: which stream a place in the log belongs to, the place, and what the followed tables were then.
//!
//! The identity is system id, timeline, database, slot and publication: where one of them differs the place means
//! nothing. The text of a position is the place, then, after a blank, the state of the followed tables
//! (`postgres/followed.rs`), so that what happened to them while nobody followed is noticed.

use std::fmt;

use instep_core::Position;

use super::followed::Followed;
use super::lsn::Lsn;

/// What a place in the log is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The cluster's own number, drawn by `initdb`.
    pub(super) system: u64,
    /// Changes when a standby is promoted and when a backup is restored.
    pub(super) timeline: u32,
    /// The database's oid.
    pub(super) database: u32,
    /// The publication's oid: another one after it was made anew.
    pub(super) publication: u32,
    /// The slot's name.
    pub(super) slot: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity {
            system,
            timeline,
            database,
            publication,
            slot,
        } = self;
        write!(f, "{system}/{timeline}/{database}/{publication}/{slot}")
    }
}

impl Identity {
    /// `None` for a text that none of ours has.
    pub(super) fn parse(text: &str) -> Option<Identity> {
        let mut parts = text.splitn(5, '/');
        Some(Identity {
            system: parts.next()?.parse().ok()?,
            timeline: parts.next()?.parse().ok()?,
            database: parts.next()?.parse().ok()?,
            publication: parts.next()?.parse().ok()?,
            slot: parts.next()?.to_owned(),
        })
    }
}

/// The position at a place, with the tables as they were.
pub(super) fn position(identity: &Identity, at: Lsn, followed: &Followed) -> Position {
    let state = followed.to_string();
    Position {
        identity: identity.to_string(),
        at: match state.is_empty() {
            true => at.to_string(),
            false => format!("{at} {state}"),
        },
    }
}

/// The place of a position. `None` when it is none of ours.
pub(super) fn place(position: &Position) -> Option<Lsn> {
    let (at, _) = parts(position);
    at.parse().ok()
}

/// The place's text, and the state of the followed tables.
pub(super) fn parts(position: &Position) -> (&str, &str) {
    position.at.split_once(' ').unwrap_or((&position.at, ""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identities_are_read_as_they_are_written() {
        let identity = Identity {
            system: u64::MAX,
            timeline: 3,
            database: 16_384,
            publication: 24_601,
            slot: "instep_shop".into(),
        };
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        for text in ["", "another", "1/2/3/4", "1/2/x/4/s"] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_place_stands_before_the_state() {
        for (at, place_of, state) in [
            ("16/B374D848", Some(Lsn(0x16_B374_D848)), ""),
            ("0/1 a.b;c.d", Some(Lsn(1)), "a.b;c.d"),
            ("nothing", None, ""),
        ] {
            let position = Position {
                identity: String::new(),
                at: at.into(),
            };
            assert_eq!((place(&position), parts(&position).1), (place_of, state));
        }
    }
}
