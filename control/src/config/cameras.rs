//! What the node is told of cameras.

use std::path::PathBuf;

use super::ConfigError;
use crate::camera::allow::Cidr;
use crate::camera::cameras::{CameraLimits, Placed};
use crate::camera::file;
use crate::cli::Settings;

/// Cameras at once, unless said otherwise: more than people who run hundreds have.
const CAMERAS: usize = 1_000;

/// Cameras in a room, unless said otherwise: a wall of them, each with sound, is what a browser takes.
const CAMERAS_PER_ROOM: usize = 100;

/// Everything about cameras.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CamerasConfig {
    /// The file that lists them.
    pub file: Option<PathBuf>,
    /// What stands in it.
    pub listed: Vec<Placed>,
    /// Where requests may have cameras besides public addresses.
    pub allow: Vec<Cidr>,
    /// How many there may be.
    pub limits: CameraLimits,
}

impl CamerasConfig {
    /// The addresses as the configuration's file has them.
    pub(super) fn allow_setting(&self) -> Option<Vec<String>> {
        let written = self.allow.iter().map(Cidr::to_string);
        (!self.allow.is_empty()).then(|| written.collect())
    }
}

/// What settings say of cameras.
pub(super) fn cameras(settings: &Settings) -> Result<CamerasConfig, ConfigError> {
    let listed = match &settings.cameras {
        Some(path) => file::read(path)?,
        None => Vec::new(),
    };
    let limits = CameraLimits {
        cameras: settings.max_cameras.unwrap_or(CAMERAS),
        cameras_per_room: settings.max_cameras_per_room.unwrap_or(CAMERAS_PER_ROOM),
    };
    if listed.len() > limits.cameras {
        let reason = format!(
            "it lists {} cameras, and max-cameras is {}",
            listed.len(),
            limits.cameras
        );
        return Err(ConfigError::BadValue {
            key: "cameras",
            reason,
        });
    }
    let allow = settings.camera_allow.iter().flatten().map(|written| {
        let read = written.trim().parse::<Cidr>();
        read.map_err(|bad| ConfigError::BadValue {
            key: "camera-allow",
            reason: bad.to_string(),
        })
    });
    Ok(CamerasConfig {
        file: settings.cameras.clone(),
        listed,
        allow: allow.collect::<Result<_, _>>()?,
        limits,
    })
}
