//! What pages need to meet nodes in a Firestore database: whose database, and where Firebase's own
//! SDK for browsers is.
//!
//! Both reach a page inside its HTML, so that no request comes before the first one that counts:
//! the configuration as a block of data, the SDK as an import map. Pages that are served by others
//! ask for `/v1/firebase.json`.

use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::reply::JsonError;
use super::{Doors, IceServer};
use crate::node::Node;

/// The version that our pages are tested with; `signaling/web/tests/sdk` pins the same one.
const SDK_VERSION: &str = "12.19.0";
/// Where a version of the SDK's modules import each other from, whoever serves them.
const SDK_HOME: &str = "https://www.gstatic.com/firebasejs/";
/// Where the SDK is when it is a folder of this machine.
const SDK_PATH: &str = "/firebase-sdk";
/// The SDK's modules that pages use, by the names under which they import them.
const MODULES: [(&str, &str); 3] = [
    ("firebase/app", "firebase-app.js"),
    ("firebase/auth", "firebase-auth.js"),
    ("firebase/firestore", "firebase-firestore.js"),
];

/// What a browser connects to for documents, and for signing in.
const FIRESTORE: &str = "https://firestore.googleapis.com";
const SIGN_IN: &str = "https://identitytoolkit.googleapis.com https://securetoken.googleapis.com";

/// Why a Firebase configuration was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFirebasePage {
    /// Not what the Firebase console shows.
    #[error(
        "the Firebase configuration has to be a JSON object with a `projectId`, as the Firebase \
         console shows it"
    )]
    NoProject,
    /// A host that would not fit in a header.
    #[error("`emulatorHost` has to be `host:port`, such as `127.0.0.1:8791`, not `{0}`")]
    Emulator(String),
    /// Something else than the one way to sign in.
    #[error("`auth` has to be `anonymous`, or be left out, not `{0}`")]
    Auth(String),
    /// Neither an address nor a folder with the SDK.
    #[error(
        "the Firebase SDK has to be an https:// or http:// address, or a folder that holds \
         firebase-app.js (`npm install firebase` puts it in node_modules/firebase), not `{0}`"
    )]
    Sdk(String),
}

/// A Firebase configuration for pages.
#[derive(Clone, Debug)]
pub struct FirebasePage {
    config: Map<String, Value>,
    /// Without a slash at its end.
    sdk: String,
    sdk_version: String,
    /// The SDK's folder, when this node serves it.
    folder: Option<PathBuf>,
}

impl FirebasePage {
    /// Where the SDK is unless somebody says otherwise: Google's own server of it.
    pub const SDK: &str = "https://www.gstatic.com/firebasejs/12.19.0";

    /// Takes the object that the Firebase console shows (`projectId`, `apiKey` and others), with
    /// these keys besides:
    ///
    /// - `emulatorHost`: pages speak to an emulator there instead of to Google;
    /// - `auth`: `"anonymous"` has pages sign in before they write;
    /// - `databaseId`: another database of the project than the default one.
    ///
    /// `sdk` is the address of a folder that holds `firebase-app.js` and its siblings, or such a
    /// folder on this machine, which is then served here. `collection` is where requests are.
    ///
    /// # Errors
    /// Something in it is not as described.
    pub fn new(
        config: Value,
        sdk: &str,
        collection: &str,
    ) -> Result<FirebasePage, BadFirebasePage> {
        let Value::Object(mut config) = config else {
            return Err(BadFirebasePage::NoProject);
        };
        match config.get("projectId") {
            Some(Value::String(id)) if !id.is_empty() => {}
            _ => return Err(BadFirebasePage::NoProject),
        }
        match config.get("emulatorHost") {
            None => {}
            Some(Value::String(host)) if is_host_with_port(host) => {}
            Some(other) => return Err(BadFirebasePage::Emulator(plain(other))),
        }
        match config.get("auth") {
            None => {}
            Some(Value::String(way)) if way == "anonymous" => {}
            Some(other) => return Err(BadFirebasePage::Auth(plain(other))),
        }
        config.insert("collection".into(), collection.into());
        let sdk = sdk.trim_end_matches('/');
        if sdk.starts_with("https://") || sdk.starts_with("http://") {
            if !sdk.bytes().all(is_source_byte) {
                return Err(BadFirebasePage::Sdk(sdk.into()));
            }
            let last = sdk.rsplit('/').next().unwrap_or_default();
            return Ok(FirebasePage {
                config,
                sdk: sdk.into(),
                sdk_version: if is_version(last) { last } else { SDK_VERSION }.into(),
                folder: None,
            });
        }
        let sdk_version =
            version_in(Path::new(sdk)).ok_or_else(|| BadFirebasePage::Sdk(sdk.into()))?;
        Ok(FirebasePage {
            config,
            sdk: SDK_PATH.into(),
            sdk_version,
            folder: Some(sdk.into()),
        })
    }

