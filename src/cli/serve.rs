//! `engram serve`: a learner behind a web page and a small JSON interface.

use super::{DeviceArgs, INTERRUPTED, warn};
use crate::error::{Error, Result};
use crate::report::printable;
use crate::serve::{self, Kept, Options};
use clap::Args;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Args)]
pub struct ServeArgs {
    /// The learner
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    /// The address to listen on; others than 127.0.0.1 need a token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen on; 0 takes one that is free
    #[arg(long, default_value_t = 8377)]
    port: u16,
    /// What requests must show, 16 characters or more: Authorization: Bearer TOKEN
    #[arg(long, value_name = "TOKEN", env = "ENGRAM_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Requests per second that one address may make
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Serves until Ctrl-C.
pub fn run(args: ServeArgs) -> Result<()> {
    if args.rate < 1.0 {
        return Err(Error::usage(format!("--rate {}: 1 or more", args.rate)));
    }
    let address = SocketAddr::new(args.host, args.port);
    let options = Options { token: args.token, rate: args.rate, ..Options::default() };
    let listener = TcpListener::bind(address)
        .map_err(|e| Error::usage(format!("--host {} --port {}: cannot listen there: {e}", args.host, args.port)))?;
    options.check(&listener)?;
    let (device, warning) = args.device.open()?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    let kept = Kept::open(&args.learner, &device)?;
    let (session, path) = (kept.session(), printable(&args.learner.display().to_string()));
    let address = listener.local_addr().map_err(Error::io("the server", "listen"))?;
    println!("{path}: {} classes, {} pictures", session.classes().len(), session.n_pictures());
    let token = if options.token.is_some() { "#token=TOKEN" } else { "" };
    println!("Open http://{address}/{token} in a browser. Ctrl-C ends.");
    serve::run(listener, Box::new(kept), options, &|| INTERRUPTED.load(Relaxed))?;
    println!("Stopped; what was learned is in {path}.");
    Ok(())
}
