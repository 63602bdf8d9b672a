//! Downloads from a local test server that answers correctly, wrongly, or not at all.

use crate::common::complaint;
use crate::common::program::{engram, fails, names, succeeds};
use engram::data::fetch::{Download, Silent, Watcher, download, unpack};
use engram::data::files::{FileSpec, SUMS, md5_of, md5_of_bytes};
use engram::rng::{Purpose, Rng};
use engram::{Error, Result};
use flate2::{Compression, write::GzEncoder};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

static NEVER: AtomicBool = AtomicBool::new(false);

// ------------------------------------------------------------------------------------------------------------- server

/// What a client asked for: the path, and the first byte it wants if it said so.
type Asked = (String, Option<usize>);

/// A server on a port of its own, until the test process ends.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers each request with the bytes that `answer` returns, headers and all, and closes the connection.
    fn new(answer: impl Fn(&Asked) -> Vec<u8> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let record = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some((asked, mut stream)) = stream.ok().and_then(request) else { continue };
                record.lock().unwrap().push(asked.clone());
                // A client may have heard enough before the end.
                let _ = stream.write_all(&answer(&asked));
            }
        });
        Server { url, asked }
    }

    fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().iter().map(|(_, from)| *from).collect()
    }
}

fn request(stream: TcpStream) -> Option<(Asked, TcpStream)> {
    let (mut path, mut from) = (String::new(), None);
    for line in BufReader::new(stream.try_clone().ok()?).lines() {
        let line = line.ok()?;
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next()?.to_string();
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    Some(((path, from), stream))
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn whole(body: &[u8]) -> Vec<u8> {
    reply("200 OK", &format!("Content-Length: {}\r\n", body.len()), body)
}

/// The rest from `from`, as a good server sends it.
fn rest(body: &[u8], from: usize) -> Vec<u8> {
    let (n, total) = (body.len() - from, body.len());
    let headers = format!("Content-Length: {n}\r\nContent-Range: bytes {from}-{}/{total}\r\n", total - 1);
    reply("206 Partial Content", &headers, &body[from..])
}

fn good(body: &[u8], asked: &Asked) -> Vec<u8> {
    asked.1.map_or_else(|| whole(body), |from| rest(body, from))
}

/// A server that does everything right.
fn good_server(body: Vec<u8>) -> Server {
    Server::new(move |asked| good(&body, asked))
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

// -------------------------------------------------------------------------------------------------------------- client

/// Bytes that do not compress, as gzip: some 200 kB.
fn payload(seed: u64) -> Vec<u8> {
    let mut rng = Rng::keyed(seed, Purpose::Test, 0);
    let noise: Vec<u8> = (0..50_000).flat_map(|_| rng.bits().to_le_bytes()).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&noise).unwrap();
    encoder.finish().unwrap()
}

fn item(body: &[u8]) -> Download {
    Download { name: "file.gz".into(), bytes: body.len() as u64, md5: md5_of_bytes(body) }
}

fn fetch(body: &[u8], mirrors: &[&str], dir: &TempDir) -> Result<PathBuf> {
    let mirrors: Vec<String> = mirrors.iter().map(|url| url.to_string()).collect();
    download(&item(body), &mirrors, dir.path(), &mut Silent, &NEVER)
}

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The file is there, right, and nothing lies beside it.
#[track_caller]
fn arrived(result: Result<PathBuf>, body: &[u8], dir: &TempDir) {
    let path = result.unwrap();
    assert_eq!(names(dir.path()), ["file.gz"]);
    assert!(std::fs::read(path).unwrap() == body, "other bytes arrived");
}

// ------------------------------------------------------------------------------------------------------------ one file

#[test]
fn a_file_arrives_whole_and_is_not_fetched_twice() {
    let (dir, body) = (temp(), payload(1));
    let server = good_server(body.clone());
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    assert_eq!(server.asked(), [None], "the second time nothing is asked for");
    assert_eq!(server.asked.lock().unwrap()[0].0, "/file.gz");

    // A damaged file under the right name is fetched anew.
    std::fs::write(dir.path().join("file.gz"), vec![7; body.len()]).unwrap();
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    assert_eq!(server.asked(), [None, None]);
}

#[test]
fn a_download_goes_on_where_it_ended() {
    let (dir, body) = (temp(), payload(2));
    let server = good_server(body.clone());
    std::fs::write(dir.path().join("file.gz.part"), &body[..70_001]).unwrap();
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    assert_eq!(server.asked(), [Some(70_001)]);

    // All bytes are there, only the name is not: no server is needed.
    std::fs::rename(dir.path().join("file.gz"), dir.path().join("file.gz.part")).unwrap();
    arrived(fetch(&body, &[&nobody()], &dir), &body, &dir);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let (dir, body) = (temp(), payload(3));
    let copy = body.clone();
    let server = Server::new(move |_| whole(&copy));
    std::fs::write(dir.path().join("file.gz.part"), &body[..1000]).unwrap();
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    assert_eq!(server.asked(), [Some(1000)]);
}

#[test]
fn a_wrong_beginning_is_noticed_and_fetched_anew_once() {
    let (dir, body) = (temp(), payload(4));
    let server = good_server(body.clone());
    for beginning in [vec![1; 500], vec![1; body.len()], vec![1; body.len() + 9]] {
        std::fs::write(dir.path().join("file.gz.part"), &beginning).unwrap();
        let _ = std::fs::remove_file(dir.path().join("file.gz"));
        arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    }
    assert_eq!(server.asked(), [Some(500), None, None, None]);

    // Where the server's file is wrong too, it ends there.
    let (dir, wrong) = (
        temp(),
        good_server({
            let mut other = body.clone();
            other[5000] ^= 1;
            other
        }),
    );
    std::fs::write(dir.path().join("file.gz.part"), &body[..500]).unwrap();
    complaint(fetch(&body, &[&wrong.url], &dir), &["file.gz", "another file: its MD5 is", &md5_of_bytes(&body)]);
    assert_eq!(wrong.asked(), [Some(500), None]);
    assert_eq!(names(dir.path()), [] as [&str; 0], "nothing wrong is kept");
}

#[test]
fn broken_connections_are_taken_up_again() {
    let (dir, body) = (temp(), payload(5));
    let copy = body.clone();
    // Each answer promises the rest and ends after 60,000 bytes.
    let server = Server::new(move |asked| {
        let answer = good(&copy, asked);
        answer[..answer.len().min(60_000)].to_vec()
    });
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    let asked = server.asked();
    assert_eq!((asked.len(), asked[0]), (4, None));
    assert!(asked.windows(2).all(|pair| pair[0] < pair[1]), "each goes on after the last: {asked:?}");

    // One that breaks after the headers is not asked for ever; what there was is kept for the next mirror.
    let (dir, copy) = (temp(), body.clone());
    let short = Server::new(move |asked| good(&copy, asked)[..200].to_vec());
    std::fs::write(dir.path().join("file.gz.part"), &body[..90_000]).unwrap();
    complaint(fetch(&body, &[&short.url], &dir), &["broke off after 90", "of 200"]);
    assert_eq!(names(dir.path()), ["file.gz.part"]);
    let next = good_server(body.clone());
    arrived(fetch(&body, &[&short.url, &next.url], &dir), &body, &dir);
    assert!(next.asked()[0] > Some(90_000 - 1));
}

#[test]
fn every_mirror_that_refuses_is_named_with_its_reason() {
    let (dir, body) = (temp(), payload(6));
    let html = b"<html>Please log in to this hotel's network</html>";
    let page = Server::new(move |_| reply("200 OK", "Content-Type: text/html; charset=utf-8\r\n", html));
    let unnamed_page = Server::new(move |_| reply("200 OK", "", html));
    let gone = Server::new(|_| reply("404 Not Found", "Content-Length: 0\r\n", b""));
    let broken = Server::new(|_| reply("503 Service Unavailable", "Content-Length: 0\r\n", b""));
    let short = good_server(payload(6)[..1000].to_vec());
    let long = {
        let mut longer = body.clone();
        longer.extend_from_slice(b"and more");
        Server::new(move |_| reply("200 OK", "", &longer))
    };
    let silent = Server::new(|_| Vec::new());
    let garbled = Server::new(|_| b"nonsense\r\n\r\n".to_vec());
    let refused = nobody();
    let reasons = [
        (refused.as_str(), "refused"),
        (&page.url, "a web page instead of the file"),
        (&unnamed_page.url, "no gzip data"),
        (&gone.url, "HTTP 404 Not Found"),
        (&broken.url, "HTTP 503 Service Unavailable"),
        (&short.url, "its file has 1,000 bytes, expected 200,"),
        (&long.url, "sends more than the 200,"),
        (&silent.url, ""),
        (&garbled.url, ""),
    ];
    let mirrors: Vec<&str> = reasons.iter().map(|(url, _)| *url).collect();
    let message = complaint(fetch(&body, &mirrors, &dir), &["file.gz could not be downloaded"]);
    for (url, reason) in reasons {
        let line = message.lines().find(|line| line.contains(url)).unwrap_or_else(|| panic!("no {url} in {message}"));
        assert!(line.to_lowercase().contains(&reason.to_lowercase()) && line.len() > url.len() + 12, "{line}");
    }
    assert_eq!(names(dir.path()), [] as [&str; 0], "nothing half-named is left");
    // The same mirrors, and then one that has it.
    let last = good_server(body.clone());
    arrived(fetch(&body, &[&mirrors[..], &[&last.url]].concat(), &dir), &body, &dir);
}

#[test]
fn bad_answers_do_not_spoil_what_has_arrived() {
    let (dir, body) = (temp(), payload(7));
    let part = dir.path().join("file.gz.part");
    std::fs::write(&part, &body[..5000]).unwrap();
    let page = Server::new(|_| reply("200 OK", "Content-Type: text/html\r\n", b"<html>no</html>"));
    let elsewhere = {
        let copy = body.clone();
        Server::new(move |_| rest(&copy, 4000))
    };
    let unnamed = Server::new(|_| reply("206 Partial Content", "Content-Length: 3\r\n", b"abc"));
    let message = complaint(fetch(&body, &[&page.url, &elsewhere.url, &unnamed.url], &dir), &["web page"]);
    assert!(message.contains("the bytes from 4000, asked for those from 5000"), "{message}");
    assert!(message.contains("does not name"), "{message}");
    assert!(std::fs::read(&part).unwrap() == body[..5000]);
}

#[test]
fn redirects_are_followed_and_keep_the_range() {
    let (dir, body) = (temp(), payload(8));
    let target = good_server(body.clone());
    let location = format!("Location: {}elsewhere/file.gz\r\nContent-Length: 0\r\n", target.url);
    let server = Server::new(move |_| reply("302 Found", &location, b""));
    std::fs::write(dir.path().join("file.gz.part"), &body[..5000]).unwrap();
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    assert_eq!(*target.asked.lock().unwrap(), [("/elsewhere/file.gz".to_string(), Some(5000))]);

    let circle = Server::new(|_| reply("302 Found", "Location: /round\r\nContent-Length: 0\r\n", b""));
    complaint(fetch(&payload(9), &[&circle.url], &dir), &["redirects"]);
}

/// Counts events; sets the flag after some bytes.
struct Counter<'a> {
    events: Vec<String>,
    stop_after: u64,
    stop: &'a AtomicBool,
}

impl Watcher for Counter<'_> {
    fn started(&mut self, name: &str, _url: &str, from: u64, bytes: u64) {
        self.events.push(format!("{name} {from} {bytes}"));
    }
    fn reached(&mut self, position: u64) {
        self.stop.store(position >= self.stop_after, Relaxed);
    }
    fn stopped(&mut self) {
        self.events.push("stopped".into());
    }
}