    /// The configuration as pages read it.
    fn to_json(&self, ice_servers: &[IceServer]) -> Value {
        let mut config = self.config.clone();
        config.insert("sdk".into(), self.sdk.as_str().into());
        config.insert("iceServers".into(), json!(ice_servers));
        Value::Object(config)
    }

    /// From a page's names of the SDK's modules, and from the SDK's own, to where they are.
    fn import_map(&self) -> String {
        let mut imports: Map<String, Value> = MODULES
            .iter()
            .map(|(name, file)| ((*name).into(), format!("{}/{file}", self.sdk).into()))
            .collect();
        let home = format!("{SDK_HOME}{}", self.sdk_version);
        if self.sdk != home {
            let app = format!("{}/firebase-app.js", self.sdk);
            imports.insert(format!("{home}/firebase-app.js"), app.into());
        }
        json!({ "imports": imports }).to_string()
    }

    /// What pages may connect to, for `connect-src`.
    fn connect_sources(&self) -> String {
        if let Some(host) = self.config.get("emulatorHost").and_then(Value::as_str) {
            return format!("http://{host}");
        }
        if self.config.contains_key("auth") {
            return format!("{FIRESTORE} {SIGN_IN}");
        }
        FIRESTORE.into()
    }
}

/// A [`FirebasePage`] worked out for the doors.
#[derive(Debug)]
pub(super) struct FirebaseParts {
    /// What goes into a page's `<head>`, before its scripts.
    head: String,
    /// What `/v1/firebase.json` says.
    json: Value,
    /// For the content security policy's `script-src`.
    pub(super) script_sources: String,
    /// For its `connect-src`.
    pub(super) connect_sources: String,
    /// The SDK's folder, when it is served here.
    pub(super) folder: Option<PathBuf>,
}

impl FirebaseParts {
    pub(super) fn new(page: &FirebasePage, ice_servers: &[IceServer]) -> FirebaseParts {
        let json = page.to_json(ice_servers);
        let map = page.import_map();
        // Nothing in a data block may look like its end.
        let data = json.to_string().replace('<', "\\u003c");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, map.as_bytes());
        let hash = STANDARD.encode(digest);
        let sdk = match &page.folder {
            Some(_) => String::new(),
            None => format!(" {}/", page.sdk),
        };
        FirebaseParts {
            head: format!(
                "<script type=\"importmap\">{map}</script>\n  \
                 <script type=\"application/json\" id=\"firebase\">{data}</script>\n  "
            ),
            json,
            // An import map is the one inline script, allowed by its hash.
            script_sources: format!("'self' 'sha256-{hash}'{sdk}"),
            connect_sources: page.connect_sources(),
            folder: page.folder.clone(),
        }
    }

    /// A page with the configuration in it, before its first script: an import map that comes later
    /// is not heard by every browser.
    pub(super) fn insert_into(&self, html: &[u8]) -> Option<Vec<u8>> {
        let html = std::str::from_utf8(html).ok()?;
        let at = html.find("<script")?;
        let (before, after) = html.split_at(at);
        Some([before, &self.head, after].concat().into_bytes())
    }

    /// The name of a file of the SDK, if `path` is one and the SDK is served here.
    pub(super) fn sdk_file<'a>(&self, path: &'a str) -> Option<(&Path, &'a str)> {
        let file = path
            .strip_prefix(&SDK_PATH[1..])
            .and_then(|rest| rest.strip_prefix('/'))?;
        let known = MODULES.iter().any(|(_, module)| *module == file);
        known.then_some((self.folder.as_deref()?, file))
    }
}

