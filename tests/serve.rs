//! The server under what clients do: 100 at once, bodies that are too large or end early, pages of other sites, wrong tokens. What
//! answers is a stand-in that tells pictures by their brightness, quickly and exactly.

mod common;

use engram::data::pictures::Frame;
use engram::error::{Error, Result};
use engram::serve::{self, Answer, Class, Guess, Options, Served};
use engram::session::Picture;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Sums of brightness and counts by class.
#[derive(Default)]
struct Brightness {
    classes: BTreeMap<String, (f64, usize)>,
    /// Calls of `classify`.
    n_calls: Arc<AtomicUsize>,
    slow: Duration,
}

/// In 0..=1.
fn brightness(picture: &Picture) -> f64 {
    picture.pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / (255.0 * picture.pixels.len() as f64)
}

impl Served for Brightness {
    fn frame(&self) -> Frame {
        [1, 8, 8].into()
    }

    fn classes(&self) -> Vec<Class> {
        self.classes.iter().map(|(name, (_, n))| Class { name: name.clone(), pictures: *n }).collect()
    }

    fn classify(&mut self, pictures: &[Picture], top_k: usize) -> Result<Vec<Answer>> {
        self.n_calls.fetch_add(1, SeqCst);
        std::thread::sleep(self.slow);
        if self.classes.is_empty() {
            return Err(Error::usage("no class has been learned"));
        }
        let answer = |picture: &Picture| {
            let brightness = brightness(picture);
            let near = |(sum, n): &(f64, usize)| ((1.0 - (sum / *n as f64 - brightness).abs()) * 1e6).round() / 1e6;
            let mut classes: Vec<Guess> = self
                .classes
                .iter()
                .map(|(name, class)| Guess { name: name.clone(), confidence: near(class) })
                .collect();
            classes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
            let is_known = classes[0].confidence >= 0.9;
            classes.truncate(top_k);
            Answer { classes, is_known, nearest: None }
        };
        Ok(pictures.iter().map(answer).collect())
    }

    fn learn(&mut self, class: &str, pictures: Vec<Picture>) -> Result<Vec<String>> {
        if class.is_empty() {
            return Err(Error::usage("a class needs a name"));
        }
        assert_ne!(class, "panic", "asked for");
        let (sum, n) = self.classes.entry(class.into()).or_default();
        *sum += pictures.iter().map(brightness).sum::<f64>();
        *n += pictures.len();
        Ok(vec![])
    }

    fn forget(&mut self, class: &str) -> Result<Vec<String>> {
        let known = self.classes.remove(class);
        known.map(|_| Vec::new()).ok_or_else(|| Error::usage(format!("there is no class '{class}'")))
    }
}

