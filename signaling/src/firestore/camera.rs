//! A camera's document: beside the fields of every request it says what `POST /v1/cameras` says, in
//! fields of the same names.

use serde_json::{Map, Value as Json};

use super::refusal::BadRequest;
use super::request::{Kind, field};
use super::value::{Fields, Value};
use crate::camera::{CameraRequest, without_secrets};

/// Fields that describe the camera itself, with their names in [`CameraRequest`].
const DESCRIBES: [&str; 5] = [
    field::URL,
    field::LAYERS,
    field::TRANSPORT,
    field::MODE,
    field::VERIFY,
];

/// Whether it is the document of a camera.
#[must_use]
pub fn is_camera(fields: &Fields) -> bool {
    fields.get(field::KIND).and_then(Value::as_text) == Some(Kind::Camera.as_str())
}

/// What makes a camera another one, as text that is kept from everybody: there may be passwords in it.
#[must_use]
pub fn camera_mark(fields: &Fields) -> String {
    Json::Object(described(fields)).to_string()
}

/// Reads the camera that a document describes.
///
/// # Errors
/// A sentence that says which field is wrong, without any address.
pub fn read_camera(fields: &Fields) -> Result<CameraRequest, BadRequest> {
    let mut all = described(fields);
    for (ours, theirs) in [("room", field::PARENT), ("name", field::REQUESTOR)] {
        let text = fields.get(theirs).and_then(Value::as_text);
        all.insert(ours.to_owned(), text.unwrap_or_default().trim().into());
    }
    serde_json::from_value(Json::Object(all))
        .map_err(|error| BadRequest::Camera(without_secrets(&error.to_string())))
}

fn described(fields: &Fields) -> Map<String, Json> {
    let known = DESCRIBES.iter().filter_map(|name| {
        let value = fields.get(*name)?;
        (*value != Value::Null).then(|| ((*name).to_owned(), json(value)))
    });
    known.collect()
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(yes) => (*yes).into(),
        Value::Integer(number) | Value::Time(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Map(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), json(value)))
            .collect(),
        Value::List(values) => values.iter().map(json).collect(),
        // Of no type that any field wants.
        Value::Other(_) => Json::Object(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{CameraMode, CameraTransport};

    fn fields(described: &[(&str, Value)]) -> Fields {
        let base = [
            (field::KIND, Value::from("camera")),
            (field::PARENT, Value::from(" gate ")),
            (field::REQUESTOR, Value::from("Gate")),
            (field::OFFER, Value::from("")),
        ];
        base.into_iter()
            .chain(described.iter().cloned())
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn layer(url: &str, rid: &str) -> Value {
        let parts = [("url", url), ("rid", rid)];
        Value::Map(
            parts
                .map(|(name, text)| (name.to_owned(), text.into()))
                .into(),
        )
    }

    #[test]
    fn an_address_is_enough_and_layers_keep_their_order() {
        let one = read_camera(&fields(&[("url", "rtsp://ann:s3cret@192.0.2.7/1".into())])).unwrap();
        assert_eq!((one.room.as_str(), one.name.as_str()), ("gate", "Gate"));
        assert_eq!(one.url.unwrap().secret(), "rtsp://ann:s3cret@192.0.2.7/1");
        let layers = vec![layer("rtsp://h/2", "m"), layer("rtsp://h/1", "h")];
        let two = read_camera(&fields(&[
            ("layers", Value::List(layers)),
            ("transport", "udp".into()),
            ("mode", "always".into()),
            ("verify", false.into()),
        ]))
        .unwrap();
        let rids: Vec<&str> = two.layers.iter().map(|layer| layer.rid.as_str()).collect();
        assert_eq!(rids, ["m", "h"]);
        assert_eq!(
            (two.transport, two.mode),
            (CameraTransport::Udp, CameraMode::Always)
        );
        assert!(!two.verify);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_address() {
        for described in [
            ("url", Value::Integer(7)),
            ("url", Value::List(vec!["rtsp://ann:s3cret@h/".into()])),
            ("layers", "rtsp://ann:s3cret@h/".into()),
            ("layers", Value::List(vec![Value::Other("a place")])),
            ("mode", "sometimes".into()),
        ] {
            let sentence = read_camera(&fields(&[described])).unwrap_err().to_string();
            assert!(!sentence.contains("s3cret"), "{sentence}");
            assert!(sentence.starts_with("this is no camera: "), "{sentence}");
        }
    }

    #[test]
    fn another_address_or_another_password_is_another_camera() {
        let mark = |url: &str| camera_mark(&fields(&[("url", url.into())]));
        assert_eq!(mark("rtsp://a:1@h/"), mark("rtsp://a:1@h/"));
        assert_ne!(mark("rtsp://a:1@h/"), mark("rtsp://a:2@h/"));
    }
}
