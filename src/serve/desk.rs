//! The thread that owns the learner, and the queue before it.

use super::{Answer, Class, Served};
use crate::data::pictures::Frame;
use crate::error::{Error, Result};
use crate::session::Picture;
use std::thread::JoinHandle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait.
const MOST_WAITING: usize = 512;
/// Pictures of several requests that are classified together.
const MOST_TOGETHER: usize = 64;

type Reply<T> = oneshot::Sender<Result<T>>;

enum Job {
    Classes(Reply<Vec<Class>>),
    Classify(Vec<Picture>, usize, Reply<Vec<Answer>>),
    Learn(String, Vec<Picture>, Reply<Vec<String>>),
    Forget(String, Reply<Vec<String>>),
}

/// Why there is no answer.
pub(super) enum Refusal {
    /// Too many requests wait.
    Busy,
    /// The thread has ended.
    Gone,
    /// It said so.
    Said(Error),
}

/// Where requests are handed in.
#[derive(Clone)]
pub(super) struct Desk {
    jobs: mpsc::Sender<Job>,
    /// What pictures are fitted to.
    pub frame: Frame,
}

impl Desk {
    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(job(reply)).map_err(|e| match e {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Closed(_) => Refusal::Gone,
        })?;
        answer.await.map_err(|_| Refusal::Gone)?.map_err(Refusal::Said)
    }

    pub async fn classes(&self) -> Result<Vec<Class>, Refusal> {
        self.ask(Job::Classes).await
    }

    pub async fn classify(&self, pictures: Vec<Picture>, top_k: usize) -> Result<Vec<Answer>, Refusal> {
        self.ask(|reply| Job::Classify(pictures, top_k, reply)).await
    }

    pub async fn learn(&self, class: String, pictures: Vec<Picture>) -> Result<Vec<String>, Refusal> {
        self.ask(|reply| Job::Learn(class, pictures, reply)).await
    }

    pub async fn forget(&self, class: String) -> Result<Vec<String>, Refusal> {
        self.ask(|reply| Job::Forget(class, reply)).await
    }

    /// Whether the thread has ended, which it does by itself only where it panicked.
    pub fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }
}

/// Starts the thread; it ends when the last desk is dropped.
pub(super) fn open(served: Box<dyn Served>) -> std::io::Result<(Desk, JoinHandle<()>)> {
    let (jobs, waiting) = mpsc::channel(MOST_WAITING);
    let frame = served.frame();
    let worker = std::thread::Builder::new().name("learner".into()).spawn(|| work(served, waiting))?;
    Ok((Desk { jobs, frame }, worker))
}

/// A reply that nobody waits for any more is no failure: the client went away.
fn work(mut served: Box<dyn Served>, mut waiting: mpsc::Receiver<Job>) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| waiting.blocking_recv()) {
        match job {
            Job::Classes(reply) => drop(reply.send(Ok(served.classes()))),
            Job::Learn(class, pictures, reply) => drop(reply.send(served.learn(&class, pictures))),
            Job::Forget(class, reply) => drop(reply.send(served.forget(&class))),
            Job::Classify(pictures, top_k, reply) => {
                let mut together = vec![(pictures.len(), top_k, reply)];
                let mut all = pictures;
                while all.len() < MOST_TOGETHER && next.is_none() {
                    match waiting.try_recv() {
                        Ok(Job::Classify(pictures, top_k, reply)) => {
                            together.push((pictures.len(), top_k, reply));
                            all.extend(pictures);
                        }
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                classify(served.as_mut(), &all, together);
            }
        }
    }
}

fn classify(served: &mut dyn Served, all: &[Picture], together: Vec<(usize, usize, Reply<Vec<Answer>>)>) {
    let most = together.iter().map(|(_, top_k, _)| *top_k).max().unwrap_or(1);
    match served.classify(all, most) {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for (n, top_k, reply) in together {
                let mut own: Vec<Answer> = answers.by_ref().take(n).collect();
                own.iter_mut().for_each(|answer| answer.classes.truncate(top_k));
                let _ = reply.send(Ok(own));
            }
        }
        // An error is no value that can be copied: the first who asked gets it as it is.
        Err(error) => {
            let message = error.to_string();
            let mut first = Some(error);
            for (.., reply) in together {
                let _ = reply.send(Err(first.take().unwrap_or_else(|| Error::Training(message.clone()))));
            }
        }
    }
}