/// A server that ends with the test.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    fn start(served: Brightness, options: Options) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let own = stop.clone();
        let thread = std::thread::spawn(move || serve::run(listener, Box::new(served), options, &|| own.load(SeqCst)));
        Server { address, stop, thread: Some(thread) }
    }

    /// Ends it as Ctrl-C does.
    fn end(&mut self) -> Result<()> {
        self.stop.store(true, SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads until the server closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A server that refuses a body may close before all of it is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// One request: the status, and the answer's JSON.
    fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        let mut head = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let answer = self.raw(&[head.as_bytes(), b"\r\n", body].concat());
        (status(&answer), json_of(&answer))
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> (u16, Value) {
        self.ask(&format!("POST {path}"), &[("Content-Type", kind)], body)
    }

    fn teach(&self, class: &str, brightness: u8) {
        let (status, answer) = self.post(&format!("/learn?class={class}"), "image/png", &png(brightness));
        assert_eq!((status, &answer["pictures"]), (200, &json!(1)), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn json_of(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or(Value::Null)
}

fn png(brightness: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(&[brightness; 64], 8, 8, ExtendedColorType::L8).unwrap();
    bytes
}

fn quick() -> Options {
    Options { seconds: 1.0, most_bytes: 1 << 20, ..Options::default() }
}

#[test]
fn classes_are_learned_asked_for_and_forgotten() {
    use base64::Engine as _;
    let server = Server::start(Brightness::default(), quick());
    let (status, answer) = server.post("/classify", "image/png", &png(9));
    assert_eq!((status, answer), (422, json!({"error": "no class has been learned"})));
    server.teach("dark", 10);
    let text = |brightness| base64::engine::general_purpose::STANDARD.encode(png(brightness));
    let body = json!({"class": "bright & light", "pictures": [text(240), text(250)]}).to_string();
    let (status, answer) = server.post("/learn", "application/json; charset=utf-8", body.as_bytes());
    assert_eq!((status, answer), (200, json!({"class": "bright & light", "pictures": 2, "notes": []})));
    let (status, answer) = server.ask("GET /classes", &[], b"");
    let known = json!([{"name": "bright & light", "pictures": 2}, {"name": "dark", "pictures": 1}]);
    assert_eq!((status, &answer["classes"]), (200, &known));

    let (status, answer) = server.post("/classify?top-k=1", "application/octet-stream", &png(245));
    let best = json!([{"name": "bright & light", "confidence": 1.0}]);
    assert_eq!((status, answer), (200, json!({"answers": [{"classes": best, "is_known": true, "nearest": null}]})));
    let body = json!({"pictures": [text(10), text(120), text(245)]}).to_string();
    let (_, answer) = server.post("/classify", "application/json", body.as_bytes());
    let answers = answer["answers"].as_array().unwrap();
    let best: Vec<_> = answers
        .iter()
        .map(|one| (one["classes"][0]["name"].as_str().unwrap(), one["is_known"].as_bool().unwrap()))
        .collect();
    assert_eq!(best, [("dark", true), ("dark", false), ("bright & light", true)]);

    let (status, _) = server.post("/forget", "application/json", br#"{"class": "dark"}"#);
    assert_eq!(status, 200);
    let (status, answer) = server.post("/forget", "application/json", br#"{"class": "dark"}"#);
    assert_eq!((status, answer), (422, json!({"error": "there is no class 'dark'"})));
    assert_eq!(server.ask("GET /classes", &[], b"").1["classes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_hundred_clients_at_once_are_all_answered_and_classified_together() {
    const CLIENTS: usize = 100;
    let served = Brightness { slow: Duration::from_millis(20), ..Brightness::default() };
    let n_calls = served.n_calls.clone();
    let server = Server::start(served, Options::default());
    server.teach("dark", 0);
    server.teach("bright", 255);
    let barrier = Barrier::new(CLIENTS);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let (brightness, name) = if client % 2 == 0 { (3, "dark") } else { (252, "bright") };
                if client % 10 == 9 {
                    server.teach(&format!("class{client}"), 128);
                } else {
                    let (status, answer) = server.post("/classify", "image/png", &png(brightness));
                    assert_eq!((status, &answer["answers"][0]["classes"][0]["name"]), (200, &json!(name)), "{answer}");
                }
            });
        }
    });
    let calls = n_calls.load(SeqCst);
    assert!(calls < 90, "90 pictures took {calls} calls of 20 ms");
    assert_eq!(server.ask("GET /classes", &[], b"").1["classes"].as_array().unwrap().len(), 12);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn bad_input_is_refused_and_the_server_goes_on() {
    let server = Server::start(Brightness::default(), quick());
    server.teach("dark", 0);
    let picture = png(0);
    let half = &picture[..picture.len() / 2];
    let huge = vec![0; (1 << 20) + 1];
    let many = json!({"pictures": vec![""; 257]}).to_string();
    let cases: &[(&str, &str, &[u8], u16, &str)] = &[
        ("/classify", "image/png", &huge[..], 413, "1 MiB"),
        ("/classify", "image/png", b"no picture", 422, "no picture of a known kind"),
        ("/classify", "image/png", half, 422, "no readable picture"),
        ("/classify", "image/png", b"", 422, "no picture"),
        ("/classify", "text/plain", &picture, 415, "Content-Type"),
        ("/classify", "application/x-www-form-urlencoded", &picture, 415, "Content-Type"),
        ("/classify", "multipart/form-data; boundary=a", &picture, 415, "Content-Type"),
        ("/classify?top-k=0", "image/png", &picture, 400, "top-k"),
        ("/classify?top-k=-1", "image/png", &picture, 400, "top-k"),
        ("/classify?top_k=1", "image/png", &picture, 400, "top_k"),
        ("/classify", "application/json", b"{", 400, "no JSON"),
        ("/classify", "application/json", br#"{"picture": []}"#, 400, "picture"),
        ("/classify", "application/json", br#"{"pictures": []}"#, 400, "1 to 256"),
        ("/classify", "application/json", many.as_bytes(), 400, "1 to 256"),
        ("/classify", "application/json", br#"{"pictures": ["?"]}"#, 400, "base64"),
        ("/classify", "application/json", br#"{"pictures": ["AAAA"]}"#, 422, "picture"),
        ("/learn", "image/png", &picture, 400, "the class is missing"),
        ("/learn?class=", "image/png", &picture, 422, "a class needs a name"),
        ("/forget", "application/json", br#"{"class": "x"}"#, 422, "no class 'x'"),
        ("/forget", "application/json", b"{}", 400, "the class is missing"),
        ("/forget", "image/png", &picture, 400, "this request takes"),
        ("/teach", "image/png", &picture, 404, "no such page"),
        ("/classes", "image/png", &picture, 405, "GET"),
    ];
    for &(path, kind, body, expected, words) in cases {
        let (status, answer) = server.post(path, kind, body);
        assert_eq!(status, expected, "{path} {kind}: {answer}");
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{path} {kind}: no {words:?} in {error:?}");
    }
    let (status, answer) = server.ask("GET /classes", &[], b"");
    assert_eq!((status, answer), (200, json!({"classes": [{"name": "dark", "pictures": 1}]})), "nothing was learned");
}

#[test]
fn requests_that_end_early_or_never_end_cost_the_others_nothing() {
    let server = Server::start(Brightness::default(), quick());
    server.teach("dark", 0);
    let head = |length: &str| {
        format!(
            "POST /learn?class=x HTTP/1.1\r\nHost: {}\r\nContent-Type: image/png\r\n{length}\r\n\r\n",
            server.address
        )
    };
    // Closed in the middle of the body, and of the head.
    for bytes in [[head("Content-Length: 100").as_bytes(), b"half"].concat(), b"POST /learn HTT".to_vec()] {
        let mut stream = server.connect();
        stream.write_all(&bytes).unwrap();
        drop(stream);
    }
    // Silent in the middle: the time is up after a second.
    let begun = Instant::now();
    let answer = server.raw(&[head("Content-Length: 100").as_bytes(), b"half"].concat());
    assert_eq!(status(&answer), 408, "{answer}");
    server.raw(b"GET / HTTP/1.1\r\nHost: ");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // A body without a length that does not end.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
    let answer = server.raw(&[head("Transfer-Encoding: chunked").as_bytes(), chunk.repeat(20).as_bytes()].concat());
    assert_eq!(status(&answer), 413, "{answer}");
    for nonsense in ["\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}", "GET / HTTP/1.1\r\n\r\n"] {
        let answer = server.raw(nonsense.as_bytes());
        assert!([0, 400].contains(&status(&answer)), "{nonsense:?}: {answer}");
    }
    let answer = server
        .raw(format!("GET / HTTP/1.1\r\nHost: {}\r\nX: {}\r\n\r\n", server.address, "y".repeat(1 << 20)).as_bytes());
    assert!([0, 431].contains(&status(&answer)), "{answer}");
    assert_eq!(server.ask("GET /classes", &[], b"").1["classes"].as_array().unwrap().len(), 1, "x was not learned");
}

#[test]
fn the_page_is_whole_and_other_sites_are_kept_out() {
    let server = Server::start(Brightness::default(), quick());
    let host = server.address.to_string();
    let answer = server.raw(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes());
    assert_eq!(status(&answer), 200);
    let lower = answer.to_lowercase();
    for header in
        ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "cache-control: no-store"]
    {
        assert!(lower.contains(header), "{header}:\n{answer}");
    }
    let page = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("innerHTML"), "{page}");

    let picture = png(1);
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Host", "evil.example"),
    ] {
        let headers = [("Content-Type", "image/png"), (name, value)];
        let (status, answer) = server.ask("POST /learn?class=x", &headers, &picture);
        assert_eq!(status, 403, "{name}: {value}: {answer}");
    }
    let origin = format!("http://{host}");
    let headers = [("Content-Type", "image/png"), ("Origin", origin.as_str()), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(server.ask("POST /learn?class=x", &headers, &picture).0, 200);
    // A page of another site may not even ask whether it may ask.
    assert_eq!(server.ask("OPTIONS /learn", &[("Origin", "http://evil.example")], b"").0, 403);
}

#[test]
fn a_token_guards_everything_but_the_page() {
    let token = "correct-horse-battery";
    let server = Server::start(Brightness::default(), Options { token: Some(token.into()), ..quick() });
    let picture = png(1);
    let requests: [(&str, &[u8]); 3] =
        [("GET /classes", b""), ("POST /learn?class=x", &picture), ("POST /classify", &picture)];
    for (line, body) in requests {
        for wrong in [None, Some("Bearer correct-horse-batterz"), Some("correct-horse-battery")] {
            let mut headers = vec![("Content-Type", "image/png")];
            headers.extend(wrong.map(|wrong| ("Authorization", wrong)));
            let (status, answer) = server.ask(line, &headers, body);
            assert_eq!(status, 401, "{line} {wrong:?}: {answer}");
        }
    }
    assert_eq!(server.ask("GET /", &[], b"").0, 200);
    let right = format!("Bearer {token}");
    let (status, answer) = server.ask("GET /classes", &[("Authorization", &right)], b"");
    assert_eq!((status, answer), (200, json!({"classes": []})));

    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let error = Options::default().check(&everywhere).unwrap_err();
    assert!(error.to_string().contains("--token") && error.exit_code() == 2, "{error}");
    let short = Options { token: Some("short".into()), ..Options::default() };
    assert!(short.check(&everywhere).unwrap_err().to_string().contains("16"));
    assert!(Options { token: Some(token.into()), ..Options::default() }.check(&everywhere).is_ok());
}

#[test]
fn too_many_requests_are_told_to_wait() {
    let server = Server::start(Brightness::default(), Options { rate: 5.0, ..quick() });
    let statuses: Vec<u16> = (0..40).map(|_| server.ask("GET /classes", &[], b"").0).collect();
    let granted = statuses.iter().filter(|status| **status == 200).count();
    assert!((20..40).contains(&granted) && statuses.contains(&429), "{statuses:?}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.ask("GET /classes", &[], b"").0, 200);
}

#[test]
fn the_end_is_clean_and_a_panic_is_no_silence() {
    let served = Brightness { slow: Duration::from_millis(300), ..Brightness::default() };
    let mut server = Server::start(served, quick());
    server.teach("dark", 0);
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.post("/classify", "image/png", &png(0)));
        std::thread::sleep(Duration::from_millis(100));
        server.stop.store(true, SeqCst);
        asking.join().unwrap()
    });
    assert_eq!(answer.0, 200, "what had begun is answered: {}", answer.1);
    let begun = Instant::now();
    server.end().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(server.address).is_err(), "nobody listens any more");

    let mut server = Server::start(Brightness::default(), quick());
    let (status, answer) = server.post("/learn?class=panic", "image/png", &png(0));
    assert_eq!((status, &answer["error"]), (500, &json!("the learner has ended: start the server again")));
    assert!(server.end().unwrap_err().to_string().contains("panicked"));
}

/// Where there is an interrupt to end it by.
#[cfg(unix)]
mod program {
    use super::*;
    use crate::common::program::{PROGRAM, Running, fails, process, succeeds};
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    fn coloured(red: u8, number: u8) -> Vec<u8> {
        let pixels: Vec<u8> = (0..=255).flat_map(|i: u8| [red, i / 8, number]).collect();
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(&pixels, 16, 16, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    /// The program itself: a learner in its file, which holds in the end what was learned, while nobody else may change it.
    #[test]
    fn the_command_serves_a_learner_and_keeps_what_it_learns() {
        let dir = tempfile::tempdir().unwrap();
        for (class, red) in [("dark", 0), ("red", 250)] {
            let folder = dir.path().join("pictures").join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..6 {
                std::fs::write(folder.join(format!("{number}.png")), coloured(red, number)).unwrap();
            }
        }
        fails(dir.path(), "serve parts.engram --port 0", 2, &["parts.engram", "engram learn"]);
        succeeds(dir.path(), "learn parts.engram --from pictures --device cpu");
        fails(dir.path(), "serve parts.engram --port 0 --host 0.0.0.0", 2, &["--token"]);
        fails(dir.path(), "serve parts.engram --port 0 --token short", 2, &["--token", "16"]);

        let mut command = process(PROGRAM, dir.path());
        command.args(["serve", "parts.engram", "--port", "0", "--device", "cpu"]).stdout(Stdio::piped());
        let mut running = Running(command.spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "parts.engram: 2 classes, 12 pictures");
        let line = lines.next().unwrap().unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
        let server = Server { address, stop: Arc::default(), thread: None };
        let (status, answer) = server.post("/classify", "image/png", &coloured(245, 9));
        assert_eq!((status, &answer["answers"][0]["classes"][0]["name"]), (200, &json!("red")), "{answer}");
        assert_eq!(answer["answers"][0]["nearest"]["class"], "red");
        let before = std::fs::read(dir.path().join("parts.engram")).unwrap();
        for number in 0..3 {
            assert_eq!(server.post("/learn?class=half", "image/png", &coloured(120, number)).0, 200);
        }
        let (_, answer) = server.post("/learn?class=half", "image/png", &coloured(120, 0));
        assert_eq!(answer["notes"], json!(["1 picture of half known already."]));
        // A mistake that is put right moves the picture.
        let (_, answer) = server.post("/learn?class=dark", "image/png", &coloured(120, 2));
        assert_eq!(answer["notes"], json!(["1 picture moved here from another class."]));
        assert_eq!(server.post("/learn?class=%0A", "image/png", &coloured(1, 1)).0, 422);
        assert_ne!(std::fs::read(dir.path().join("parts.engram")).unwrap(), before, "kept at once");
        fails(dir.path(), "forget parts.engram dark", 2, &["parts.engram"]);

        let killed = std::process::Command::new("kill").args(["-INT", &running.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert!(running.0.wait().unwrap().success(), "Ctrl-C is the usual end");
        assert_eq!(lines.next().unwrap().unwrap(), "Stopped; what was learned is in parts.engram.");
        let inspected = succeeds(dir.path(), "inspect parts.engram --json").out;
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        let classes: Vec<(&str, u64)> = inspected["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|class| (class["name"].as_str().unwrap(), class["pictures"].as_u64().unwrap()))
            .collect();
        assert_eq!(classes, [("dark", 7), ("red", 6), ("half", 2)]);
    }
}
