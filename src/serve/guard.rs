//! Who may ask, from where, and how often.

use super::Options;
use axum::http::{HeaderMap, StatusCode, header};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Instant;

/// A status and what a person should know.
pub(super) type Refused = (StatusCode, String);

/// Requests at once, for a rate of one per second.
const BURST: f64 = 4.0;
/// Requests that a wrong token counts for.
const WRONG_TOKEN: f64 = 20.0;
/// Addresses that are remembered.
const MOST_ADDRESSES: usize = 10_000;

/// The guards of one server.
pub(super) struct Guard {
    options: Options,
    /// The names that this address has, if only this machine can reach it.
    hosts: Option<Vec<String>>,
    /// What each address may still ask for, and when that was.
    allowances: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Guard {
    pub fn new(options: Options, address: SocketAddr) -> Guard {
        let port = address.port();
        let names = ["127.0.0.1".to_string(), "localhost".into(), "[::1]".into(), host_of(address.ip())];
        let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        if port == 80 {
            hosts.extend(names);
        }
        let hosts = address.ip().is_loopback().then_some(hosts);
        Guard { options, hosts, allowances: Mutex::new(HashMap::new()) }
    }

    /// Whether a request may go on. `open` is for what everybody may see.
    pub fn check(&self, from: IpAddr, headers: &HeaderMap, open: bool) -> Result<(), Refused> {
        self.spend(from, 1.0)?;
        self.check_host(headers)?;
        if open { Ok(()) } else { self.check_token(from, headers) }
    }

    /// That no page of another site asks, by whatever name.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let Some(host) = text(header::HOST).filter(|_| headers.get_all(header::HOST).iter().count() == 1) else {
            return Err((StatusCode::BAD_REQUEST, "the request has no Host, or several".into()));
        };
        let known = |hosts: &Vec<String>| hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        if !self.hosts.as_ref().is_none_or(known) {
            return Err((StatusCode::FORBIDDEN, "Host is no name of this address: ask 127.0.0.1 or localhost".into()));
        }
        let same = |origin: &str| {
            let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
        };
        let own_page = text(header::ORIGIN).is_none_or(same);
        let own_site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
        match own_page && own_site {
            true => Ok(()),
            false => Err((StatusCode::FORBIDDEN, "the request comes from a page of another site".into())),
        }
    }

    fn check_token(&self, from: IpAddr, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(token) = &self.options.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if given.is_some_and(|given| is_same(given, token.as_bytes())) {
            return Ok(());
        }
        self.spend(from, WRONG_TOKEN)?;
        let message = "a token is needed: the header `Authorization: Bearer TOKEN`, or the page's address with #token=TOKEN behind it";
        Err((StatusCode::UNAUTHORIZED, message.into()))
    }

    /// Takes requests off what an address may ask for now.
    fn spend(&self, from: IpAddr, requests: f64) -> Result<(), Refused> {
        let most = BURST * self.options.rate;
        let now = Instant::now();
        let mut all = self.allowances.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refilled = |(left, since): (f64, Instant)| most.min(left + self.options.rate * (now - since).as_secs_f64());
        if all.len() >= MOST_ADDRESSES {
            all.retain(|_, allowance| refilled(*allowance) < most);
        }
        let left = all.get(&from).map_or(most, |allowance| refilled(*allowance));
        let granted = left >= 1.0 && all.len() < 2 * MOST_ADDRESSES;
        all.insert(from, (if granted { left - requests } else { left }, now));
        match granted {
            true => Ok(()),
            false => Err((StatusCode::TOO_MANY_REQUESTS, "too many requests: wait a second".into())),
        }
    }
}

/// An address as it stands in a URL.
fn host_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// In a time that says nothing about where they differ.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn guard(address: &str, token: Option<&str>, rate: f64) -> Guard {
        let options = Options { token: token.map(String::from), rate, ..Options::default() };
        Guard::new(options, address.parse().unwrap())
    }

    const ME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[track_caller]
    fn status(guard: &Guard, pairs: &[(&'static str, &str)]) -> u16 {
        guard.check(ME, &headers(pairs), false).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn names_of_other_machines_and_pages_of_other_sites_are_refused() {
        let guard = guard("127.0.0.1:8080", None, 1000.0);
        for host in ["127.0.0.1:8080", "localhost:8080", "LocalHost:8080", "[::1]:8080"] {
            assert_eq!(status(&guard, &[("host", host)]), 200, "{host}");
        }
        for host in
            ["rebound.example:8080", "127.0.0.1", "127.0.0.1:80", "localhost.example:8080", "localhost:8080@a", ""]
        {
            assert_eq!(status(&guard, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&guard, &[]), 400);
        let own = ("host", "127.0.0.1:8080");
        for (name, value, expected) in [
            ("origin", "http://127.0.0.1:8080", 200),
            ("origin", "http://localhost:8080", 403),
            ("origin", "http://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "same-origin", 200),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "cross-site", 403),
        ] {
            assert_eq!(status(&guard, &[own, (name, value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn a_token_is_wanted_by_every_name_and_wrong_ones_are_counted() {
        let token = "0123456789abcdef";
        let guard = guard("0.0.0.0:8080", Some(token), 25.0);
        let host = ("host", "camera.example:8080");
        assert_eq!(status(&guard, &[host, ("authorization", "Bearer 0123456789abcdef")]), 200);
        assert!(guard.check(ME, &headers(&[host]), true).is_ok(), "the page is for everybody");
        for wrong in ["Bearer 0123456789abcdeX", "Bearer 0123456789abcde", "Bearer ", "Basic 0123456789abcdef"] {
            assert_eq!(status(&guard, &[host, ("authorization", wrong)]), 401, "{wrong}");
        }
        // 4 × 25 requests at once, of which a wrong token takes 21.
        assert_eq!(status(&guard, &[host]), 401);
        assert_eq!(status(&guard, &[host, ("authorization", "Bearer 0123456789abcdef")]), 429);
        let other = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
        assert!(guard.check(other, &headers(&[host, ("authorization", "Bearer 0123456789abcdef")]), false).is_ok());
    }

    #[test]
    fn requests_are_granted_again_with_time() {
        let guard = guard("127.0.0.1:8080", None, 50.0);
        let own = ("host", "127.0.0.1:8080");
        let granted = (0..1000).filter(|_| status(&guard, &[own]) == 200).count();
        assert!((200..400).contains(&granted), "four seconds' worth at once, and what a moment brings: {granted}");
        assert_eq!(status(&guard, &[own]), 429);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(status(&guard, &[own]), 200);
    }
}
