//! What the marketplace knows of a car, its model, its seller and its ad, as closed types with the words the database
//! stores for them.
//!
//! Drawing them is `draw`'s part, writing them `market`'s.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// An enum that the database stores as one of a few words; its variants stand in the order of `ALL`.
macro_rules! stored_words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(self.word()))
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let word = value.as_str()?;
                Self::ALL.iter().copied().find(|known| known.word() == word).ok_or(FromSqlError::InvalidType)
            }
        }
    };
}

stored_words! {
    /// The shape of a car.
    Body {
        Hatchback = "hatchback",
        Saloon = "saloon",
        Estate = "estate",
        Suv = "suv",
        Van = "van",
        Convertible = "convertible",
        Coupe = "coupé",
        Pickup = "pickup",
    }
}

stored_words! {
    Colour {
        Black = "black",
        White = "white",
        Silver = "silver",
        Grey = "grey",
        Blue = "blue",
        Red = "red",
        Green = "green",
        Yellow = "yellow",
        Orange = "orange",
        Brown = "brown",
        Beige = "beige",
        Turquoise = "turquoise",
    }
}

stored_words! {
    Fuel {
        Petrol = "petrol",
        Diesel = "diesel",
        Hybrid = "hybrid",
        PlugInHybrid = "plug-in hybrid",
        Electric = "electric",
        Biogas = "biogas",
    }
}

stored_words! {
    Gearbox { Manual = "manual", Automatic = "automatic" }
}

stored_words! {
    SellerKind { Private = "private", Dealer = "dealer" }
}

stored_words! {
    /// The language an ad is written in, by its code.
    Language { English = "en", Swedish = "sv", German = "de" }
}

/// Who may read an ad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    Everyone,
    /// Offered within the trade.
    Dealers,
    /// Held back: the marketplace's own people, and the seller.
    Staff,
}

impl Audience {
    /// The JSON array of the `readers` column, for an ad of the seller with this id.
    pub(crate) fn readers(self, seller: i64) -> String {
        match self {
            Self::Everyone => r#"["everyone"]"#.to_owned(),
            Self::Dealers => r#"["dealers","staff"]"#.to_owned(),
            Self::Staff => format!(r#"["staff","seller:{seller}"]"#),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) body: Body,
    pub(crate) seats: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Car {
    pub(crate) year: u32,
    pub(crate) km: u32,
    pub(crate) fuel: Fuel,
    pub(crate) gearbox: Gearbox,
    pub(crate) colour: Colour,
    pub(crate) power_kw: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Seller {
    pub(crate) name: String,
    pub(crate) city: String,
    /// An ISO 3166 code of two letters.
    pub(crate) country: String,
    pub(crate) kind: SellerKind,
}

/// All that an ad speaks of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) make: &'a str,
    pub(crate) model: &'a Model,
    pub(crate) car: &'a Car,
    pub(crate) seller: &'a Seller,
    pub(crate) audience: Audience,
}

impl Offer<'_> {
    /// The language of the seller's country.
    pub(crate) fn language(&self) -> Language {
        match self.seller.country.as_str() {
            "SE" | "FI" => Language::Swedish,
            "DE" | "AT" => Language::German,
            _ => Language::English,
        }
    }
}

/// An amount of money, written with two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cents(pub(crate) u64);

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl ToSql for Cents {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.to_string()))
    }
}

impl FromSql for Cents {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        let (whole, cents) = text.split_once('.').ok_or(FromSqlError::InvalidType)?;
        if cents.len() != 2 {
            return Err(FromSqlError::InvalidType);
        }
        let parse = |digits: &str| digits.parse::<u64>().map_err(|_| FromSqlError::InvalidType);
        Ok(Self(parse(whole)? * 100 + parse(cents)?))
    }
}
