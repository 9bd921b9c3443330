//! Writing to the database: many documents in few requests, and what became of each.

use std::collections::BTreeMap;

use firestore::gcloud_sdk::google::firestore::v1 as proto;
use firestore::gcloud_sdk::tonic::{Code, Status};

use super::client::{Database, Trouble, limited, sentence, trouble};
use super::encoding;
use super::message::{Path, Precondition, Stamp, Write, Written};

/// Transactions that others were in the way of are tried so often.
const TRIES_MAX: usize = 3;

/// When one of so few writes is lost, they are written each for itself, in one request.
const BATCHED_MAX: usize = 8;

impl Database {
    /// Writes all of these, each for itself; one outcome each, in their order.
    ///
    /// All in one transaction at first: the emulator tells its listeners the whole result set after
    /// each, and would do so for every write of a batch. One write that is lost spoils the
    /// transaction for all; the documents' versions say which it is, and the rest is tried again.
    pub async fn write(&self, writes: &[Write]) -> Vec<Written> {
        let mut outcomes: Vec<Option<Written>> = vec![None; writes.len()];
        let mut left: Vec<usize> = (0..writes.len()).collect();
        for _ in 0..TRIES_MAX {
            if left.len() <= BATCHED_MAX {
                break;
            }
            let part: Vec<Write> = left.iter().map(|index| writes[*index].clone()).collect();
            match self.write_together(&part).await {
                Ok(all) => {
                    for (index, written) in left.drain(..).zip(all) {
                        outcomes[index] = Some(written);
                    }
                }
                Err(status) if is_about_one(status.code()) => {
                    let Ok(versions) = self.versions(&part).await else {
                        break;
                    };
                    left.retain(|index| {
                        let write = &writes[*index];
                        let holds = holds(write, versions.get(&write.path).copied());
                        if !holds {
                            outcomes[*index] = Some(Written::Lost);
                        }
                        holds
                    });
                }
                Err(status) => {
                    for index in left.drain(..) {
                        outcomes[index] = Some(written_as(&status));
                    }
                }
            }
        }
        let rest: Vec<Write> = left.iter().map(|index| writes[*index].clone()).collect();
        let written = self.write_in_halves(&rest).await;
        for (index, written) in left.into_iter().zip(written) {
            outcomes[index] = Some(written);
        }
        let undecided = || Written::Failed("it was not written".to_owned());
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(undecided))
            .collect()
    }

    /// The versions of these writes' documents, where there are any.
    async fn versions(&self, writes: &[Write]) -> Result<BTreeMap<Path, Stamp>, Trouble> {
        let request = proto::BatchGetDocumentsRequest {
            database: self.handle().get_database_path().clone(),
            documents: writes
                .iter()
                .map(|write| self.names().name(&write.path))
                .collect(),
            // Nothing of what they hold.
            mask: Some(proto::DocumentMask {
                field_paths: vec!["__name__".to_owned()],
            }),
            ..proto::BatchGetDocumentsRequest::default()
        };
        let mut client = self.handle().client().get();
        let found = client.batch_get_documents(limited(request)).await;
        let mut found = found.map_err(|status| trouble(&status))?.into_inner();
        let mut versions = BTreeMap::new();
        while let Some(part) = found.message().await.map_err(|status| trouble(&status))? {
            use proto::batch_get_documents_response::Result as Part;
            if let Some(Part::Found(document)) = part.result
                && let Some(document) = encoding::read_document(self.names(), document)
            {
                versions.insert(document.path, document.updated);
            }
        }
        Ok(versions)
    }

    /// Writes in ever smaller parts, until each that is lost is alone.
    async fn write_in_halves(&self, writes: &[Write]) -> Vec<Written> {
        let mut written = Vec::with_capacity(writes.len());
        // The next to write is the last of them.
        let mut parts = vec![writes];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            if part.len() <= BATCHED_MAX {
                written.extend(self.write_each(part).await);
                continue;
            }
            match self.write_together(part).await {
                Ok(all) => written.extend(all),
                Err(status) if is_about_one(status.code()) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(status) => written.extend(vec![written_as(&status); part.len()]),
            }
        }
        written
    }

    /// Writes all or none of these.
    async fn write_together(&self, writes: &[Write]) -> Result<Vec<Written>, Status> {
        let request = proto::CommitRequest {
            database: self.handle().get_database_path().clone(),
            writes: writes
                .iter()
                .map(|write| encoding::write(self.names(), write))
                .collect(),
            ..proto::CommitRequest::default()
        };
        let mut tries = 1;
        let committed = loop {
            let limited = limited(request.clone());
            match self.handle().client().get().commit(limited).await {
                Ok(committed) => break committed.into_inner(),
                // Others wrote at the same time: nobody lost anything but time.
                Err(status) if status.code() == Code::Aborted && tries < TRIES_MAX => tries += 1,
                Err(status) => return Err(status),
            }
        };
        let done = |index: usize| {
            let result = committed.write_results.get(index);
            let at = result.and_then(|result| result.update_time);
            let at = at.or(committed.commit_time);
            Written::Done(at.map_or(Stamp(0), encoding::read_stamp))
        };
        Ok((0..writes.len()).map(done).collect())
    }

    /// Writes these in one request, and each in one of its own where one spoils it.
    async fn write_each(&self, writes: &[Write]) -> Vec<Written> {
        match self.write_batch(writes).await {
            Ok(written) => written,
            // One write that is wrong, such as one too large, spoils the request for all.
            Err(status) if status.code() == Code::InvalidArgument && writes.len() > 1 => {
                let mut written = Vec::with_capacity(writes.len());
                for write in writes {
                    let one = self.write_batch(std::slice::from_ref(write)).await;
                    written.extend(one.unwrap_or_else(|status| vec![written_as(&status)]));
                }
                written
            }
            Err(status) => vec![written_as(&status); writes.len()],
        }
    }

    async fn write_batch(&self, writes: &[Write]) -> Result<Vec<Written>, Status> {
        let request = proto::BatchWriteRequest {
            database: self.handle().get_database_path().clone(),
            writes: writes
                .iter()
                .map(|write| encoding::write(self.names(), write))
                .collect(),
            ..proto::BatchWriteRequest::default()
        };
        let sent = self
            .handle()
            .client()
            .get()
            .batch_write(limited(request))
            .await;
        let response = sent?.into_inner();
        let outcome = |index: usize| {
            let Some(status) = response.status.get(index) else {
                return Written::Failed("the database did not say what became of it".to_owned());
            };
            match Code::from(status.code) {
                Code::Ok => {
                    let result = response.write_results.get(index);
                    let at = result.and_then(|result| result.update_time);
                    Written::Done(at.map_or(Stamp(0), encoding::read_stamp))
                }
                code => written_status(code, &status.message),
            }
        };
        Ok((0..writes.len()).map(outcome).collect())
    }
}

