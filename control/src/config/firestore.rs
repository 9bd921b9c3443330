//! What the node is told of the database where pages and nodes meet.

use std::path::PathBuf;
use std::time::Duration;

use signaling::doors::FirebasePage;

use super::{Config, ConfigError};
use crate::cli::Settings;
use crate::firestore::Place;

/// The collection that pages write to, unless another is named.
const COLLECTION: &str = "broadcast_requests";

/// The database of a project that has only one.
const DATABASE: &str = "(default)";

/// Seconds that the registry believes in a node without a heartbeat, unless said otherwise: two
/// heartbeats may be lost.
const LEASE_S: u64 = 30;

/// A heartbeat comes every ten seconds, so a shorter lease would end between two.
const LEASE_S_MIN: u64 = 15;

/// A dead node's meetings wait for this long.
const LEASE_S_MAX: u64 = 3600;

/// How long a node with a database lets meetings go on after it was asked to end, seconds.
const DRAIN_S: u64 = 60;

/// A day: longer than any meeting.
const DRAIN_S_MAX: u64 = 86_400;

/// The longest id, in characters; the database takes 1500 bytes.
const ID_LEN_MAX: usize = 100;

/// Everything about the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirestoreConfig {
    /// Which database.
    pub place: Place,
    /// Our id among the nodes; without one, it is made of host name and media port.
    pub node_id: Option<String>,
    /// How long the registry believes in us without a heartbeat.
    pub lease: Duration,
    /// Rooms that we take from the database at most.
    pub max_broadcasts: usize,
}

/// What pages are told of Firebase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirebaseFiles {
    /// The file with what the Firebase console shows.
    pub config: PathBuf,
    /// Where the SDK is: an address, or a folder of this machine.
    pub sdk: String,
    /// The collection that pages write to.
    pub collection: String,
}

impl FirebaseFiles {
    /// Reads the file, for the doors.
    ///
    /// # Errors
    /// A sentence that names the file or what is wrong in it.
    pub fn read(&self) -> Result<FirebasePage, ConfigError> {
        let wrong = |reason: String| ConfigError::BadValue {
            key: "firebase-config",
            reason,
        };
        let file = self.config.display();
        let text = std::fs::read_to_string(&self.config)
            .map_err(|error| wrong(format!("cannot read {file}: {error}")))?;
        let json = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("{file} is not JSON: {error}")))?;
        FirebasePage::new(json, &self.sdk, &self.collection)
            .map_err(|error| wrong(error.to_string()))
    }
}

impl FirestoreConfig {
    /// Our id among the nodes, where worker 0 has this port.
    #[must_use]
    pub fn node_id(&self, media_port: u16) -> String {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let own = || format!("{}-{media_port}", id_of(&host));
        self.node_id.clone().unwrap_or_else(own)
    }
}

impl Config {
    /// What is said of the database, as settings.
    pub(super) fn database_settings(&self) -> Settings {
        let firebase = self.firebase.clone();
        let (config, sdk, collection) = match firebase {
            Some(files) => (Some(files.config), Some(files.sdk), Some(files.collection)),
            None => (None, None, None),
        };
        let settings = Settings {
            firebase_config: config,
            firebase_sdk: sdk,
            firestore_collection: collection,
            ..Settings::default()
        };
        let Some(firestore) = self.firestore.clone() else {
            return settings;
        };
        Settings {
            firestore_project: Some(firestore.place.project),
            firestore_database: Some(firestore.place.database),
            firestore_collection: Some(firestore.place.collection),
            node_id: firestore.node_id,
            lease: Some(firestore.lease.as_secs()),
            max_broadcasts: Some(firestore.max_broadcasts),
            ..settings
        }
    }
}

/// The database, if one is named; `max_rooms` is the default of rooms from it.
pub(super) fn firestore(
    settings: &Settings,
    max_rooms: usize,
) -> Result<Option<FirestoreConfig>, ConfigError> {
    let Some(project) = settings.firestore_project.clone() else {
        return Ok(None);
    };
    let place = Place {
        project,
        database: settings
            .firestore_database
            .clone()
            .unwrap_or_else(|| DATABASE.to_owned()),
        collection: collection(settings),
    };
    check_id("firestore-project", &place.project)?;
    check_id("firestore-collection", &place.collection)?;
    if place.database != DATABASE {
        check_id("firestore-database", &place.database)?;
    }
    if let Some(id) = &settings.node_id {
        check_id("node-id", id)?;
    }
    let lease_s = settings.lease.unwrap_or(LEASE_S);
    if !(LEASE_S_MIN..=LEASE_S_MAX).contains(&lease_s) {
        let reason = format!(
            "{lease_s} is out of range, {LEASE_S_MIN} to {LEASE_S_MAX} seconds fit the heartbeat of ten"
        );
        return Err(ConfigError::BadValue {
            key: "lease",
            reason,
        });
    }
    Ok(Some(FirestoreConfig {
        place,
        node_id: settings.node_id.clone(),
        lease: Duration::from_secs(lease_s),
        max_broadcasts: settings.max_broadcasts.unwrap_or(max_rooms),
    }))
}

