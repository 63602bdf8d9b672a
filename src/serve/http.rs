//! Routes, and the connections that lead to them.

use super::body::{self, Sent};
use super::desk::{Desk, Refusal};
use super::guard::{Guard, Refused};
use super::{Answer, Class, Options};
use crate::error::Error;
use crate::session::Picture;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

const PAGE: &str = include_str!("page.html");
/// Connections at once; more wait.
const MOST_CONNECTIONS: usize = 512;
/// Of one address that is not this machine's; more are closed.
const MOST_OF_ADDRESS: usize = 64;
/// For the head of a request, which is short.
const SECONDS_OF_HEAD: Duration = Duration::from_secs(10);
/// Bodies of the largest size in memory at once, or more smaller ones; others wait.
const MOST_BODIES: usize = 8;
/// How often the server looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);
/// How long requests that have begun are waited for.
const FAREWELL: Duration = Duration::from_secs(5);
const USUAL_TOP_K: usize = 5;

/// What browsers are told about every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; connect-src 'self'; img-src blob:; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

struct Shared {
    desk: Desk,
    guard: Guard,
    options: Options,
    /// A permit for each KiB that bodies may take.
    bodies: Semaphore,
}

impl Shared {
    /// Waits until a body of the size that it claims, or of the most, fits beside the others.
    async fn room_for(&self, headers: &HeaderMap) -> Option<SemaphorePermit<'_>> {
        let most = self.options.most_bytes;
        let bytes = body::claimed(headers).map_or(most, |claimed| claimed.min(most as u64) as usize);
        self.bodies.acquire_many(kibibytes(bytes)).await.ok()
    }
}

fn kibibytes(bytes: usize) -> u32 {
    (bytes / 1024 + 1) as u32
}

type App = State<Arc<Shared>>;
type Answered<T> = Result<Json<T>, Declined>;

/// An answer in JSON.
struct Json<T>(T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let text = serde_json::to_string(&self.0).expect("bug: an answer that is no JSON");
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    }
}

/// A refusal as an answer.
struct Declined(Refused);

impl IntoResponse for Declined {
    fn into_response(self) -> Response {
        let (status, error) = self.0;
        (status, Json(serde_json::json!({ "error": error }))).into_response()
    }
}

impl From<Refused> for Declined {
    fn from(refused: Refused) -> Declined {
        Declined(refused)
    }
}