/// `GET /v1/firebase.json`
pub(crate) async fn config<N: Node>(State(doors): State<Doors<N>>) -> Response {
    match &doors.firebase {
        Some(firebase) => Json(&firebase.json).into_response(),
        None => JsonError::new(
            StatusCode::NOT_FOUND,
            "this node has no Firebase configuration for pages",
        )
        .with_hint("start it with --firebase-config, or use the WebSocket at /v1/ws")
        .into_response(),
    }
}

/// A value as a sentence names it.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// What may stand in a source of a content security policy, here: no space, quote, comma or semicolon.
fn is_source_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/[]%@+".contains(&byte)
}

/// A name or address with a port.
fn is_host_with_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// Whether it has only what names and addresses of hosts, with or without a port, are made of.
pub(super) fn is_host(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

/// `12.19.0`
fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split('.').count() == 3 && text.split('.').all(number)
}

/// Which version of the SDK a folder holds, by what its modules import; `None` when it holds none.
fn version_in(folder: &Path) -> Option<String> {
    let read = |(_, file): &(&str, &str)| std::fs::read_to_string(folder.join(file)).ok();
    let texts: Vec<String> = MODULES.iter().map(read).collect::<Option<_>>()?;
    let imported = texts
        .iter()
        .find_map(|text| text.split_once(SDK_HOME)?.1.split('/').next());
    imported
        .filter(|version| is_version(version))
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(config: Value, sdk: &str) -> Result<FirebasePage, BadFirebasePage> {
        FirebasePage::new(config, sdk, "broadcast_requests")
    }

    #[test]
    fn a_configuration_that_no_page_could_use_is_refused_with_a_sentence() {
        let project = json!({ "projectId": "p" });
        for config in [json!([]), json!({}), json!({ "projectId": 7 })] {
            assert_eq!(
                page(config, FirebasePage::SDK).unwrap_err(),
                BadFirebasePage::NoProject
            );
        }
        for host in ["here", "a b:1", "h:99999", "h:1; script-src *"] {
            let config = json!({ "projectId": "p", "emulatorHost": host });
            let refused = page(config, FirebasePage::SDK).unwrap_err();
            assert_eq!(refused, BadFirebasePage::Emulator(host.into()));
        }
        let config = json!({ "projectId": "p", "auth": true });
        let refused = page(config, FirebasePage::SDK).unwrap_err();
        assert!(refused.to_string().contains("not `true`"));
        for sdk in ["", "/nowhere", "https://a.example/x;y", "ftp://a.example"] {
            let refused = page(project.clone(), sdk).unwrap_err();
            assert_eq!(refused, BadFirebasePage::Sdk(sdk.into()));
        }
    }

    #[test]
    fn the_sdks_own_imports_lead_to_the_same_copy() {
        let map = |sdk: &str| {
            let page = page(json!({ "projectId": "p" }), sdk).unwrap();
            serde_json::from_str::<Value>(&page.import_map()).unwrap()["imports"].clone()
        };
        let own = map("https://cdn.example/firebase/11.2.3/");
        assert_eq!(
            own["https://www.gstatic.com/firebasejs/11.2.3/firebase-app.js"],
            own["firebase/app"]
        );
        assert_eq!(
            own["firebase/app"],
            "https://cdn.example/firebase/11.2.3/firebase-app.js"
        );
        let googles = map(FirebasePage::SDK);
        assert_eq!(googles.as_object().unwrap().len(), MODULES.len());
        assert!(FirebasePage::SDK.ends_with(SDK_VERSION));
    }

    #[test]
    fn a_page_connects_to_what_its_configuration_names_and_no_further() {
        let sources = |config| page(config, FirebasePage::SDK).unwrap().connect_sources();
        assert_eq!(sources(json!({ "projectId": "p" })), FIRESTORE);
        assert_eq!(
            sources(
                json!({ "projectId": "p", "emulatorHost": "127.0.0.1:8791", "auth": "anonymous" })
            ),
            "http://127.0.0.1:8791"
        );
        let signed_in = sources(json!({ "projectId": "p", "auth": "anonymous" }));
        assert!(signed_in.contains("identitytoolkit"));
    }
}
