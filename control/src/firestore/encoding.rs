//! Documents as the database's protocol has them, and back. Nothing is lost that we have a type
//! for, and nothing that a page wrote is refused.

use std::collections::{BTreeMap, HashMap};

use firestore::gcloud_sdk::google::firestore::v1 as proto;
use firestore::gcloud_sdk::prost_types::Timestamp;
use proto::precondition::ConditionType;
use proto::value::ValueType;
use proto::write::Operation;
use signaling::firestore::{Fields, Value};

use super::message::{Change, Collection, Document, Path, Precondition, Stamp, Write};

/// Microseconds in a second.
const SECOND_US: i64 = 1_000_000;

/// Nanoseconds in a microsecond.
const US_NS: i32 = 1000;

/// How our collections are called in one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// `projects/P/databases/D/documents`.
    documents: String,
    /// The collection that pages write to.
    requests: String,
}

impl Names {
    pub(super) fn new(documents: &str, requests: &str) -> Names {
        Names {
            documents: documents.to_owned(),
            requests: requests.to_owned(),
        }
    }

    /// What every document's name begins with.
    pub(super) fn documents(&self) -> &str {
        &self.documents
    }

    /// A collection's id.
    pub(super) fn collection(&self, collection: Collection) -> String {
        let suffix = match collection {
            Collection::Requests => "",
            Collection::Rooms => "_rooms",
            Collection::Nodes => "_nodes",
        };
        format!("{}{suffix}", self.requests)
    }

    /// The full name of a document.
    pub(super) fn name(&self, path: &Path) -> String {
        let collection = self.collection(path.collection);
        format!("{}/{collection}/{}", self.documents, path.id)
    }

    /// Which of our documents this is; `None` for any other.
    pub(super) fn path(&self, name: &str) -> Option<Path> {
        let rest = name.strip_prefix(&self.documents)?.strip_prefix('/')?;
        let (collection, id) = rest.split_once('/')?;
        let known = [Collection::Requests, Collection::Rooms, Collection::Nodes];
        let collection = known
            .into_iter()
            .find(|known| self.collection(*known) == collection)?;
        let flat = !id.is_empty() && !id.contains('/');
        flat.then(|| Path {
            collection,
            id: id.to_owned(),
        })
    }
}

/// A document that the database sent; `None` when it is none of ours.
pub(super) fn read_document(names: &Names, document: proto::Document) -> Option<Document> {
    Some(Document {
        path: names.path(&document.name)?,
        fields: read_fields(document.fields),
        created: document.create_time.map(read_stamp).unwrap_or_default(),
        updated: document.update_time.map(read_stamp).unwrap_or_default(),
    })
}

/// A write as the database takes it.
pub(super) fn write(names: &Names, write: &Write) -> proto::Write {
    let name = names.name(&write.path);
    let (operation, mask) = match &write.change {
        Change::Delete => (Operation::Delete(name), None),
        Change::Set(fields) => {
            let field_paths = fields.keys().map(|key| field_path(key)).collect();
            let document = proto::Document {
                name,
                fields: write_fields(fields),
                ..proto::Document::default()
            };
            (
                Operation::Update(document),
                Some(proto::DocumentMask { field_paths }),
            )
        }
    };
    let condition = match write.precondition {
        Precondition::None => None,
        Precondition::Absent => Some(ConditionType::Exists(false)),
        Precondition::Updated(at) => Some(ConditionType::UpdateTime(write_stamp(at.0))),
    };
    proto::Write {
        update_mask: mask,
        current_document: condition.map(|condition| proto::Precondition {
            condition_type: Some(condition),
        }),
        operation: Some(operation),
        ..proto::Write::default()
    }
}

/// Bytes that a write takes on its way, about.
pub(super) fn size(write: &Write) -> usize {
    match &write.change {
        Change::Delete => write.path.id.len(),
        Change::Set(fields) => write.path.id.len() + fields_size(fields),
    }
}

fn fields_size(fields: &Fields) -> usize {
    let one = |(name, value): (&String, &Value)| {
        name.len()
            + match value {
                Value::Text(text) => text.len(),
                Value::Map(fields) => fields_size(fields),
                _ => 8,
            }
    };
    fields.iter().map(one).sum()
}

/// A moment by the database's clock.
pub(super) fn read_stamp(at: Timestamp) -> Stamp {
    let seconds_us = at.seconds.saturating_mul(SECOND_US);
    Stamp(seconds_us.saturating_add(i64::from(at.nanos / US_NS)))
}

/// Text as a value of the protocol.
pub(super) fn text(text: &str) -> proto::Value {
    write_value(&Value::from(text))
}

/// Yes or no as a value of the protocol.
pub(super) fn boolean(yes: bool) -> proto::Value {
    write_value(&Value::from(yes))
}