#[test]
fn an_interrupted_download_is_kept_and_watched() {
    let (dir, body, stop) = (temp(), payload(10), AtomicBool::new(false));
    let server = good_server(body.clone());
    let mut counter = Counter { events: Vec::new(), stop_after: 50_000, stop: &stop };
    let result = download(&item(&body), std::slice::from_ref(&server.url), dir.path(), &mut counter, &stop);
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(names(dir.path()), ["file.gz.part"]);
    let kept = std::fs::read(dir.path().join("file.gz.part")).unwrap();
    assert!(kept.len() >= 50_000 && kept == body[..kept.len()]);
    assert_eq!(counter.events, [format!("file.gz 0 {}", body.len()), "stopped".into()]);
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
    assert_eq!(server.asked(), [None, Some(kept.len())]);
}

#[test]
fn two_processes_do_not_fetch_the_same_file() {
    let (dir, body) = (temp(), payload(11));
    let part = std::fs::File::create(dir.path().join("file.gz.part")).unwrap();
    part.lock().unwrap();
    let server = good_server(body.clone());
    complaint(fetch(&body, &[&server.url], &dir), &["file.gz.part", "another process"]);
    assert_eq!(server.asked(), []);
    drop(part);
    arrived(fetch(&body, &[&server.url], &dir), &body, &dir);
}

