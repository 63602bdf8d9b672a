//! What a request's body holds: a picture, or JSON with pictures in it.

use super::guard::Refused;
use crate::data::pictures::{self, Frame};
use crate::session::Picture;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

/// Pictures of one request.
const MOST_PICTURES: usize = 256;
/// How long the rest of a body that is too large is waited for.
const LINGER: Duration = Duration::from_millis(500);
/// Characters of a picture's name.
const MOST_OF_NAME: usize = 200;

/// The JSON of a request.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    /// Which class it is about.
    #[serde(default)]
    pub class: Option<String>,
    /// Files in base64.
    #[serde(default)]
    pub pictures: Vec<String>,
    /// What they are called.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A body and what it says it is.
pub(super) enum Sent {
    /// The content of a picture file.
    Picture(Vec<u8>),
    /// JSON.
    Content(Content),
}

fn refuse<T>(status: StatusCode, why: impl Into<String>) -> Result<T, Refused> {
    Err((status, why.into()))
}

/// Bytes of a body as its head has it.
pub(super) fn claimed(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body, as far as it may go.
pub(super) async fn read(headers: &HeaderMap, body: Body, most: usize, seconds: f64) -> Result<Sent, Refused> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json";
    // Not the types of forms, which a page of another site may send without asking first.
    if !is_json && !kind.starts_with("image/") && kind != "application/octet-stream" {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be that of a picture (image/jpeg, image/png …), application/octet-stream or application/json",
        );
    }
    let collected = tokio::time::timeout(Duration::from_secs_f64(seconds), collect(body, most)).await;
    let bytes = match collected {
        Ok(bytes) => bytes?,
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the request came too slowly"),
    };
    if !is_json {
        return Ok(Sent::Picture(bytes));
    }
    match serde_json::from_slice(&bytes) {
        Ok(content) => Ok(Sent::Content(content)),
        Err(e) => refuse(StatusCode::BAD_REQUEST, format!("no JSON of this request: {e}")),
    }
}

/// The next bytes of a body; `None` behind the last.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Refused> {
    loop {
        return match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            None => Ok(None),
            Some(Err(e)) => refuse(StatusCode::BAD_REQUEST, format!("the request ends early: {e}")),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Ok(Some(data)),
                Err(_) => continue,
            },
        };
    }
}

/// All bytes. Of a body that is too large as much again is read and dropped, if it comes quickly: a client that is still sending
/// would not read the answer.
async fn collect(mut body: Body, most: usize) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    while let Some(data) = next(&mut body).await? {
        if bytes.len() + data.len() > most {
            let mut left = most;
            let rest = async {
                while let Ok(Some(data)) = next(&mut body).await
                    && data.len() <= left
                {
                    left -= data.len();
                }
            };
            let _ = tokio::time::timeout(LINGER, rest).await;
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {} MiB", most >> 20));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The pictures in it, as the learner takes them. It computes: not for a thread that others wait for.
pub(super) fn pictures(sent: Sent, frame: Frame) -> Result<Vec<Picture>, Refused> {
    let (files, names) = match sent {
        Sent::Picture(bytes) => (vec![bytes], Vec::new()),
        Sent::Content(content) => {
            let decoded: Result<Vec<Vec<u8>>, _> = content.pictures.iter().map(|text| STANDARD.decode(text)).collect();
            match decoded {
                Ok(files) => (files, content.names),
                Err(e) => return refuse(StatusCode::BAD_REQUEST, format!("a picture is no base64: {e}")),
            }
        }
    };
    if files.is_empty() || files.len() > MOST_PICTURES {
        return refuse(StatusCode::BAD_REQUEST, format!("a request has 1 to {MOST_PICTURES} pictures"));
    }
    if !names.is_empty() && names.len() != files.len() {
        return refuse(StatusCode::BAD_REQUEST, "there must be as many names as pictures, or none");
    }
    let read = |(i, bytes): (usize, &Vec<u8>)| {
        let given = names.get(i).map(|name| name.chars().filter(|c| !c.is_control()).take(MOST_OF_NAME).collect());
        let name: String = given.unwrap_or_else(|| format!("picture {} of a request", i + 1));
        match pictures::Picture::decode(Path::new(&name), bytes, frame) {
            Ok(picture) => Ok(Picture { name, pixels: picture.pixels }),
            Err(e) => refuse(StatusCode::UNPROCESSABLE_ENTITY, e.to_string()),
        }
    };
    files.iter().enumerate().map(read).collect()
}
