//! Writing: bulk requests of bounded size, and the outcome of each item.
//!
//! Lines are rendered around the documents' own text. Requests of one call follow one another, so that writes of one
//! document keep their order. A request that is too large, or that the cluster cannot read, is cut in halves until the
//! document that is to blame stands alone.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use instep_core::{Applied, Error, Fault, IndexName, Mapping, Result, Write};
use serde::Deserialize;

use super::Inner;
use super::client::Call;
use super::extra::Plan;
use super::fault::{self, Told};
use super::fields::{Known, OWN, write_alias};
use crate::write::{object, text};

/// One index of a call.
struct Target {
    alias: String,
    known: Arc<Known>,
    plan: Plan,
}

/// Writes on their way: their lines, and where each begins and ends in them.
#[derive(Default)]
struct Lines {
    text: String,
    items: Vec<Item>,
}

#[derive(Clone)]
struct Item {
    /// Its place in the call.
    place: usize,
    index: IndexName,
    is_delete: bool,
    span: Range<usize>,
}

/// The answer of a bulk request, as far as it was asked for.
#[derive(Deserialize)]
struct Answered {
    items: Vec<AnsweredItem>,
}

#[derive(Deserialize)]
struct AnsweredItem {
    index: Option<Outcome>,
    delete: Option<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Told>,
}

/// What became of a request.
enum Sent {
    /// Every item was judged.
    Judged,
    /// It is to be cut.
    TooMuch(u16),
}

impl Inner {
    /// See [`instep_core::Engine::apply`].
    pub(crate) async fn apply(&self, writes: Vec<(IndexName, Write)>) -> Result<Vec<Applied>> {
        let mut targets: HashMap<IndexName, Target> = HashMap::new();
        for (index, _) in &writes {
            if !targets.contains_key(index) {
                let known = self.known_of(index).await.map_err(|error| match error.fault() {
                    Fault::NotFound => fault::missing(index.as_str()),
                    _ => error,
                })?;
                let target = Target {
                    alias: write_alias(index.as_str()),
                    plan: Plan::of(&known.mapping),
                    known,
                };
                targets.insert(index.clone(), target);
            }
        }
        let mut outcomes: Vec<Option<Applied>> = writes.iter().map(|_| None).collect();
        let mut lines = Lines::default();
        for (place, (index, write)) in writes.into_iter().enumerate() {
            let target = &targets[&index];
            let start = lines.text.len();
            if let Err(error) = render(&write, target, &mut lines.text) {
                lines.text.truncate(start);
                outcomes[place] = Some(Applied::Failed(error));
                continue;
            }
            let full = lines.text.len() > self.bulk_bytes || lines.items.len() == self.bulk_documents;
            if full && !lines.items.is_empty() {
                let rest = lines.text.split_off(start);
                self.send_all(std::mem::take(&mut lines), &targets, &mut outcomes)
                    .await?;
                lines.text = rest;
            }
            let start = lines.items.last().map_or(0, |item| item.span.end);
            lines.items.push(Item {
                place,
                index,
                is_delete: matches!(write, Write::Delete(..)),
                span: start..lines.text.len(),
            });
        }
        if !lines.items.is_empty() {
            self.send_all(lines, &targets, &mut outcomes).await?;
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.ok_or_else(|| fault::unreadable("lacks the outcome of a write")))
            .collect()
    }

