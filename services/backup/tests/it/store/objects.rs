//! Whole objects: put, found and listed.

use super::{NextPiece, Step, Store, checked, habits::kept, is_archive, refusal};
use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) attested: bool,
    /// Of parts: what the store tells of their sums.
    pub(super) composed: Option<String>,
}

impl Store {
    /// Keys of archives.
    pub fn archives(&self) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        inner.objects.keys().filter(|key| is_archive(key)).cloned().collect()
    }

    pub fn object(&self, key: &str) -> Option<Object> {
        self.0.lock().unwrap().objects.get(key).cloned()
    }

    pub fn put(&self, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) {
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let object = Object {
            bytes: bytes.to_vec().into(),
            metadata: metadata.collect(),
            attested: false,
            composed: None,
        };
        self.0.lock().unwrap().objects.insert(key.to_owned(), object);
    }

    pub fn remove(&self, key: &str) -> Option<Object> {
        self.0.lock().unwrap().objects.remove(key)
    }

    pub fn put_back(&self, key: &str, object: Object) {
        self.0.lock().unwrap().objects.insert(key.to_owned(), object);
    }
}

pub(super) async fn list(
    State(store): State<Store>,
    Path(bucket): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    store.asked_for(Step::List);
    if let Err(refusal) = checked(&store, &bucket, &headers) {
        return refusal;
    }
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let inner = store.0.lock().unwrap();
    // A page holds one key, so that who reads only the first page sees little.
    let after = query.get("continuation-token").cloned().unwrap_or_default();
    let mut keys = inner
        .objects
        .keys()
        .filter(|key| key.starts_with(&prefix) && **key > after && !inner.lists_late);
    let contents = keys
        .next()
        .map(|key| (key, format!("<Contents><Key>{key}</Key></Contents>")));
    let next = match (&contents, keys.next()) {
        (Some((key, _)), Some(_)) => {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{key}</NextContinuationToken>")
        }
        _ => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    let contents = contents.map(|(_, text)| text).unwrap_or_default();
    let text = format!("<?xml version=\"1.0\"?><ListBucketResult>{next}{contents}</ListBucketResult>");
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

fn found(method: &Method, asked: &HeaderMap, object: &Object) -> Response {
    let mut response = if *method == Method::HEAD {
        let mut response = StatusCode::OK.into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, object.bytes.len().into());
        let stored_at = header::HeaderValue::from_static("Fri, 21 Aug 2026 02:16:00 GMT");
        response.headers_mut().insert(header::LAST_MODIFIED, stored_at);
        response
    } else if let Some(range) = asked.get(header::RANGE) {
        piece(range.to_str().unwrap(), object)
    } else {
        object.bytes.clone().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(
        header::ETAG,
        format!("\"{}\"", hex::encode(Sha256::digest(&object.bytes)))
            .parse()
            .unwrap(),
    );
    for (name, value) in &object.metadata {
        let name: header::HeaderName = format!("x-amz-meta-{name}").parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    if object.attested && asked.contains_key("x-amz-checksum-mode") {
        let whole = || BASE64_STANDARD.encode(Sha256::digest(&object.bytes));
        let sum = object.composed.clone().unwrap_or_else(whole);
        headers.insert("x-amz-checksum-sha256", sum.parse().unwrap());
    }
    response
}

/// Of `bytes=<first>-<last>`.
fn bounds(range: &str) -> (usize, usize) {
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}

/// Answers who reads an object, or a piece of it, by the habit that the store has then.
pub(super) fn read(store: &Store, key: &str, method: &Method, asked: &HeaderMap, mut object: Object) -> Response {
    let range = asked.get(header::RANGE).and_then(|range| range.to_str().ok());
    let is_next = range.is_some_and(|range| bounds(range).0 > 0);
    let habit = if is_next {
        store.0.lock().unwrap().next_piece.take()
    } else {
        None
    };
    if habit == Some(NextPiece::Expired) {
        store.expire();
        store.0.lock().unwrap().expired += 1;
        return refusal(400, "ExpiredToken");
    }
    if habit == Some(NextPiece::Another) {
        object.bytes = [&object.bytes[..], b"more"].concat().into();
        store.put_back(key, object.clone());
    }
    let response = found(method, asked, &object);
    if habit == Some(NextPiece::Cut) {
        return Response::from_parts(response.into_parts().0, "cut".into());
    }
    response
}

fn piece(range: &str, object: &Object) -> Response {
    let (first, last) = bounds(range);
    let total = object.bytes.len();
    if first >= total {
        return refusal(416, "InvalidRange");
    }
    let end = total.min(last + 1);
    let content_range = format!("bytes {first}-{}/{total}", end - 1);
    let part = object.bytes.slice(first..end);
    (
        StatusCode::PARTIAL_CONTENT,
        [(header::CONTENT_RANGE, content_range)],
        part,
    )
        .into_response()
}

pub(super) fn metadata(headers: &HeaderMap) -> BTreeMap<String, String> {
    let said = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        Some((name.to_owned(), value.to_str().unwrap().to_owned()))
    });
    said.collect()
}

pub(super) async fn put(store: &Store, key: String, headers: &HeaderMap, body: Bytes) -> Response {
    let habit = match store.0.lock().unwrap().taken(&key, headers) {
        Ok(habit) => habit,
        Err(refusal) => return refusal,
    };
    let sum = headers.get("x-amz-checksum-sha256");
    if sum.is_some_and(|sum| sum.to_str().unwrap() != BASE64_STANDARD.encode(Sha256::digest(&body))) {
        return refusal(400, "BadDigest");
    }
    let object = Object {
        bytes: body,
        metadata: metadata(headers),
        attested: sum.is_some(),
        composed: None,
    };
    kept(store, key, habit, object, String::new()).await
}