/// Whether a write's condition holds for the version that its document has.
fn holds(write: &Write, version: Option<Stamp>) -> bool {
    match write.precondition {
        Precondition::None => true,
        Precondition::Absent => version.is_none(),
        Precondition::Updated(at) => version == Some(at),
    }
}

/// What a failed request means for each of its writes.
fn written_as(status: &Status) -> Written {
    written_status(status.code(), status.message())
}

/// Whether a transaction failed for what one of its writes says, not for all of them.
fn is_about_one(code: Code) -> bool {
    matches!(
        code,
        Code::FailedPrecondition
            | Code::NotFound
            | Code::AlreadyExists
            | Code::InvalidArgument
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::Aborted
    )
}

/// What a write's status means. A write that the database calls wrong is lost: another try would
/// be as wrong.
fn written_status(code: Code, message: &str) -> Written {
    match code {
        Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists => Written::Lost,
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            tracing::warn!(reason = %sentence(code, message), "the database takes no such write");
            Written::Lost
        }
        Code::PermissionDenied | Code::Unauthenticated => Written::Denied(sentence(code, message)),
        _ => Written::Failed(sentence(code, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart() {
        for code in [Code::FailedPrecondition, Code::NotFound] {
            assert_eq!(written_status(code, "x"), Written::Lost);
        }
        // Others were in the way: the document is as it was.
        let aborted = written_status(Code::Aborted, "x");
        assert!(matches!(aborted, Written::Failed(_)));
        assert_eq!(written_status(Code::InvalidArgument, "x"), Written::Lost);
        let denied = written_status(Code::PermissionDenied, "no");
        assert_eq!(denied, Written::Denied("no".to_owned()));
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Internal] {
            assert!(matches!(written_status(code, "x"), Written::Failed(_)));
        }
    }
}