impl From<Refusal> for Declined {
    fn from(refusal: Refusal) -> Declined {
        Declined(match refusal {
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many requests wait: try again in a moment".into()),
            Refusal::Gone => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the learner has ended: start the server again".into())
            }
            Refusal::Said(Error::Usage(message)) => (StatusCode::UNPROCESSABLE_ENTITY, message),
            Refusal::Said(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "top-k")]
    top_k: Option<usize>,
    class: Option<String>,
}

#[derive(Serialize)]
struct Classes {
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct Answers {
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Learned {
    class: String,
    pictures: usize,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Forgotten {
    class: String,
    notes: Vec<String>,
}

async fn page() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

async fn classes(State(shared): App) -> Answered<Classes> {
    Ok(Json(Classes { classes: shared.desk.classes().await? }))
}

async fn classify(State(shared): App, request: Request) -> Answered<Answers> {
    let asked = asked(&request)?;
    let top_k = asked.top_k.unwrap_or(USUAL_TOP_K);
    if top_k == 0 {
        return Err((StatusCode::BAD_REQUEST, "top-k must be at least 1".to_string()).into());
    }
    let (_, pictures) = pictures(&shared, request).await?;
    Ok(Json(Answers { answers: shared.desk.classify(pictures, top_k).await? }))
}

async fn learn(State(shared): App, request: Request) -> Answered<Learned> {
    let asked = asked(&request)?;
    let (class, pictures) = pictures(&shared, request).await?;
    let class = named(class.or(asked.class))?;
    let n = pictures.len();
    let notes = shared.desk.learn(class.clone(), pictures).await?;
    Ok(Json(Learned { class, pictures: n, notes }))
}

async fn forget(State(shared): App, request: Request) -> Answered<Forgotten> {
    let _permit = shared.room_for(request.headers()).await;
    let (parts, body) = request.into_parts();
    match body::read(&parts.headers, body, shared.options.most_bytes, shared.options.seconds).await? {
        Sent::Content(content) if content.pictures.is_empty() => {
            let class = named(content.class)?;
            let notes = shared.desk.forget(class.clone()).await?;
            Ok(Json(Forgotten { class, notes }))
        }
        _ => Err((StatusCode::BAD_REQUEST, "this request takes {\"class\": NAME}".to_string()).into()),
    }
}

/// What stands behind the question mark.
fn asked(request: &Request) -> Result<Asked, Refused> {
    let parsed = Query::<Asked>::try_from_uri(request.uri());
    parsed.map(|Query(asked)| asked).map_err(|e| (StatusCode::BAD_REQUEST, e.body_text()))
}

fn named(class: Option<String>) -> Result<String, Refused> {
    class.ok_or_else(|| (StatusCode::BAD_REQUEST, "the class is missing: ?class=NAME, or \"class\" in the JSON".into()))
}

/// The pictures of a request and the class that its JSON names.
async fn pictures(shared: &Shared, request: Request) -> Result<(Option<String>, Vec<Picture>), Refused> {
    let _permit = shared.room_for(request.headers()).await;
    let (parts, body) = request.into_parts();
    let mut sent = body::read(&parts.headers, body, shared.options.most_bytes, shared.options.seconds).await?;
    let class = match &mut sent {
        Sent::Content(content) => content.class.take(),
        Sent::Picture(_) => None,
    };
    let frame = shared.desk.frame;
    let decoded = tokio::task::spawn_blocking(move || body::pictures(sent, frame)).await;
    let failed = |_| (StatusCode::INTERNAL_SERVER_ERROR, "bug: a picture made its decoder panic".to_string());
    Ok((class, decoded.map_err(failed)??))
}

/// The guards before every route, and what browsers are told behind it.
async fn guarded(State(shared): App, Extension(from): Extension<IpAddr>, request: Request, next: Next) -> Response {
    let open = request.uri().path() == "/";
    let mut response = match shared.guard.check(from, request.headers(), open) {
        Ok(()) => next.run(request).await,
        Err(refused) => Declined(refused).into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn unknown() -> Declined {
    let all = "GET / and /classes, POST /classify, /learn and /forget";
    Declined((StatusCode::NOT_FOUND, format!("there is no such page: there are {all}")))
}

async fn other_method() -> Declined {
    Declined((StatusCode::METHOD_NOT_ALLOWED, "GET / and /classes, POST /classify, /learn and /forget".into()))
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/classes", get(classes))
        .route("/classify", post(classify))
        .route("/learn", post(learn))
        .route("/forget", post(forget))
        .fallback(unknown)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(shared.clone(), guarded))
        .with_state(shared)
}

/// A connection of an address, until it is dropped.
struct Leaving {
    of_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut open = self.of_address.lock();
        if let Some(n) = open.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Takes connections until `stop` says so, or the learner's thread is gone.
pub(super) async fn serve(
    listener: TcpListener,
    desk: Desk,
    options: Options,
    stop: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let guard = Guard::new(options.clone(), address);
    let seconds = Duration::from_secs_f64(options.seconds);
    let room_for_bodies = Semaphore::new(MOST_BODIES * kibibytes(options.most_bytes) as usize);
    let shared = Arc::new(Shared { desk: desk.clone(), guard, options, bodies: room_for_bodies });
    let router = router(shared);
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let of_address: Arc<Mutex<HashMap<IpAddr, usize>>> = Arc::default();
    let graceful = GracefulShutdown::new();
    while !stop() && !desk.is_closed() {
        let permit = match tokio::time::timeout(TICK, connections.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            _ => continue,
        };
        let (stream, from) = match tokio::time::timeout(TICK, listener.accept()).await {
            Ok(Ok(accepted)) => accepted,
            // A client that went away before it was let in, or no free descriptors: neither ends the server.
            Ok(Err(_)) => {
                tokio::time::sleep(TICK).await;
                continue;
            }
            Err(_) => continue,
        };
        // One machine leaves room for others; behind a proxy all are of one address, this machine's.
        let open = {
            let mut open = of_address.lock();
            let n = open.entry(from.ip()).or_default();
            *n += 1;
            *n
        };
        let leaves = Leaving { of_address: of_address.clone(), address: from.ip() };
        if open > MOST_OF_ADDRESS && !from.ip().is_loopback() {
            continue;
        }
        let service = TowerToHyperService::new(router.clone().layer(Extension(from.ip())));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(seconds.min(SECONDS_OF_HEAD)).max_buf_size(64 << 10);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that breaks off is its own business.
            let _ = connection.await;
            drop((permit, leaves));
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
    Ok(())
}
