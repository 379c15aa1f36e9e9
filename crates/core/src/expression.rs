//! SQL expressions over the columns of one row: conditions and computed fields.
//!
//! An expression stands wherever a column's name stands ([`Expression::column`]): a source returns its value as it
//! returns a column's. What is refused here is refused for every database: what reads other rows, what ends the
//! expression early, what depends on the time or on who asks. Whether the rest means something, and whether its
//! functions are deterministic, is the source's to say ([`crate::RowReader::describe`]).

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// An SQL expression over one row, without subqueries, comments and parameters; its parentheses match.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expression(Arc<str>);

/// Begins the name of a column that is an expression: no database allows it in a name.
const MARK: char = '\0';

/// Words that read other rows.
const READING: [&str; 4] = ["select", "table", "with", "over"];

/// Words whose value is not the row's.
const CHANGING: [&str; 12] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "system_user",
    "current_role",
    "current_catalog",
    "current_schema",
    "user",
];

/// Texts that databases read as a moment of today, or by the machine's clock.
const MOMENTS: [&str; 6] = ["now", "today", "tomorrow", "yesterday", "localtime", "utc"];

impl Expression {
    /// The expression of this text, or what is wrong with it.
    pub fn parse(sql: &str) -> Result<Self> {
        let sql = sql.trim();
        check(&tokens(sql)?)?;
        Ok(Expression(sql.into()))
    }

    /// Whether this text holds, as an expression that is true or false and never NULL.
    pub fn condition(sql: &str) -> Result<Self> {
        let inner = Expression::parse(sql)?;
        Ok(Expression(format!("({inner}) is true").into()))
    }

    /// As SQL spells it.
    pub fn sql(&self) -> &str {
        &self.0
    }

    /// The name under which it stands among the columns of its table.
    pub fn column(&self) -> String {
        format!("{MARK}{}", self.0)
    }

    /// The expression that a column's name stands for; `None` for the name of a real column.
    pub fn of_column(name: &str) -> Option<&str> {
        name.strip_prefix(MARK)
    }

    /// What it calls with nothing, or with one text alone, in lower case.
    pub fn bare_calls(&self) -> Vec<String> {
        let tokens = tokens(&self.0).unwrap_or_default();
        let mut calls = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let name = match token {
                Token::Word(word) => word.to_lowercase(),
                Token::Quoted(name) => name.to_lowercase(),
                Token::Text(_) | Token::Sign(_) => continue,
            };
            if matches!(
                &tokens[at + 1..],
                [Token::Sign('('), Token::Sign(')'), ..]
                    | [Token::Sign('('), Token::Text(_), Token::Sign(')'), ..]
            ) {
                calls.push(name);
            }
        }
        calls
    }

    /// Whether it has brackets: an array's in some databases, quotes of a name in others.
    pub fn has_brackets(&self) -> bool {
        tokens(&self.0).unwrap_or_default().contains(&Token::Sign('['))
    }

    /// What it calls, in lower case, each once: names before a parenthesis, with nothing said of whether they are
    /// functions.
    pub fn calls(&self) -> Vec<String> {
        let tokens = tokens(&self.0).unwrap_or_default();
        let mut calls: Vec<String> = tokens
            .windows(2)
            .filter_map(|pair| match pair {
                [Token::Word(word), Token::Sign('(')] => Some(word.to_lowercase()),
                [Token::Quoted(name), Token::Sign('(')] => Some(name.clone()),
                _ => None,
            })
            .collect();
        calls.sort();
        calls.dedup();
        calls
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A part of an expression. Numbers are words, too.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// A name in double quotes, without them.
    Quoted(String),
    /// A text, without its quotes.
    Text(String),
    Sign(char),
}

fn tokens(sql: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = sql.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        match c {
            c if c.is_whitespace() => {}
            '\'' | '"' => {
                let mut inside = String::new();
                loop {
                    match rest.next() {
                        Some(end) if end == c && rest.peek() == Some(&c) => {
                            inside.push(c);
                            rest.next();
                        }
                        Some(end) if end == c => break,
                        Some(other) => inside.push(other),
                        None => return Err(refused("a quote is not closed")),
                    }
                }
                let escapes = matches!(tokens.last(), Some(Token::Word(word)) if c == '\'' && word.eq_ignore_ascii_case("e"));
                if escapes && inside.contains('\\') {
                    return Err(refused("a text with backslashes (`E'…'`)"));
                }
                tokens.push(if c == '"' {
                    Token::Quoted(inside)
                } else {
                    Token::Text(inside)
                });
            }
            '&' if matches!(next, Some('\'' | '"'))
                && matches!(tokens.last(), Some(Token::Word(word)) if word.eq_ignore_ascii_case("u")) =>
            {
                return Err(refused("a name or text with escapes (`U&`)"));
            }
            '-' if next == Some('-') => return Err(refused("a comment (`--`)")),
            '/' if next == Some('*') => return Err(refused("a comment (`/*`)")),
            '$' | '?' | '`' | ';' | '@' | '\0' => return Err(refused(&format!("`{}`", c.escape_default()))),
            c if c == '_' || c.is_alphanumeric() => {
                let mut word = String::from(c);
                while let Some(c) = rest.next_if(|c| *c == '_' || c.is_alphanumeric()) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            sign => tokens.push(Token::Sign(sign)),
        }
    }
    Ok(tokens)
}

