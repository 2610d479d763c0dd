//! Uploads in parts: begun, sent, completed.

use super::{BUCKET, Object, Store, habits::kept, objects::metadata, refusal};
use axum::{
    body::Bytes,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// An upload in parts that nobody has completed.
#[derive(Debug)]
pub(super) struct Open {
    key: String,
    metadata: BTreeMap<String, String>,
    attested: bool,
    parts: BTreeMap<usize, Bytes>,
}

impl Store {
    /// So many parts are answered with 503 before one is taken.
    pub fn refuse_parts(&self, count: usize) {
        self.0.lock().unwrap().refuses_parts = count;
    }

    /// So many parts are taken and the rest is answered with 503, or all are.
    pub fn take_parts(&self, count: Option<usize>) {
        self.0.lock().unwrap().takes_parts = count;
    }

    /// How many parts were taken.
    pub fn parts(&self) -> usize {
        self.0.lock().unwrap().parts
    }

    /// How many uploads that hold parts nobody has completed or aborted.
    pub fn left_uploads(&self) -> usize {
        let inner = self.0.lock().unwrap();
        inner.uploads.values().filter(|open| !open.parts.is_empty()).count()
    }

    /// Aborts whatever is begun, as a rule of the bucket's does.
    pub fn abort_all(&self) {
        self.0.lock().unwrap().uploads.clear();
    }
}

pub(super) fn begin(store: &Store, key: String, headers: &HeaderMap) -> Response {
    let mut inner = store.0.lock().unwrap();
    inner.begun += 1;
    let id = format!("upload-{}", inner.begun);
    let text = format!(
        "<?xml version=\"1.0\"?><InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
    );
    let open = Open {
        key,
        metadata: metadata(headers),
        attested: headers.contains_key("x-amz-checksum-algorithm"),
        parts: BTreeMap::new(),
    };
    inner.uploads.insert(id, open);
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

pub(super) fn part(store: &Store, id: &str, number: &str, headers: &HeaderMap, body: Bytes) -> Response {
    let mut inner = store.0.lock().unwrap();
    if inner.refuses_parts > 0 || inner.takes_parts == Some(0) {
        inner.refuses_parts = inner.refuses_parts.saturating_sub(1);
        return refusal(503, "SlowDown");
    }
    let Some(open) = inner.uploads.get_mut(id) else {
        return refusal(404, "NoSuchUpload");
    };
    let sum = BASE64_STANDARD.encode(Sha256::digest(&body));
    let said = headers.get("x-amz-checksum-sha256");
    if said.map_or(open.attested, |said| said.to_str().unwrap() != sum) {
        return refusal(400, "BadDigest");
    }
    let tag = format!("\"{sum}\"");
    open.parts.insert(number.parse().unwrap(), body);
    inner.parts += 1;
    inner.takes_parts = inner.takes_parts.map(|left| left - 1);
    ([(header::ETAG, tag)], "").into_response()
}

pub(super) async fn complete(store: &Store, id: &str, key: String, headers: &HeaderMap, body: &Bytes) -> Response {
    let habit = {
        let mut inner = store.0.lock().unwrap();
        if !inner.uploads.contains_key(id) {
            return refusal(404, "NoSuchUpload");
        }
        match inner.taken(&key, headers) {
            Ok(habit) => habit,
            Err(refusal) => return refusal,
        }
    };
    let Some(open) = store
        .0
        .lock()
        .unwrap()
        .uploads
        .remove(id)
        .filter(|open| open.key == key)
    else {
        return refusal(404, "NoSuchUpload");
    };
    let text = String::from_utf8(body.to_vec()).unwrap();
    let numbers: Vec<usize> = text
        .split("<PartNumber>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().parse().unwrap())
        .collect();
    let is_whole = numbers.iter().eq(open.parts.keys()) && numbers.iter().copied().eq(1..=numbers.len());
    if !is_whole || text.matches("<ETag>").count() != numbers.len() {
        return refusal(400, "InvalidPart");
    }
    let sums: Vec<u8> = open
        .parts
        .values()
        .flat_map(|part| Sha256::digest(part).to_vec())
        .collect();
    let composed = format!("{}-{}", BASE64_STANDARD.encode(Sha256::digest(sums)), numbers.len());
    let object = Object {
        bytes: open.parts.values().flatten().copied().collect::<Vec<u8>>().into(),
        metadata: open.metadata.clone(),
        attested: open.attested,
        composed: Some(composed),
    };
    if !habit.stores() {
        store.0.lock().unwrap().uploads.insert(id.to_owned(), open);
    }
    let done = format!(
        "<?xml version=\"1.0\"?><CompleteMultipartUploadResult><Key>{key}</Key></CompleteMultipartUploadResult>"
    );
    kept(store, key, habit, object, done).await
}
