//! The file of `--cameras`: TOML, with a table `[[camera]]` for each.

use std::path::Path;

use serde::Deserialize;
use signaling::camera::{CameraRequest, without_secrets};

use super::cameras::Placed;
use super::description;
use super::order::Trust;

/// Why a file of cameras cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCameraFile {
    /// It cannot be read.
    #[error("cannot read the cameras in {file}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// Something in it is wrong.
    #[error("{file}, line {line}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What would be right. No address is in it.
        reason: String,
    },
}

/// What stands in it. Not read as plain `CameraRequest`s, so that an error can name the line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    camera: Vec<toml::Spanned<CameraRequest>>,
}

/// Reads a file of cameras, which are wherever the operator says.
///
/// # Errors
/// Says which line is wrong, and what would be right.
pub fn read(path: &Path) -> Result<Vec<Placed>, BadCameraFile> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| BadCameraFile::Unreadable {
        file: file.clone(),
        reason: error.to_string(),
    })?;
    parse(&file, &text)
}

fn parse(file: &str, text: &str) -> Result<Vec<Placed>, BadCameraFile> {
    let malformed = |at: usize, reason: String| BadCameraFile::Malformed {
        file: file.to_owned(),
        line: line_of(text, at),
        reason,
    };
    let written: Written = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        malformed(at, without_secrets(error.message()))
    })?;
    let mut placed = Vec::with_capacity(written.camera.len());
    for camera in written.camera {
        let at = camera.span().start;
        let read = description::placed(camera.into_inner(), Trust::Operator);
        placed.push(read.map_err(|error| malformed(at, error.to_string()))?);
    }
    Ok(placed)
}

/// The line of this byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lists_cameras() {
        let text = r#"
            [[camera]]
            room = "gate"
            name = "Gate"
            url = "rtsp://ann:s3cret@192.168.0.7/live"

            [[camera]]
            room = "yard"
            mode = "always"
            layers = [
              { rid = "l", url = "rtsp://192.168.0.8/2" },
              { rid = "h", url = "rtsp://192.168.0.8/1" },
            ]
        "#;
        let cameras = parse("c.toml", text).unwrap();
        let layers: Vec<usize> = cameras
            .iter()
            .map(|camera| camera.spec.sources.len())
            .collect();
        assert_eq!(layers, [1, 2]);
        assert!(
            cameras
                .iter()
                .all(|camera| camera.spec.trust == Trust::Operator)
        );
        assert_eq!(parse("c.toml", "").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_without_its_password() {
        let say = |text: &str| parse("c.toml", text).unwrap_err().to_string();
        let said = say("[[camera]]\nroom = \"gate\"\nulr = \"rtsp://ann:s3cret@h/\"\n");
        assert!(
            said.starts_with("c.toml, line 3: ") && said.contains("ulr"),
            "{said}"
        );
        let said = say("[[camera]]\nroom = \"gate\"\nurl = \"http://ann:s3cret@h/\"\n");
        assert!(
            said.starts_with("c.toml, line ") && said.contains("rtsp://"),
            "{said}"
        );
        let said = say("[[camera]]\nroom = \"gate\"\nlayers = \"rtsp://ann:s3cret@h/\"\n");
        assert!(said.starts_with("c.toml, line 3: "), "{said}");
        let said = say("[[camera]\nurl = \"rtsp://ann:s3cret@h/\"\n");
        assert!(said.starts_with("c.toml, line 1: "), "{said}");
        for text in [
            "[[camera]]\nroom = 7",
            "camera = \"rtsp://ann:s3cret@h/\"",
            "cameras = []",
        ] {
            assert!(!say(text).contains("s3cret"), "{}", say(text));
        }
    }
}