fn write_stamp(at_us: i64) -> Timestamp {
    Timestamp {
        seconds: at_us.div_euclid(SECOND_US),
        nanos: at_us.rem_euclid(SECOND_US) as i32 * US_NS,
    }
}

fn read_fields(fields: HashMap<String, proto::Value>) -> Fields {
    let read = |(name, value): (String, proto::Value)| (name, read_value(value));
    fields.into_iter().map(read).collect()
}

fn read_value(value: proto::Value) -> Value {
    match value.value_type {
        Some(ValueType::NullValue(_)) | None => Value::Null,
        Some(ValueType::BooleanValue(yes)) => Value::Bool(yes),
        Some(ValueType::IntegerValue(number)) => Value::Integer(number),
        Some(ValueType::DoubleValue(number)) => Value::Double(number),
        Some(ValueType::StringValue(text)) => Value::Text(text),
        Some(ValueType::TimestampValue(at)) => Value::Time(read_stamp(at).0),
        Some(ValueType::MapValue(map)) => Value::Map(read_fields(map.fields)),
        Some(ValueType::ArrayValue(list)) => {
            Value::List(list.values.into_iter().map(read_value).collect())
        }
        Some(ValueType::BytesValue(_)) => Value::Other("bytes"),
        Some(ValueType::GeoPointValue(_)) => Value::Other("a place"),
        Some(ValueType::ReferenceValue(_)) => Value::Other("a reference"),
        Some(_) => Value::Other("something that no document holds"),
    }
}

fn write_fields(fields: &BTreeMap<String, Value>) -> HashMap<String, proto::Value> {
    let write = |(name, value): (&String, &Value)| (name.clone(), write_value(value));
    fields.iter().map(write).collect()
}

fn write_value(value: &Value) -> proto::Value {
    let value = match value {
        // What we have no type for is never written.
        Value::Null | Value::Other(_) => ValueType::NullValue(0),
        Value::Bool(yes) => ValueType::BooleanValue(*yes),
        Value::Integer(number) => ValueType::IntegerValue(*number),
        Value::Double(number) => ValueType::DoubleValue(*number),
        Value::Text(text) => ValueType::StringValue(text.clone()),
        Value::Time(at_us) => ValueType::TimestampValue(write_stamp(*at_us)),
        Value::Map(fields) => ValueType::MapValue(proto::MapValue {
            fields: write_fields(fields),
        }),
        Value::List(values) => ValueType::ArrayValue(proto::ArrayValue {
            values: values.iter().map(write_value).collect(),
        }),
    };
    proto::Value {
        value_type: Some(value),
    }
}

/// A field's name in a mask: in backticks unless it is a plain identifier.
fn field_path(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.to_owned();
    }
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("projects/p/databases/(default)/documents", "box")
    }

    #[test]
    fn documents_are_found_by_their_names() {
        let names = names();
        for path in [Path::request("a"), Path::room("a"), Path::node("a b")] {
            assert_eq!(names.path(&names.name(&path)), Some(path));
        }
        let documents = names.documents();
        for other in ["other/a", "box", "box/", "box/a/below/b", "box_people/a"] {
            assert_eq!(names.path(&format!("{documents}/{other}")), None, "{other}");
        }
        assert_eq!(names.path("projects/q/databases/x/documents/box/a"), None);
    }

    #[test]
    fn what_we_have_a_type_for_comes_back_as_it_was() {
        let inner = Fields::from([("mid".to_owned(), Value::from("camera"))]);
        for value in [
            Value::Null,
            Value::Bool(true),
            Value::Integer(i64::MIN),
            Value::Double(1e300),
            Value::from("text"),
            Value::Time(1_700_000_000_123_456),
            Value::Time(-1),
            Value::Map(inner.clone()),
            Value::List(vec![Value::Map(inner), Value::Integer(1)]),
        ] {
            assert_eq!(read_value(write_value(&value)), value);
        }
    }

    #[test]
    fn a_type_that_no_field_of_ours_has_is_named() {
        let place = proto::Value {
            value_type: Some(ValueType::GeoPointValue(Default::default())),
        };
        assert_eq!(read_value(place).what(), "a place");
    }

    #[test]
    fn a_write_names_the_fields_it_sets_and_its_condition() {
        let fields = [("answer", "x"), ("a-b", "y")];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::from(text)));
        let write = write(
            &names(),
            &Write {
                path: Path::request("a"),
                change: Change::Set(Fields::from(fields)),
                precondition: Precondition::Updated(Stamp(1_000_001)),
            },
        );
        assert_eq!(write.update_mask.unwrap().field_paths, ["`a-b`", "answer"]);
        let at = Timestamp {
            seconds: 1,
            nanos: 1000,
        };
        let condition = write.current_document.unwrap().condition_type;
        assert_eq!(condition, Some(ConditionType::UpdateTime(at)));
    }
}
