//! Values inside values: arrays, composites, ranges, hstore and points, from Postgres' text to JSON.
//!
//! Values inside follow the rules of their types. Integers and decimals are JSON numbers as they were spelled; what JSON
//! has no number for (`NaN`, infinity) is text; bytes are hexadecimal text; NULL is `null`.

use instep_core::Value;

use super::{Type, spelling};

/// Why a text is not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misread {
    /// It is not spelled as its type's values are.
    Spelling,
    /// The type is not what it was when the catalog was read.
    Outdated,
}

type Appended = Result<(), Misread>;

/// JSON that is being written.
#[derive(Default)]
pub(super) struct Json(Vec<u8>);

impl Json {
    pub(super) fn into_text(self) -> String {
        String::from_utf8(self.0).expect("only whole texts are written to it")
    }

    fn push(&mut self, punctuation: u8) {
        self.0.push(punctuation);
    }

    fn text(&mut self, text: &str) {
        serde_json::to_writer(&mut self.0, text).expect("writing text to memory cannot fail");
    }

    fn name(&mut self, name: &str) {
        if !self.0.ends_with(b"{") {
            self.push(b',');
        }
        self.text(name);
        self.push(b':');
    }

    /// A value that is composed of no others.
    pub(super) fn scalar(&mut self, value: &Value) {
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Json(_) => {
                self.0.extend_from_slice(value.to_string().as_bytes());
            }
            Value::Double(double) if double.is_finite() => {
                self.0.extend_from_slice(value.to_string().as_bytes());
            }
            Value::Decimal(text) if text.ends_with(|c: char| c.is_ascii_digit()) => {
                self.0.extend_from_slice(text.as_bytes());
            }
            Value::Double(_) | Value::Decimal(_) | Value::Text(_) | Value::Bytes(_) => {
                self.text(&value.to_string());
            }
        }
    }
}

/// A text that is read from left to right.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    fn eat(&mut self, literal: &str) -> bool {
        match self.0.strip_prefix(literal) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, literal: &str) -> Appended {
        match self.eat(literal) {
            true => Ok(()),
            false => Err(Misread::Spelling),
        }
    }

    /// What stands before the first of these characters.
    fn until(&mut self, ends: &[char]) -> Result<&'a str, Misread> {
        let at = self.0.find(ends).ok_or(Misread::Spelling)?;
        let (before, rest) = self.0.split_at(at);
        self.0 = rest;
        Ok(before)
    }

    /// What stands between quotes, the first of which is eaten already. A backslash guards the next character; where
    /// `doubled`, so does a quote guard a quote.
    fn quoted(&mut self, doubled: bool) -> Result<String, Misread> {
        let mut inside = String::new();
        loop {
            inside.push_str(self.until(&['"', '\\'])?);
            if self.eat("\\") {
                let guarded = self.0.chars().next().ok_or(Misread::Spelling)?;
                self.0 = &self.0[guarded.len_utf8()..];
                inside.push(guarded);
            } else {
                self.expect("\"")?;
                if !(doubled && self.eat("\"")) {
                    return Ok(inside);
                }
                inside.push('"');
            }
        }
    }

    fn end(&self) -> Appended {
        match self.0 {
            "" => Ok(()),
            _ => Err(Misread::Spelling),
        }
    }
}

/// Dimensions of an array; Postgres has six.
const DEEPEST: usize = 6;

/// `{1,NULL,3}`, `[2:3]={{1},{2}}`: an array for each dimension. Bounds are not kept.
pub(super) fn array(text: &str, element: &Type, delimiter: char, json: &mut Json) -> Appended {
    let mut scan = Scan(text);
    if scan.0.starts_with('[') {
        scan.until(&['='])?;
        scan.expect("=")?;
    }
    scan.expect("{")?;
    dimension(&mut scan, element, delimiter, DEEPEST, json)?;
    scan.end()
}

fn dimension(
    scan: &mut Scan<'_>,
    element: &Type,
    delimiter: char,
    depth: usize,
    json: &mut Json,
) -> Appended {
    let depth = depth.checked_sub(1).ok_or(Misread::Spelling)?;
    json.push(b'[');
    if scan.eat("}") {
        json.push(b']');
        return Ok(());
    }
    loop {
        if scan.eat("{") {
            dimension(scan, element, delimiter, depth, json)?;
        } else if scan.eat("\"") {
            element.json(&scan.quoted(false)?, json)?;
        } else {
            match scan.until(&[delimiter, '}'])? {
                "" => return Err(Misread::Spelling),
                "NULL" => json.scalar(&Value::Null),
                text => element.json(text, json)?,
            }
        }
        if scan.eat("}") {
            json.push(b']');
            return Ok(());
        }
        scan.expect(delimiter.encode_utf8(&mut [0; 4]))?;
        json.push(b',');
    }
}

