//! Files too large for one request, and requests that the client does not know.

use super::{
    Condition, Error, Http, PART, S3Prefix, StorageError, Version, between, context, encoded,
};
use crate::storage::Store;
use object_store::PutPayload;
use object_store::aws::AwsCredential;
use object_store::multipart::{MultipartStore, PartId};
use reqsign_aws_v4::{RequestSigner, StaticCredentialProvider};
use std::sync::Arc;

impl S3Prefix {
    /// Uploads in parts. The last step carries the condition; until then nobody sees anything.
    pub(super) fn put_parts(
        &self,
        key: &str,
        bytes: &[u8],
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let path = self.path(key)?;
        let upload = self.tried("writing", key, || self.client.create_multipart(&path))?;
        let finished = self.put_all_parts(key, bytes, &upload).and_then(|parts| {
            crate::fault::step("multipart_uploaded");
            self.completed(key, &upload, &parts, condition)
        });
        match finished {
            Ok(version) => Ok(version),
            Err(error) => match self.read(key) {
                Ok(Some((found, version))) if found == bytes => Ok(version),
                _ => {
                    if let Err(left) = self.abort_upload(key, &upload) {
                        tracing::warn!(
                            key,
                            "an upload that was given up is left for vacuum: {left}"
                        );
                    }
                    Err(error)
                }
            },
        }
    }

    fn put_all_parts(
        &self,
        key: &str,
        bytes: &[u8],
        upload: &String,
    ) -> Result<Vec<PartId>, StorageError> {
        let path = self.path(key)?;
        let parts = bytes.chunks(PART).enumerate();
        parts
            .map(|(index, part)| {
                let payload = PutPayload::from(part.to_vec());
                self.tried("writing", key, || {
                    self.client.put_part(&path, upload, index, payload.clone())
                })
            })
            .collect()
    }

    /// Completes an upload under a condition, which the client's own call cannot say.
    fn completed(
        &self,
        key: &str,
        upload: &str,
        parts: &[PartId],
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let listed: String = parts
            .iter()
            .enumerate()
            .map(|(index, part)| {
                format!(
                    "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>",
                    index + 1,
                    part.content_id
                )
            })
            .collect();
        let body = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
        let header = match condition {
            Condition::Always => None,
            Condition::Absent => Some(("if-none-match", "*".to_owned())),
            Condition::Matches(version) => Some(("if-match", version.0.clone())),
        };
        let query = format!("uploadId={}", encoded(upload));
        let text = self.signed("writing", key, "POST", &query, header, body)?;
        let tag = between(&text, "<ETag>", "</ETag>").map(|tag| tag.replace("&quot;", "\""));
        self.version(
            key,
            tag.map(|tag| {
                if tag.starts_with('"') {
                    tag
                } else {
                    format!("\"{tag}\"")
                }
            }),
        )
    }

    /// A request that the client does not know, signed with the same credentials.
    pub(super) fn signed(
        &self,
        action: &'static str,
        key: &str,
        method: &'static str,
        query: &str,
        header: Option<(&'static str, String)>,
        body: String,
    ) -> Result<String, StorageError> {
        let path: Vec<String> = self.full(key).split('/').map(encoded).collect();
        let path = if key.is_empty() {
            String::new()
        } else {
            format!("/{}", path.join("/"))
        };
        let url = format!("{}{path}?{query}", self.session.url_of(&self.bucket));
        let request = || async {
            let generic = |text: String| Error::Generic {
                store: "S3",
                source: text.into(),
            };
            let credential: Arc<AwsCredential> =
                self.session.credentials.get().await.map_err(generic)?;
            let fixed = StaticCredentialProvider::new(&credential.key_id, &credential.secret_key);
            let fixed = match &credential.token {
                Some(token) => fixed.with_session_token(token),
                None => fixed,
            };
            let region = self.session.region.clone().unwrap_or_default();
            let signer =
                reqsign_core::Signer::new(context(), fixed, RequestSigner::new("s3", &region));
            let mut builder = http::Request::builder().method(method).uri(&url);
            if let Some((name, value)) = &header {
                builder = builder.header(*name, value);
            }
            let request = builder
                .body(())
                .map_err(|error| generic(error.to_string()))?;
            let (mut parts, ()) = request.into_parts();
            signer
                .sign(&mut parts, None)
                .await
                .map_err(|error| generic(error.to_string()))?;
            let request = http::Request::from_parts(parts, bytes::Bytes::from(body.clone()));
            let http = Http(
                reqwest::Client::builder()
                    .timeout(self.session.timeout)
                    .build()
                    .unwrap_or_default(),
            );
            let answer = reqsign_core::HttpSend::http_send(&http, request).await;
            let answer = answer.map_err(|error| generic(error.to_string()))?;
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            let shown = || self.shown(key);
            match answer.status().as_u16() {
                // S3 may answer 200 and tell of an error in the body.
                200..=299 if !text.contains("<Error>") => Ok(text),
                412 | 409 => Err(Error::Precondition {
                    path: shown(),
                    source: text.into(),
                }),
                401 | 403 => Err(Error::PermissionDenied {
                    path: shown(),
                    source: text.into(),
                }),
                404 => Err(Error::NotFound {
                    path: shown(),
                    source: text.into(),
                }),
                _ => Err(generic(text)),
            }
        };
        self.tried(action, key, request)
    }
}