// ------------------------------------------------------------------------------------------------------------- archives

const WANTED: &[FileSpec] = &[
    FileSpec { name: "a.bin", bytes: 5, md5: None, gz: None },
    FileSpec { name: "names.txt", bytes: 3, md5: None, gz: None },
];

fn tar_gz(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Names as a hostile archive has them: set_path would refuse "..".
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn archives_are_unpacked_whole_or_not_at_all() {
    let dir = temp();
    let (archive, into) = (dir.path().join("archive.tar.gz"), dir.path().join("into"));
    std::fs::create_dir(&into).unwrap();
    let bytes = tar_gz(&[("folder/readme.html", b"<html>"), ("folder/a.bin", b"12345"), ("folder/names.txt", b"x\ny")]);
    std::fs::write(&archive, &bytes).unwrap();
    unpack(&archive, WANTED, &into).unwrap();
    assert_eq!(names(&into), [SUMS, "a.bin", "names.txt"]);
    assert_eq!(std::fs::read(into.join("a.bin")).unwrap(), b"12345");
    let sums = std::fs::read_to_string(into.join(SUMS)).unwrap();
    assert_eq!(sums.lines().next().unwrap(), format!("{}  a.bin", md5_of(&into.join("a.bin")).unwrap()));

    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let refused = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&archive, bytes).unwrap();
        complaint(unpack(&archive, WANTED, &other), words);
        assert_eq!(names(&other), [] as [&str; 0], "a failure leaves nothing");
    };
    refused(&tar_gz(&[("a.bin", b"12345")]), &["archive.tar.gz", "does not hold names.txt"]);
    refused(&tar_gz(&[("a.bin", b"1234"), ("names.txt", b"x\ny")]), &["a.bin should have 5 bytes", "found 4"]);
    refused(&tar_gz(&[("names.txt", b"x\ny"), ("a.bin", b"123456")]), &["a.bin should have 5 bytes", "found more"]);
    refused(&bytes[..bytes.len() / 2], &["damaged archive"]);
    refused(b"<html>", &["damaged archive"]);

    // Names that point elsewhere lead nowhere else: only the last part counts.
    std::fs::write(&archive, tar_gz(&[("../../a.bin", b"12345"), ("/etc/names.txt", b"x\ny")])).unwrap();
    unpack(&archive, WANTED, &other).unwrap();
    assert_eq!(names(&other), [SUMS, "a.bin", "names.txt"]);
    assert_eq!(names(dir.path()), ["archive.tar.gz", "into", "other"]);
}

