//! How a row's key stands in the file: short, and equal exactly when the keys are.

use instep_core::{Key, Value};
use rusqlite::ToSql;
use rusqlite::types::ToSqlOutput;
use serde::{Deserialize, Serialize};

/// A row's key as it stands in the file: the integer of a key that is one; else its parts, each after a letter for its
/// kind, joined by `,`, with `\` before `,` and `\`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Stored {
    Int(i64),
    Text(String),
}

impl Stored {
    pub(super) fn of(key: &Key) -> Stored {
        if let [Value::Int(only)] = key.parts() {
            return Stored::Int(*only);
        }
        let mut text = String::new();
        for (at, part) in key.parts().iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            write(part, &mut text);
        }
        Stored::Text(text)
    }

    /// The key again; `None` for a text that no key has.
    pub(super) fn key(&self) -> Option<Key> {
        let text = match self {
            Stored::Int(only) => return Some(Key::new([Value::Int(*only)])),
            Stored::Text(text) => text,
        };
        let mut parts = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let part = parts.last_mut()?;
            match c {
                '\\' => part.push(chars.next()?),
                ',' => parts.push(String::new()),
                c => part.push(c),
            }
        }
        let values: Option<Vec<Value>> = parts.iter().map(|part| read(part)).collect();
        values.map(Key::new)
    }
}

/// A part without its escapes: the inverse of [`write`].
fn read(part: &str) -> Option<Value> {
    let mut chars = part.chars();
    let kind = chars.next()?;
    let rest = chars.as_str();
    Some(match kind {
        'n' => Value::Null,
        'b' => Value::Bool(rest == "1"),
        'i' => Value::Int(rest.parse().ok()?),
        'f' => Value::Double(f64::from_bits(u64::from_str_radix(rest, 16).ok()?)),
        'd' => Value::Decimal(rest.into()),
        't' => Value::text(rest),
        'u' => Value::text(&unpacked(rest)?),
        'x' => Value::Bytes(bytes(rest)?.into()),
        'j' => Value::Json(rest.into()),
        _ => return None,
    })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Stored::Int(only) => only.to_sql(),
            Stored::Text(text) => text.to_sql(),
        }
    }
}

fn write(part: &Value, text: &mut String) {
    match part {
        Value::Null => text.push('n'),
        Value::Bool(b) => text.push_str(if *b { "b1" } else { "b0" }),
        Value::Int(i) => text.push_str(&format!("i{i}")),
        // All bits: the shortest decimal does not tell one NaN from another.
        Value::Double(d) => text.push_str(&format!("f{:x}", d.to_bits())),
        Value::Decimal(d) => escaped('d', d, text),
        Value::Text(t) => match uuid(t) {
            Some(number) => packed(number, text),
            None => escaped('t', t, text),
        },
        Value::Bytes(_) => text.push_str(&format!("x{part}")),
        Value::Json(j) => escaped('j', j, text),
    }
}

fn escaped(kind: char, from: &str, text: &mut String) {
    text.push(kind);
    for c in from.chars() {
        if matches!(c, ',' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
}

/// The number of a UUID in its usual spelling, and only in that: another spelling is another text.
fn uuid(text: &str) -> Option<u128> {
    let usual = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !usual {
        return None;
    }
    u128::from_str_radix(&text.replace('-', ""), 16).ok()
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 128 bits in 22 characters after a `u`, six bits in each.
fn packed(number: u128, text: &mut String) {
    text.push('u');
    for at in (0..22).rev() {
        text.push(char::from(DIGITS[(number >> (at * 6) & 63) as usize]));
    }
}

/// The UUID whose number is in these 22 characters, in its usual spelling.
fn unpacked(text: &str) -> Option<String> {
    if text.len() != 22 {
        return None;
    }
    let mut number: u128 = 0;
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        number = number << 6 | digit as u128;
    }
    let hex = format!("{number:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(parts: &[Value]) -> String {
        match Stored::of(&Key::new(parts.to_vec())) {
            Stored::Int(only) => only.to_string(),
            Stored::Text(text) => text,
        }
    }

    #[test]
    fn keys_are_short() {
        let text = |text: &str| Value::text(text);
        let id = "123e4567-e89b-12d3-a456-426614174000";
        let cases: [(&[Value], &str); 9] = [
            (&[Value::Int(-7)], "-7"),
            (&[Value::Int(7), Value::Int(8)], "i7,i8"),
            (&[text("7")], "t7"),
            (&[text("a,b\\")], "ta\\,b\\\\"),
            (&[text("a"), text("b")], "ta,tb"),
            (&[text(id)], "uASPkVn6JsS06RWQmYUF0AA"),
            (
                &[text(&id.to_uppercase())],
                "t123E4567-E89B-12D3-A456-426614174000",
            ),
            (&[Value::Decimal("1.50".into()), Value::Bool(true)], "d1.50,b1"),
            (
                &[Value::Bytes([0, 255].as_slice().into()), Value::Null],
                "x00ff,n",
            ),
        ];
        for (parts, expected) in cases {
            assert_eq!(stored(parts), expected);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = || "[-,tbu0-1\\\\]{0,3}";
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-2..2i64).prop_map(Value::Int),
            prop::sample::select(vec![0.0, -0.0, 1.0, f64::NAN, -f64::NAN]).prop_map(Value::Double),
            text().prop_map(|text| Value::Decimal(text.into())),
            text().prop_map(|text| Value::text(&text)),
            text().prop_map(|text| Value::Json(text.into())),
            prop::collection::vec(0..2u8, 0..3).prop_map(|bytes| Value::Bytes(bytes.into())),
            "[01]{2}234567-0000-0000-0000-00000000000[0aA]".prop_map(|text| Value::text(&text)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn equal_exactly_when_the_keys_are(
            a in prop::collection::vec(value(), 1..3),
            b in prop::collection::vec(value(), 1..3),
        ) {
            let (a, b) = (Key::new(a), Key::new(b));
            prop_assert_eq!(Stored::of(&a) == Stored::of(&b), a == b, "{:?} {:?}", a, b);
        }

        #[test]
        fn the_key_comes_back(key in prop::collection::vec(value(), 1..4)) {
            let key = Key::new(key);
            let back = Stored::of(&key).key().expect("every key that is written can be read");
            prop_assert_eq!(Stored::of(&back), Stored::of(&key), "{:?} {:?}", back, key);
        }

        #[test]
        fn comes_back_from_json(key in prop::collection::vec(value(), 1..3)) {
            let stored = Stored::of(&Key::new(key));
            let json = serde_json::to_string(&stored).expect("integers and text are JSON");
            prop_assert_eq!(serde_json::from_str::<Stored>(&json).expect("what was written"), stored);
        }
    }
}
