//! A web page and a small JSON interface in front of something that classifies pictures and learns new ones.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /` | | the page |
//! | `GET /classes` | | `{"classes": [{"name", "pictures"}]}` |
//! | `POST /classify?top-k=5` | a picture, or `{"pictures": [base64, …]}` | `{"answers": [{"classes": [{"name", "confidence"}], "is_known": true, "nearest": {"file", "class", "similarity"}}]}` |
//! | `POST /learn?class=NAME` | a picture, or `{"class", "pictures": [base64, …], "names": […]}` | `{"class", "pictures", "notes"}` |
//! | `POST /forget` | `{"class"}` | `{"class", "notes"}` |
//!
//! What is refused is answered by `{"error"}` and a status of 400 or more. Guards, all before a body is read:
//! - **Where from.** `Host` must be a name of this address, so that no page of another name that was bent to 127.0.0.1 (DNS rebinding)
//!   is listened to; a request that a browser makes for another page (`Origin`, `Sec-Fetch-Site`) is refused, and so are bodies of the
//!   types that a form sends.
//! - **Who.** With a token, everything but the page wants `Authorization: Bearer TOKEN`. Without one, only a loopback address is served.
//! - **How much.** Bytes of a body, bodies at once, connections, seconds for a head and a body, requests per second and address,
//!   requests that wait.
//!
//! One thread owns what answers ([`Served`]); pictures that wait are classified together.

mod body;
mod desk;
mod guard;
mod http;
mod kept;

use crate::data::pictures::Frame;
use crate::error::{Error, Result};
use crate::session::Picture;
pub use kept::Kept;
use serde::Serialize;
use std::net::TcpListener;

/// A class as the server tells of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class {
    /// What a person calls it.
    pub name: String,
    /// Pictures it was learned from.
    pub pictures: usize,
}

/// A class that a picture may show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// What a person calls it.
    pub name: String,
    /// From 0 to 1.
    pub confidence: f64,
}

/// What is said of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The likeliest first.
    pub classes: Vec<Guess>,
    /// False if it is likely none of them.
    pub is_known: bool,
    /// The reason.
    pub nearest: Option<Nearest>,
}

/// A known picture that is near.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// What its file was called.
    pub file: String,
    /// Its class.
    pub class: String,
    /// −1 to 1.
    pub similarity: f32,
}

/// What the server needs of a learner.
pub trait Served: Send {
    /// What pictures are fitted to.
    fn frame(&self) -> Frame;

    /// The classes that it knows.
    fn classes(&self) -> Vec<Class>;

    /// The answers to some pictures, at most `top_k` classes each.
    ///
    /// # Errors
    /// If it knows no class, or the device refuses.
    fn classify(&mut self, pictures: &[Picture], top_k: usize) -> Result<Vec<Answer>>;

    /// Learns pictures of a class, which may be new, and keeps that on disk. Returns what a person should know.
    ///
    /// # Errors
    /// [`Error::Usage`] for what the class or its pictures cannot be; another if it cannot be kept. Nothing is learned then.
    fn learn(&mut self, class: &str, pictures: Vec<Picture>) -> Result<Vec<String>>;

    /// Forgets a class, and keeps that on disk. Returns what a person should know.
    ///
    /// # Errors
    /// As [`Served::learn`].
    fn forget(&mut self, class: &str) -> Result<Vec<String>>;
}

/// What a server grants.
#[derive(Clone, Debug)]
pub struct Options {
    /// What requests must show; needed for other addresses than loopback ones.
    pub token: Option<String>,
    /// Bytes of a body.
    pub most_bytes: usize,
    /// Requests of one address per second; four times as many at once.
    pub rate: f64,
    /// Seconds that a head, and after it a body, may take.
    pub seconds: f64,
}

impl Default for Options {
    fn default() -> Options {
        Options { token: None, most_bytes: 32 << 20, rate: 100.0, seconds: 30.0 }
    }
}

/// The shortest token.
const LEAST_OF_TOKEN: usize = 16;

impl Options {
    /// Whether an address can be served like this.
    ///
    /// # Errors
    /// [`Error::Usage`] if it needs a token, or this one can be guessed.
    pub fn check(&self, listener: &TcpListener) -> Result<()> {
        let local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        match &self.token {
            None if !local => Err(Error::usage(
                "--host: others can reach this address, so it needs a token: --token TEXT, or ENGRAM_TOKEN in the environment",
            )),
            Some(token) if token.len() < LEAST_OF_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                let message =
                    format!("--token: it needs {LEAST_OF_TOKEN} letters, digits or signs at least, and no spaces");
                Err(Error::usage(message))
            }
            _ => Ok(()),
        }
    }
}

/// Answers requests until `stop` says so; then those that have begun are answered, for a few seconds at most.
///
/// # Errors
/// As [`Options::check`]; if the system gives no threads or sockets.
pub fn run(listener: TcpListener, served: Box<dyn Served>, options: Options, stop: &dyn Fn() -> bool) -> Result<()> {
    options.check(&listener)?;
    let failed = |action| Error::io("the server", action);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .map_err(failed("start its threads"))?;
    let (desk, worker) = desk::open(served).map_err(failed("start its threads"))?;
    let served = runtime.block_on(http::serve(listener, desk, options, stop)).map_err(failed("listen"));
    // Threads that decode a picture or wait for a slow client are not waited for.
    runtime.shutdown_background();
    let ended = worker.join().map_err(|_| Error::Training("bug: the thread of the learner panicked".into()));
    served.and(ended)
}