// ---------------------------------------------------------------------------------------------------------- the program

#[test]
fn without_a_network_the_message_says_what_to_put_where() {
    let dir = temp();
    let run = engram(&dir, &format!("datasets fetch fashion-mnist --data-dir data --mirror {}", nobody()));
    let (message, err) = (run.message(), run.err);
    assert_eq!(run.code, 1, "{err}");
    let folder = format!("{}", Path::new("data").join("fashion-mnist").display());
    for words in [
        "error: train-images-idx3-ubyte.gz could not be downloaded",
        "refused",
        &folder,
        "26,421,880 bytes",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "5,148 bytes",
        "verify fashion-mnist",
        "--mirror URL",
    ] {
        assert!(message.contains(words), "no {words:?} in {err}");
    }
    assert!(!err.contains(['\r', '\u{1b}']), "no bar where stderr is no terminal: {err:?}");
    assert_eq!(names(dir.path().join("data/fashion-mnist")), [] as [&str; 0]);

    let err = engram(&dir, &format!("datasets fetch cifar-100 --mirror {}", nobody())).err;
    for words in
        ["cifar-100-binary.tar.gz", "168,513,733 bytes", "03b5dce01913d631647c71ecec9e9cb8", "run this command again"]
    {
        assert!(err.contains(words), "no {words:?} in {err}");
    }
    assert!(succeeds(&dir, "datasets fetch glyphs").err.contains("built in"));
    fails(&dir, "datasets fetch imagenet", 2, &["imagenet"]);
    fails(&dir, "datasets fetch mnist --mirror example.org", 2, &["https://"]);
}