    async fn send_all(
        &self,
        lines: Lines,
        targets: &HashMap<IndexName, Target>,
        outcomes: &mut [Option<Applied>],
    ) -> Result<()> {
        let mut left = vec![lines];
        while let Some(lines) = left.pop() {
            match self.send(&lines, targets, outcomes).await? {
                Sent::Judged => {}
                Sent::TooMuch(status) if lines.items.len() == 1 => {
                    let error = match status {
                        413 => {
                            Error::poison("document_too_large", "the cluster takes no document of this size")
                                .with_remedy(
                                    "leave large columns out, or raise the cluster's http.max_content_length",
                                )
                        }
                        _ => Error::poison("document_refused", "the cluster cannot read the document"),
                    };
                    outcomes[lines.items[0].place] = Some(Applied::Failed(error));
                }
                Sent::TooMuch(_) => {
                    let (first, second) = lines.halves();
                    left.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        lines: &Lines,
        targets: &HashMap<IndexName, Target>,
        outcomes: &mut [Option<Applied>],
    ) -> Result<Sent> {
        let seconds = self.client.timeout().as_secs().max(1);
        let path =
            format!("_bulk?require_alias=true&timeout={seconds}s&filter_path=items.*.status,items.*.error");
        let place = self.throttle.place().await;
        let answer = self
            .client
            .call(Call::lines(path, lines.text.clone().into_bytes()))
            .await?;
        match answer.status {
            200 => {}
            status @ (400 | 413) if is_of_a_part(status, &answer.body) => return Ok(Sent::TooMuch(status)),
            status => {
                if status == 429 {
                    self.throttle.refused();
                }
                return Err(self.failure_of_call(status, &answer.body, lines).await);
            }
        }
        let answered: Answered =
            serde_json::from_slice(&answer.body).map_err(|_| fault::unreadable("tells no outcomes"))?;
        if answered.items.len() != lines.items.len() {
            return Err(fault::unreadable("tells of another number of writes"));
        }
        let mut refused = 0;
        for (item, answered) in lines.items.iter().zip(answered.items) {
            let outcome = match item.is_delete {
                true => answered.delete,
                false => answered.index,
            };
            let outcome = outcome.ok_or_else(|| fault::unreadable("tells of other writes"))?;
            let applied = self
                .judge(item, outcome, &targets[&item.index].known.mapping)
                .await?;
            if let Applied::Failed(error) = &applied {
                refused += usize::from(error.code() == "engine_busy");
            }
            outcomes[item.place] = Some(applied);
        }
        drop(place);
        match refused {
            0 => self.throttle.taken(),
            // A cluster that refuses all of it is everyone's matter: the caller waits before it sends anything.
            count if count == lines.items.len() => {
                self.throttle.refused();
                return Err(fault::busy());
            }
            _ => self.throttle.refused(),
        }
        Ok(Sent::Judged)
    }

    /// The outcome of one item; `Err` for what concerns all of them.
    async fn judge(&self, item: &Item, outcome: Outcome, mapping: &Mapping) -> Result<Applied> {
        let Outcome { status, error } = outcome;
        match (status, error) {
            (200..=299, None) => Ok(Applied::Done),
            // A delete of what is not there.
            (404, None) if item.is_delete => Ok(Applied::Done),
            (409, _) => Ok(Applied::Superseded),
            (_, None) => Err(fault::unreadable("tells a failure without a reason")),
            (status, Some(told)) => {
                if is_gone(&told) {
                    return Err(self.gone(&item.index).await);
                }
                match fault::of_everyone(status, &told) {
                    Some(error) if error.code() == "engine_busy" => Ok(Applied::Failed(error)),
                    Some(error) => Err(error.context(format!("writing to index `{}`", item.index))),
                    None if status >= 500 => Ok(Applied::Failed(Error::transient(
                        "engine_failed",
                        "the cluster failed to write the document",
                    ))),
                    None => Ok(Applied::Failed(poison(&told, mapping))),
                }
            }
        }
    }

    async fn failure_of_call(&self, status: u16, body: &[u8], lines: &Lines) -> Error {
        let told = Told::read(body);
        if is_gone(&told)
            && let Some(item) = lines.items.first()
        {
            return self.gone(&item.index).await;
        }
        fault::of_everyone(status, &told).unwrap_or_else(|| match status {
            500.. => Error::transient("engine_failed", "the cluster failed to take a bulk request"),
            // Not a document's matter: what refuses one request so refuses each, and none of them is lost over it.
            _ if !told.kind.is_empty() => Error::transient(
                "engine_refused",
                format!("the cluster refuses bulk requests ({})", code_of(&told.kind)),
            )
            .with_remedy(
                "its log says why; it may be of a version or kind that is not served; it goes on by itself",
            ),
            _ => fault::unreadable(&format!("to a bulk request has status {status}")),
        })
    }

    /// Why nothing can be written to an index any more.
    async fn gone(&self, index: &IndexName) -> Error {
        self.forget(index);
        self.client.doubt();
        match self.known_of(index).await {
            // It is there, and ours: only its alias is not.
            Ok(_) => match self.name(index).await {
                Ok(()) => Error::transient(
                    "alias_missing",
                    format!("the alias through which index `{index}` is written to was gone"),
                )
                .with_remedy("it is made again, and indexing goes on by itself"),
                Err(error) => error,
            },
            Err(error) if error.fault() == Fault::NotFound => fault::missing(index.as_str()),
            Err(error) => error,
        }
    }
}

/// Whether a failure says that there is no alias to write through: an index of its name can neither be found nor made.
fn is_gone(told: &Told) -> bool {
    told.is("index_not_found_exception") || told.is("invalid_index_name_exception")
}

/// Whether a request is refused for a part of it: for its size, or for a document that cannot be read.
fn is_of_a_part(status: u16, body: &[u8]) -> bool {
    const OF_A_PART: [&str; 7] = [
        "action_request_validation_exception",
        "document_parsing_exception",
        "json_parse_exception",
        "mapper_parsing_exception",
        "not_x_content_exception",
        "parsing_exception",
        "x_content_parse_exception",
    ];
    let told = Told::read(body);
    let of_a_part = OF_A_PART.iter().any(|kind| told.is(kind))
        || (told.is("illegal_argument_exception") && told.says("Malformed"));
    fault::of_everyone(status, &told).is_none() && (status == 413 || of_a_part)
}

impl Lines {
    /// The same in two parts; of at least two items.
    fn halves(self) -> (Lines, Lines) {
        let middle = self.items.len() / 2;
        let cut = self.items[middle].span.start;
        let (mut first, mut second) = (Lines::default(), Lines::default());
        first.text.push_str(&self.text[..cut]);
        second.text.push_str(&self.text[cut..]);
        for (at, mut item) in self.items.into_iter().enumerate() {
            if at < middle {
                first.items.push(item);
            } else {
                item.span = item.span.start - cut..item.span.end - cut;
                second.items.push(item);
            }
        }
        (first, second)
    }
}

/// Writes the lines of one write. Poison where its document cannot be one.
fn render(write: &Write, target: &Target, into: &mut String) -> Result<()> {
    let action = match write {
        Write::Put(..) => "index",
        Write::Delete(..) => "delete",
    };
    object(into, |o| {
        o.object(action, |o| {
            o.text("_index", &target.alias);
            o.text("_id", write.id().as_str());
            o.number("version", write.ticket().0);
            o.text("version_type", "external_gte");
        });
    });
    into.push('\n');
    let Write::Put(document, _) = write else {
        return Ok(());
    };
    let source = &*document.source;
    // A line ends where the first line break is, and ours goes in front of the first member.
    let framed = source.len() >= 2 && source.starts_with('{') && source.ends_with('}');
    if !framed || source.contains(['\n', '\r']) {
        return Err(Error::poison(
            "bad_source",
            "the document's source is not a JSON object on one line",
        ));
    }
    let extra = target.plan.look(source)?;
    into.push_str("{\"");
    into.push_str(OWN);
    into.push_str("\":");
    object(into, |o| {
        o.text("id", document.id.as_str());
        let readers = document.readers.tokens();
        o.array("readers", &readers, |out, reader| text(out, reader));
        for (path, (values, paths)) in &extra.flattened {
            o.array(&format!("values.{path}"), values, |out, value| text(out, value));
            o.array(&format!("paths.{path}"), paths, |out, value| text(out, value));
        }
    });
    if source != "{}" {
        into.push(',');
    }
    into.push_str(&source[1..]);
    into.push('\n');
    Ok(())
}

/// A document that its index refuses; named by field, never by value.
fn poison(told: &Told, mapping: &Mapping) -> Error {
    let field = told
        .all()
        .iter()
        .filter_map(|told| told.reason.as_deref())
        .find_map(|reason| field_of(reason, mapping));
    let immense = told
        .all()
        .iter()
        .filter_map(|told| told.reason.as_deref())
        .any(|reason| reason.contains("immense term"));
    if told.is("strict_dynamic_mapping_exception") {
        return Error::poison(
            "unknown_member",
            "the document has a member that no field of the collection names",
        )
        .with_remedy("verify with --repair; if that does not help, the index was changed by somebody else");
    }
    match field {
        Some(field) if immense => too_long(&field),
        Some(field) => {
            let kind = mapping.fields.get(&field).map_or("object", |kind| kind.name());
            mismatch(&field, kind)
        }
        None => Error::poison(
            "document_refused",
            format!("the cluster refuses the document ({})", code_of(&told.kind)),
        ),
    }
}

/// A kind of failure as far as it can be nothing else.
fn code_of(kind: &str) -> &str {
    match kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        true => kind,
        false => "unknown",
    }
}

pub(crate) fn mismatch(path: &str, kind: &str) -> Error {
    Error::poison(
        "type_mismatch",
        format!("field `{path}` is of type {kind} and the document holds something else"),
    )
    .with_remedy("change the field's type in the configuration, or the column's values")
}

pub(crate) fn too_long(path: &str) -> Error {
    Error::poison(
        "value_too_long",
        format!("an exact value in field `{path}` is longer than 32766 bytes"),
    )
    .with_remedy("make it a text field without its keyword, or shorten the column")
}

/// The field that a reason names, if it is one of the mapping's: nothing else of a reason is repeated.
fn field_of(reason: &str, mapping: &Mapping) -> Option<String> {
    let marks = [
        ("object mapping for [", ']'),
        ("field [", ']'),
        ("field=\"", '"'),
        ("mapper [", ']'),
    ];
    marks.iter().find_map(|(mark, end)| {
        let (_, rest) = reason.split_once(mark)?;
        let (name, _) = rest.split_once(*end)?;
        mapping.resolve(name).map(|_| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use instep_core::{DocId, Document, FieldType, Ticket};

    use super::*;

    fn target() -> Target {
        let fields = [("n", FieldType::Long), ("extra", FieldType::Flattened)];
        let mapping = Mapping {
            fields: fields
                .into_iter()
                .map(|(path, kind)| (path.to_owned(), kind))
                .collect(),
            language: "en".into(),
        };
        Target {
            alias: "w".to_owned(),
            plan: Plan::of(&mapping),
            known: Arc::new(Known {
                mapping,
                uuid: None,
                since: tokio::time::Instant::now(),
            }),
        }
    }

    fn put(source: &str) -> Write {
        let document = Document {
            id: DocId::parse("a\"b").unwrap(),
            language: "en".into(),
            readers: instep_core::Readers::only(vec!["ann".into()]),
            source: source.into(),
        };
        Write::Put(document, Ticket(7))
    }

    #[test]
    fn a_document_goes_out_as_it_is() {
        let cases = [
            (
                r#"{"n":1e0,"extra":{"a":1}}"#,
                r#"{"_instep":{"id":"a\"b","readers":["=ann"],"values.extra":["1"],"paths.extra":["a\u00001"]},"n":1e0,"extra":{"a":1}}"#,
            ),
            ("{}", r#"{"_instep":{"id":"a\"b","readers":["=ann"]}}"#),
        ];
        for (source, expected) in cases {
            let mut lines = String::new();
            render(&put(source), &target(), &mut lines).unwrap();
            let action = r#"{"index":{"_index":"w","_id":"a\"b","version":7,"version_type":"external_gte"}}"#;
            assert_eq!(lines, format!("{action}\n{expected}\n"));
        }
        for source in ["[]", "", "{\"n\":1\n}", "{"] {
            assert!(
                render(&put(source), &target(), &mut String::new()).is_err(),
                "{source}"
            );
        }
    }

    #[test]
    fn halves_hold_everything() {
        let item = |place: usize, span| Item {
            place,
            index: "i".into(),
            is_delete: false,
            span,
        };
        let lines = Lines {
            text: "aabbbc".to_owned(),
            items: vec![item(0, 0..2), item(4, 2..5), item(5, 5..6)],
        };
        let (first, second) = lines.halves();
        assert_eq!((first.text.as_str(), second.text.as_str()), ("aa", "bbbc"));
        let spans: Vec<_> = second
            .items
            .iter()
            .map(|item| &second.text[item.span.clone()])
            .collect();
        assert_eq!(spans, ["bbb", "c"]);
    }

    #[test]
    fn a_reason_is_not_repeated() {
        let told = Told {
            kind: "mapper_parsing_exception".to_owned(),
            reason: Some("failed to parse field [n] of type [long] in document with id 'x'. Preview of field's value: 's3cret'".to_owned()),
            ..Told::default()
        };
        let error = poison(&told, &target().known.mapping);
        assert!(error.to_string().contains("`n` is of type long"), "{error}");
        let told = Told {
            reason: Some("failed to parse field [s3cret] of type".to_owned()),
            ..told
        };
        assert!(
            !poison(&told, &target().known.mapping)
                .to_string()
                .contains("s3cret")
        );
    }
}
