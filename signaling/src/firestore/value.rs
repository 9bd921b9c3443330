//! What a document's field holds, whatever client of the database brought it.

use std::collections::BTreeMap;

/// A document's fields by name.
pub type Fields = BTreeMap<String, Value>;

/// A field's value. Pages write what they like, so every type of the database has a place here.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number; JavaScript's whole numbers over 2^53 arrive as these too.
    Double(f64),
    /// Text.
    Text(String),
    /// A time, microseconds since the Unix epoch.
    Time(i64),
    /// Fields inside of the field.
    Map(Fields),
    /// Values one after the other.
    List(Vec<Value>),
    /// A type that no field of ours has, such as a place, and how it is called.
    Other(&'static str),
}

impl Value {
    /// What the value is, for a sentence that says what it should be: `a number`.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Double(_) => "a number",
            Value::Text(_) => "a string",
            Value::Time(_) => "a timestamp",
            Value::Map(_) => "a map",
            Value::List(_) => "a list",
            Value::Other(what) => what,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Yes or no, if it is one of the two.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(yes) => Some(*yes),
            _ => None,
        }
    }

    /// A whole number, also one that arrived as a double.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        /// 2^63: doubles below it in size fit.
        const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
        match self {
            Value::Integer(number) => Some(*number),
            Value::Double(number) if number.fract() == 0.0 && number.abs() < TOO_LARGE => {
                Some(*number as i64)
            }
            _ => None,
        }
    }

    /// A time, microseconds since the Unix epoch.
    #[must_use]
    pub fn as_time(&self) -> Option<i64> {
        match self {
            Value::Time(at_us) => Some(*at_us),
            _ => None,
        }
    }

    /// The fields inside, if it is a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&Fields> {
        match self {
            Value::Map(fields) => Some(fields),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Value {
        Value::Bool(yes)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Value {
        Value::Map(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_arrive() {
        assert_eq!(Value::Integer(7).as_integer(), Some(7));
        assert_eq!(Value::Double(7.0).as_integer(), Some(7));
        assert_eq!(Value::Double(1e300).as_integer(), None);
        assert_eq!(Value::Double(f64::NAN).as_integer(), None);
        assert_eq!(Value::Double(0.5).as_integer(), None);
        assert_eq!(Value::from("7").as_integer(), None);
    }
}