/// The real files of MNIST, where the tests have them, through a server and back.
#[test]
fn mnist_is_fetched_verified_and_run() {
    let Some(real) = std::env::var_os("ENGRAM_DATA_DIR").map(|dir| Path::new(&dir).join("mnist")) else {
        let line = "SKIPPED: mnist_is_fetched_verified_and_run needs ENGRAM_DATA_DIR, see datasets/README.md";
        writeln!(std::io::stderr(), "{line}").unwrap();
        return;
    };
    let dir = temp();
    let n = Arc::new(AtomicUsize::new(0));
    let count = n.clone();
    let server = Server::new(move |asked| {
        count.fetch_add(1, Relaxed);
        match std::fs::read(real.join(asked.0.trim_start_matches('/'))) {
            Ok(body) => good(&body, asked),
            Err(_) => reply("404 Not Found", "", b""),
        }
    });
    let url = server.url.trim_end_matches('/');
    let command = format!("datasets fetch mnist --data-dir data --mirror {url}");
    assert_eq!((succeeds(&dir, &command).out.lines().count(), n.load(Relaxed)), (1, 4));
    succeeds(&dir, &command);
    assert_eq!(n.load(Relaxed), 4, "everything is there");

    let out = succeeds(&dir, "datasets verify mnist --data-dir data").out;
    assert_eq!((out.lines().count(), out.matches("ok ").count()), (6, 6), "{out}");
    assert!(out.contains("60,000 of 10 classes, 5,421 to 6,742 of each, 1x28x28"), "{out}");

    // One byte of one file is wrong: it is found, and only that file is fetched again.
    let labels = dir.path().join("data/mnist/t10k-labels-idx1-ubyte.gz");
    let mut bytes = std::fs::read(&labels).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&labels, bytes).unwrap();
    let run = engram(&dir, "datasets verify mnist --data-dir data");
    assert_eq!(run.code, 1);
    assert!(run.out.contains("t10k-labels-idx1-ubyte.gz: its MD5 is"), "{}", run.out);
    succeeds(&dir, &command);
    assert_eq!(n.load(Relaxed), 5);
    succeeds(&dir, "datasets verify mnist --data-dir data");
}

/// A process may write so many blocks and no more: as good as a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_leaves_only_the_part() {
    use crate::common::program::{Outcome, PROGRAM, finish, process};
    let dir = temp();
    let server = Server::new(|_| {
        let mut body = payload(12);
        body.resize(9_912_422, 0);
        whole(&body)
    });
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec '{PROGRAM}' datasets fetch mnist --data-dir data --mirror {}",
        server.url
    );
    let mut shell = process("sh", &dir);
    shell.args(["-c", &script]);
    let Outcome { code, err, .. } = finish(shell);
    assert_eq!(code, 1, "{err}");
    for words in ["train-images-idx3-ubyte.gz.part: cannot write", "more bytes are needed", "free some space"] {
        assert!(err.contains(words), "no {words:?} in {err}");
    }
    assert_eq!(names(dir.path().join("data/mnist")), ["train-images-idx3-ubyte.gz.part"]);
    assert_eq!(server.asked().len(), 1, "a full disk is no reason to try another mirror");
}
