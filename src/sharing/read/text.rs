//! From text to values: documents of YAML, JSON, and where each begins. Hostile text costs bounded time and memory.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Value};

use super::TEMPLATE;

/// Most values in one document, those that aliases repeat counted each time. The API server takes no object that is
/// near it; a list of all pods of a large cluster is.
const NODES: usize = 4_000_000;

/// How many values a text may have: each takes a byte at least, and aliases may repeat a few.
fn budget(text: &str) -> usize {
    NODES.min(100_000_usize.saturating_add(text.len().saturating_mul(4)))
}

/// Brackets deeper than this are no manifest, and cost the parser the square of their number.
const BRACKETS: usize = 512;

const TWICE: &str = "a key stands twice in one mapping";
const NO_TEXT: &str = "a key is no text";
const TOO_MANY: &str = "it has too many values";
const TOO_DEEP: &str = "it is nested too deeply";

/// A value of a text, or why there is none, with its line.
pub(super) type Read = (usize, Result<Value, &'static str>);

/// Takes every value of a text, in order: of a stream of YAML one at a time, because it may be long. Behind what
/// cannot be read the rest is read.
pub(super) fn values(text: &str, take: impl FnMut(Read)) {
    let json = if text.trim_start().starts_with(['{', '[']) { json(text) } else { None };
    match json {
        Some(all) => all.into_iter().for_each(take),
        None => documents(&with_line_feeds(text)).into_iter().map(yaml).for_each(take),
    }
}

/// JSON values, one after the other. `None`: this is no JSON.
fn json(text: &str) -> Option<Vec<Read>> {
    let mut all = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.trim_start().is_empty() {
        let blank = rest.len() - rest.trim_start().len();
        line += count_lines(rest.as_bytes().get(..blank).unwrap_or_default());
        rest = rest.trim_start();
        // A sequence of documents is parsed one at a time, so that each has the whole budget.
        let budget = Cell::new(budget(rest));
        let mut stream = serde_json::Deserializer::from_str(rest);
        match (Node { budget: &budget }).deserialize(&mut stream) {
            Ok(value) => {
                let mut used = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
                _ = used.next();
                let offset = used.byte_offset();
                all.push((line, Ok(value)));
                let Some((read, next)) = rest.split_at_checked(offset).filter(|_| offset > 0) else { break };
                line += count_lines(read.as_bytes());
                rest = next;
            }
            Err(error) => {
                let said = error.to_string();
                let why = [TWICE, TOO_MANY].into_iter().find(|why| said.contains(why))?;
                all.push((line + error.line().saturating_sub(1), Err(why)));
                break;
            }
        }
    }
    Some(all)
}

/// One document of a YAML stream, which begins at this line.
fn yaml((line, document): (usize, &str)) -> Read {
    if let Some(at) = too_deep(document) {
        return (line + at, Err(TOO_DEEP));
    }
    match parse_yaml(document) {
        Ok(value) => (line + lead(document), Ok(value)),
        Err((at, _)) if document.contains("{{") => (line + at, Err(TEMPLATE)),
        Err((at, why)) => (line + at, Err(why)),
    }
}

pub(super) fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

/// The line of a document, from 0, on which brackets are nested too deeply. Those in texts count as well: of a script that
/// opens so many and closes none its document is lost, and said to be.
fn too_deep(document: &str) -> Option<usize> {
    let mut depth = 0_usize;
    document.split('\n').position(|line| {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        depth > BRACKETS
    })
}

/// The text with each of its line breaks as a line feed, as many as before: YAML 1.1 has others.
fn with_line_feeds(text: &str) -> Cow<'_, str> {
    const BREAKS: [char; 4] = ['\r', '\u{85}', '\u{2028}', '\u{2029}'];
    // That of a carriage return with a line feed is the latter.
    let alone = |(at, c): (usize, char)| BREAKS.contains(&c) && !text.get(at..).is_some_and(|t| t.starts_with("\r\n"));
    if !text.contains(BREAKS) || !text.char_indices().any(alone) {
        return Cow::Borrowed(text);
    }
    text.char_indices().map(|(at, c)| if alone((at, c)) { '\n' } else { c }).collect()
}

/// The documents of a YAML stream, each with the number of its first line. A marker at the begin of a line ends a
/// document wherever it stands, so that one that is malformed does not take the next with it.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut at, mut content) = (0, 1, 0, false);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        let marker =
            |mark| bare.strip_prefix(mark).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']));
        let begins = marker("---");
        if begins || marker("...") || (!content && bare.starts_with('%')) {
            if content {
                documents.push((first, text.get(start..at).unwrap_or_default()));
            }
            let skipped = if begins { 0 } else { line.len() };
            (start, first, content) = (at + skipped, number + 1 + usize::from(!begins), false);
            let rest = bare.strip_prefix("---").filter(|_| begins).unwrap_or_default().trim_start();
            content |= !rest.is_empty() && !rest.starts_with('#');
        } else {
            content |= !bare.trim_start().is_empty() && !bare.trim_start().starts_with('#');
        }
        at += line.len();
    }
    if content {
        documents.push((first, text.get(start..).unwrap_or_default()));
    }
    documents
}

/// How many lines of a document come before its first field.
fn lead(document: &str) -> usize {
    let empty = |line: &&str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line.starts_with("--- #")
    };
    document.lines().take_while(empty).count()
}

/// One document, or how many lines in and why not.
fn parse_yaml(document: &str) -> Result<Value, (usize, &'static str)> {
    let budget = Cell::new(budget(document));
    (Node { budget: &budget }).deserialize(serde_yaml::Deserializer::from_str(document)).map_err(|error| {
        let said = error.to_string();
        let known = [TWICE, NO_TEXT, TOO_MANY].into_iter().find(|why| said.contains(why));
        let why = known.unwrap_or(match () {
            () if said.contains("recursion limit") => TOO_DEEP,
            () if said.contains("repetition limit") => "its aliases repeat too much",
            () => "it is no well-formed YAML or JSON",
        });
        // The parser points behind the end where something is left open.
        let last = document.lines().count().saturating_sub(1);
        (error.location().map_or(0, |l| l.line().saturating_sub(1)).min(last), why)
    })
}

/// Reads any value within a budget.
struct Node<'a> {
    budget: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let Some(left) = self.budget.get().checked_sub(1) else { return Err(D::Error::custom(TOO_MANY)) };
        self.budget.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    // No manifest needs a number as large: that it is one is enough.
    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(i64::MAX.into())
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(u64::MAX.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        // Long texts are spent from the same budget: aliases may repeat them.
        let Some(left) = self.budget.get().checked_sub(value.len() / 32) else { return Err(E::custom(TOO_MANY)) };
        self.budget.set(left);
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = entries.next_element_seed(Node { budget: self.budget })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = entries.next_key_seed(Node { budget: self.budget })? {
            let key = match key {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                _ => return Err(A::Error::custom(NO_TEXT)),
            };
            let value = entries.next_value_seed(Node { budget: self.budget })?;
            if key == "<<" {
                merged.push(value);
            } else if fields.insert(key, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        for value in merged {
            let maps = match value {
                Value::Array(maps) => maps,
                one => vec![one],
            };
            for (key, value) in maps.into_iter().flat_map(|m| if let Value::Object(m) = m { m } else { Map::new() }) {
                fields.entry(key).or_insert(value);
            }
        }
        Ok(Value::Object(fields))
    }

    // A tag of somebody's own: what it says is taken without it.
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (_, content) = data.variant_seed(Node { budget: self.budget })?;
        content.newtype_variant_seed(Node { budget: self.budget })
    }
}
