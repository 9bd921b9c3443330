//! The database: opening it, reading, searching, counting. With [`super::writing`] and
//! [`super::listener`] the only user of the `firestore` crate, and of its generated gRPC client where
//! its own interface says less than the protocol: a batch's single outcomes, and the listener's errors.

use std::time::Duration;

use firestore::errors::FirestoreError;
use firestore::gcloud_sdk::RequestTimeouts;
use firestore::gcloud_sdk::google::firestore::v1 as proto;
use firestore::gcloud_sdk::tonic::{Code, Request, Status};
use firestore::{FirestoreDb, FirestoreDbOptions};

use super::encoding::{self, Names};
use super::message::{Collection, Document, Path, Target};
use super::query;

/// How long the database may take for one request, and for letting itself be opened.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Which database, and which collection of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The project's id.
    pub project: String,
    /// The database's id, `(default)` unless the project has several.
    pub database: String,
    /// The collection that pages write to.
    pub collection: String,
}

/// Why the database did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It may not be done: a person has to change something first.
    #[error("{0}")]
    Denied(String),
    /// The database was not reached, or did not answer in time.
    #[error("{0}")]
    Unreachable(String),
}

/// An open database.
#[derive(Clone)]
pub struct Database {
    db: FirestoreDb,
    names: Names,
}

impl Database {
    /// Opens the database: the emulator that `FIRESTORE_EMULATOR_HOST` names, or production with
    /// the credentials that the environment gives.
    ///
    /// # Errors
    /// No credentials, or nobody there.
    pub async fn open(place: &Place) -> Result<Database, Trouble> {
        let options = FirestoreDbOptions::new(place.project.clone())
            .with_database_id(place.database.clone())
            .with_request_timeout(REQUEST_TIMEOUT);
        let opening = tokio::time::timeout(REQUEST_TIMEOUT, FirestoreDb::with_options(options));
        let db = match opening.await {
            Ok(opened) => opened.map_err(|error| opening_trouble(&error))?,
            Err(_) => return Err(Trouble::Unreachable("it does not answer".to_owned())),
        };
        let names = Names::new(db.get_documents_path(), &place.collection);
        Ok(Database { db, names })
    }

    /// Asks for something that needs permission and changes nothing.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn check(&self) -> Result<(), Trouble> {
        self.owned_by(Collection::Requests, "nobody")
            .await
            .map(drop)
    }

    /// Reads a document; `None` when there is none.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn read(&self, path: &Path) -> Result<Option<Document>, Trouble> {
        let request = proto::GetDocumentRequest {
            name: self.names.name(path),
            ..proto::GetDocumentRequest::default()
        };
        match self.db.client().get().get_document(limited(request)).await {
            Ok(found) => Ok(encoding::read_document(&self.names, found.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(trouble(&status)),
        }
    }

    /// Documents of a collection whose `owner` is `node`, or a part of them if they are many.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn owned_by(
        &self,
        collection: Collection,
        node: &str,
    ) -> Result<Vec<Document>, Trouble> {
        let request = query::owned_by(&self.names, collection, node);
        let found = self.db.client().get().run_query(limited(request)).await;
        let mut found = found.map_err(|status| trouble(&status))?.into_inner();
        let mut documents = Vec::new();
        while let Some(part) = found.message().await.map_err(|status| trouble(&status))? {
            let document = part.document;
            documents
                .extend(document.and_then(|found| encoding::read_document(&self.names, found)));
        }
        Ok(documents)
    }

    /// How many documents are in a target of `node`'s.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn count(&self, target: Target, node: &str) -> Result<usize, Trouble> {
        let request = query::count(&self.names, target, node);
        let mut client = self.db.client().get();
        let counted = client.run_aggregation_query(limited(request)).await;
        let mut counted = counted.map_err(|status| trouble(&status))?.into_inner();
        while let Some(part) = counted.message().await.map_err(|status| trouble(&status))? {
            if let Some(count) = part.result.as_ref().and_then(query::read_count) {
                return Ok(count);
            }
        }
        Err(Trouble::Unreachable("it did not say a number".to_owned()))
    }

    /// How documents are called here.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// The requests that open a listener for `node`.
    pub(super) fn listen_requests(&self, node: &str) -> Vec<proto::ListenRequest> {
        query::listen(&self.names, self.db.get_database_path(), node)
    }

    /// The crate's handle.
    pub(super) fn handle(&self) -> &FirestoreDb {
        &self.db
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// A request that ends when its time is over.
pub(super) fn limited<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    let limit = RequestTimeouts::new().with_total(REQUEST_TIMEOUT);
    request.extensions_mut().insert(limit);
    request
}

/// What a failed call means.
pub(super) fn trouble(status: &Status) -> Trouble {
    trouble_of(status.code(), status.message())
}

/// What a status means.
pub(super) fn trouble_of(code: Code, message: &str) -> Trouble {
    let sentence = sentence(code, message);
    match code {
        Code::PermissionDenied | Code::Unauthenticated | Code::NotFound | Code::InvalidArgument => {
            Trouble::Denied(sentence)
        }
        _ => Trouble::Unreachable(sentence),
    }
}

/// The database's sentence, or the code's where there is none.
pub(super) fn sentence(code: Code, message: &str) -> String {
    match (message.is_empty(), code) {
        (true, code) => code.description().to_lowercase(),
        (false, Code::Unknown | Code::Unavailable | Code::Cancelled) => {
            format!("it cannot be reached: {message}")
        }
        (false, _) => message.to_owned(),
    }
}

/// Opening fails where nobody answers; for want of credentials it fails for good.
fn opening_trouble(error: &FirestoreError) -> Trouble {
    match error {
        FirestoreError::SystemError(system) if system.public.code.starts_with("GrpcStatus") => {
            Trouble::Unreachable("it cannot be reached".to_owned())
        }
        FirestoreError::SystemError(system) => Trouble::Denied(system.message.clone()),
        other => Trouble::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_can_change_counts_as_denied() {
        assert!(matches!(
            trouble_of(Code::PermissionDenied, ""),
            Trouble::Denied(_)
        ));
        assert!(matches!(
            trouble_of(Code::Unavailable, "refused"),
            Trouble::Unreachable(_)
        ));
    }
}