fn check(tokens: &[Token]) -> Result<()> {
    let mut open = Vec::new();
    let mut before = None;
    for token in tokens {
        match token {
            Token::Sign(sign @ ('(' | '[')) => open.push(*sign),
            Token::Sign(')') if open.pop() != Some('(') => return Err(refused("a `)` that closes nothing")),
            Token::Sign(']') if open.pop() != Some('[') => return Err(refused("a `]` that closes nothing")),
            // A comma outside parentheses would begin another column.
            Token::Sign(',') if open.is_empty() => return Err(refused("a `,` outside parentheses")),
            Token::Sign(_) | Token::Quoted(_) => {}
            Token::Text(text) => {
                let lower = text.trim().to_lowercase();
                let (first, rest) = lower.split_once(char::is_whitespace).unwrap_or((&lower, "1"));
                if MOMENTS.contains(&first) && rest.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(refused(&format!("`'{text}'`, which is another moment each time")));
                }
            }
            Token::Word(_) if before == Some(&Token::Sign('.')) => {}
            Token::Word(word) => {
                let lower = word.to_lowercase();
                if READING.contains(&lower.as_str()) {
                    return Err(refused(&format!("`{word}`, which reads other rows than its own")));
                }
                if CHANGING.contains(&lower.as_str()) {
                    let message = format!("`{word}`, whose value is not the row's");
                    return Err(
                        refused(&message).with_remedy("a column of this name is written in double quotes")
                    );
                }
            }
        }
        before = Some(token);
    }
    match (tokens.is_empty(), open.pop()) {
        (true, _) => Err(refused("nothing")),
        (false, Some(sign)) => Err(refused(&format!("a `{sign}` that is not closed"))),
        (false, None) => Ok(()),
    }
}

fn refused(what: &str) -> Error {
    Error::invalid(
        "bad_expression",
        format!("an expression over the columns of a row cannot hold {what}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn expressions_over_a_row_are_taken() {
        for (sql, calls) in [
            ("price * (1 + vat)", vec!["*"; 0]),
            ("published and deleted_at is null", vec![]),
            (
                "lower(trim(name)) || ' now, soon' || coalesce(\"user\", '')",
                vec!["coalesce", "lower", "trim"],
            ),
            ("name = 'it''s; -- no' and kind in ('a', 'b')", vec!["in"]),
            ("extract(year from created_at) > 2000", vec!["extract"]),
            ("p.user = 'buy it now'", vec![]),
            ("tags[1]", vec![]),
            ("\"Odd\"(x)", vec!["Odd"]),
        ] {
            assert_eq!(Expression::parse(sql).unwrap().calls(), calls, "{sql}");
        }
        let condition = Expression::condition(" a or b ").unwrap();
        assert_eq!(condition.sql(), "(a or b) is true");
        assert_eq!(
            Expression::of_column(&condition.column()),
            Some("(a or b) is true")
        );
        assert_eq!(Expression::of_column("price"), None);
        let bare = Expression::parse("date() > strftime('%s') or lower('a') = b or date(c) > d").unwrap();
        assert_eq!(bare.bare_calls(), ["date", "strftime", "lower"]);
    }

    #[test]
    fn whatever_leaves_the_row_is_refused_by_name() {
        for (sql, named) in [
            ("", "nothing"),
            ("  ", "nothing"),
            ("a, b", "`,`"),
            ("a) or (b", "`)`"),
            ("(a", "`(`"),
            ("a; drop table x", "`;`"),
            ("a -- b", "`--`"),
            ("a /* b */", "`/*`"),
            ("a = $1", "`$`"),
            ("a = ?", "`?`"),
            ("a = 'x", "quote"),
            ("a = E'\\' or b --'", "backslashes"),
            ("exists (select 1)", "`select`"),
            ("(SELECT 1)", "`SELECT`"),
            ("count(*) over ()", "`over`"),
            ("until > current_date", "`current_date`"),
            ("owner = User", "`User`"),
            ("until > 'now'", "`'now'`"),
            ("until > ' Today 12:00'", "another moment"),
            ("date(x, 'localtime')", "`'localtime'`"),
            ("a = `b`", "'`'"),
            ("U&\"n\\006fw\"()", "`U&`"),
        ] {
            let error = Expression::parse(sql).unwrap_err().to_string();
            let named = named.trim_matches('\'');
            assert!(error.contains(named), "{sql}: {error}");
        }
    }
}