/// `1 2 3`: an array.
pub(super) fn vector(text: &str, element: &Type, json: &mut Json) -> Appended {
    json.push(b'[');
    for (at, item) in text.split_ascii_whitespace().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        element.json(item, json)?;
    }
    json.push(b']');
    Ok(())
}

/// `(1,"a b",)`: an object with each attribute.
pub(super) fn composite(text: &str, attributes: &[(String, Type)], json: &mut Json) -> Appended {
    let mut scan = Scan(text);
    scan.expect("(")?;
    json.push(b'{');
    let mut attributes = attributes.iter().peekable();
    let mut ended = attributes.peek().is_none() && scan.eat(")");
    while !ended {
        let part = part(&mut scan, &[',', ')'])?;
        let (name, kind) = attributes.next().ok_or(Misread::Outdated)?;
        json.name(name);
        match part {
            Some(text) => kind.json(&text, json)?,
            None => json.scalar(&Value::Null),
        }
        ended = scan.eat(")");
        if !ended {
            scan.expect(",")?;
        }
    }
    json.push(b'}');
    scan.end()?;
    match attributes.next() {
        Some(_) => Err(Misread::Outdated),
        None => Ok(()),
    }
}

/// A part of a composite or a range, up to one of `ends`; `None` when there is nothing.
fn part(scan: &mut Scan<'_>, ends: &[char]) -> Result<Option<String>, Misread> {
    if scan.eat("\"") {
        return scan.quoted(true).map(Some);
    }
    let text = scan.until(ends)?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// `[1,10)`: an object with `gte` or `gt`, and `lte` or `lt`; without them where it has no bound.
pub(super) fn range(text: &str, bound: &Type, json: &mut Json) -> Appended {
    let mut scan = Scan(text);
    one_range(&mut scan, bound, json)?;
    scan.end()
}

fn one_range(scan: &mut Scan<'_>, bound: &Type, json: &mut Json) -> Appended {
    json.push(b'{');
    if scan.eat("empty") {
        json.name("empty");
        json.scalar(&Value::Bool(true));
        json.push(b'}');
        return Ok(());
    }
    let lower = if scan.eat("[") {
        "gte"
    } else {
        scan.expect("(")?;
        "gt"
    };
    let least = part(scan, &[','])?;
    scan.expect(",")?;
    let most = part(scan, &[')', ']'])?;
    let upper = if scan.eat("]") {
        "lte"
    } else {
        scan.expect(")")?;
        "lt"
    };
    for (name, text) in [(lower, least), (upper, most)] {
        if let Some(text) = text {
            json.name(name);
            bound.json(&text, json)?;
        }
    }
    json.push(b'}');
    Ok(())
}

/// `{[1,3),[5,7)}`: an array of ranges.
pub(super) fn multirange(text: &str, bound: &Type, json: &mut Json) -> Appended {
    let mut scan = Scan(text);
    scan.expect("{")?;
    json.push(b'[');
    let mut ended = scan.eat("}");
    while !ended {
        one_range(&mut scan, bound, json)?;
        ended = scan.eat("}");
        if !ended {
            scan.expect(",")?;
            json.push(b',');
        }
    }
    json.push(b']');
    scan.end()
}

/// `"a"=>"1", "b"=>NULL`: an object of texts.
pub(super) fn hstore(text: &str, json: &mut Json) -> Appended {
    let mut scan = Scan(text);
    json.push(b'{');
    while !scan.0.is_empty() {
        scan.expect("\"")?;
        json.name(&scan.quoted(false)?);
        scan.expect("=>")?;
        if scan.eat("\"") {
            json.text(&scan.quoted(false)?);
        } else {
            scan.expect("NULL")?;
            json.scalar(&Value::Null);
        }
        if !scan.0.is_empty() {
            scan.expect(", ")?;
        }
    }
    json.push(b'}');
    Ok(())
}

/// `(1,2)`: an object with `x` and `y`.
pub(super) fn point(text: &str, json: &mut Json) -> Appended {
    let inside = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let (x, y) = inside
        .and_then(|inside| inside.split_once(','))
        .ok_or(Misread::Spelling)?;
    json.push(b'{');
    for (name, coordinate) in [("x", x), ("y", y)] {
        json.name(name);
        let coordinate = spelling::double(coordinate).ok_or(Misread::Spelling)?;
        json.scalar(&Value::Double(coordinate));
    }
    json.push(b'}');
    Ok(())
}