/// What pages are told, if a file for them is named.
pub(super) fn firebase(settings: &Settings) -> Option<FirebaseFiles> {
    Some(FirebaseFiles {
        config: settings.firebase_config.clone()?,
        sdk: settings
            .firebase_sdk
            .clone()
            .unwrap_or_else(|| FirebasePage::SDK.to_owned()),
        collection: collection(settings),
    })
}

/// How long meetings may go on after the node was asked to end.
pub(super) fn drain_time(settings: &Settings) -> Result<Duration, ConfigError> {
    let default = match settings.firestore_project {
        Some(_) => DRAIN_S,
        None => 0,
    };
    let drain_s = settings.drain_time.unwrap_or(default);
    if drain_s > DRAIN_S_MAX {
        let reason = format!("{drain_s} is out of range, 0 to {DRAIN_S_MAX} seconds can be waited");
        return Err(ConfigError::BadValue {
            key: "drain-time",
            reason,
        });
    }
    Ok(Duration::from_secs(drain_s))
}

fn collection(settings: &Settings) -> String {
    let named = settings.firestore_collection.clone();
    named.unwrap_or_else(|| COLLECTION.to_owned())
}

/// Ids stand in documents' names, so a slash would lead elsewhere.
fn check_id(key: &'static str, id: &str) -> Result<(), ConfigError> {
    let fits = (1..=ID_LEN_MAX).contains(&id.len()) && id.chars().all(is_id_char);
    // The database keeps these for itself.
    let reserved = id.chars().all(|c| c == '.') || (id.starts_with("__") && id.ends_with("__"));
    if fits && !reserved {
        return Ok(());
    }
    let reason = format!(
        "`{id}` is no id: it has to be 1 to {ID_LEN_MAX} letters, digits, `-`, `_`, `.` or `:`"
    );
    Err(ConfigError::BadValue { key, reason })
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:".contains(c)
}

/// A host's name as an id.
fn id_of(host: &str) -> String {
    let kept = host.chars().map(|c| if is_id_char(c) { c } else { '-' });
    let id: String = kept.take(ID_LEN_MAX / 2).collect();
    if id.is_empty() { "node".to_owned() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            firestore_project: Some("p".to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn a_project_is_enough() {
        let config = firestore(&settings(), 7).unwrap().unwrap();
        assert_eq!(config.place.collection, "broadcast_requests");
        assert_eq!(config.place.database, "(default)");
        assert_eq!((config.lease.as_secs(), config.max_broadcasts), (30, 7));
        assert!(config.node_id(3478).ends_with("-3478"));
        assert_eq!(drain_time(&settings()).unwrap().as_secs(), 60);
        assert_eq!(drain_time(&Settings::default()).unwrap().as_secs(), 0);
        assert_eq!(firestore(&Settings::default(), 7), Ok(None));
    }

    #[test]
    fn ids_that_would_lead_elsewhere_are_refused() {
        for id in ["", "a/b", "..", "__all__", "a b"] {
            let settings = Settings {
                node_id: Some(id.to_owned()),
                ..settings()
            };
            let error = firestore(&settings, 7).unwrap_err().to_string();
            assert!(error.starts_with("node-id: "), "{error}");
        }
        assert_eq!(id_of("a/b c.example"), "a-b-c.example");
    }

    #[test]
    fn a_firebase_configuration_that_cannot_be_used_is_a_sentence() {
        let files = FirebaseFiles {
            config: "/nowhere.json".into(),
            sdk: FirebasePage::SDK.to_owned(),
            collection: COLLECTION.to_owned(),
        };
        let error = files.read().unwrap_err().to_string();
        assert!(error.starts_with("firebase-config: cannot read /nowhere.json"));
    }

    #[test]
    fn a_lease_shorter_than_heartbeats_is_refused() {
        let settings = Settings {
            lease: Some(10),
            ..settings()
        };
        let error = firestore(&settings, 7).unwrap_err().to_string();
        assert!(error.contains("15 to 3600"), "{error}");
    }
}
