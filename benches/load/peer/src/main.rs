//! What keygate is measured against, and the ends it is measured between.
//!
//! One binary with three modes, so that two builds of it (cargo's default release settings, and
//! keygate's profile with mimalloc) differ in nothing but the build.

mod answer;
mod clock;
mod latency;
mod passthrough;
mod sse;
mod streaming_upstream;
mod summary;
mod websocket;

use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage:
  peer passthrough LISTEN UPSTREAM [CERT KEY]
                                        a bare Pingora passthrough, with TLS and HTTP/2 if it has a
                                        certificate
  peer streaming-upstream LISTEN        answers with SSE events, echoes WebSocket frames
  peer latency COUNT NAME=ADDRESS/PREFIX...
                                        times both through each target, prints JSON;
                                        BENCH_TOKEN and BENCH_ORIGIN are sent along";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["passthrough", listen, upstream] => passthrough::run(listen, upstream, None),
        ["passthrough", listen, upstream, cert, key] => {
            passthrough::run(listen, upstream, Some((cert, key)))
        }
        ["streaming-upstream", listen] => streaming_upstream::run(listen),
        ["latency", count, targets @ ..] if !targets.is_empty() => latency::run(count, targets),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
