//! What looking for a model in a JSON body costs: small ones by the call, large ones by the byte.

mod table;
mod timing;

use http::Method;
use keygate::body::json_model::{Wanted, scan};
use keygate::provider::BodyPlaces;
use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SMALL: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}"#;
/// The longest that is searched.
const LARGE: usize = 60 << 10;
const MODEL: &str = r#""model":"gpt-4o-mini""#;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = match table::openai(&Method::POST, "/v1/responses")? {
        BodyPlaces::Json { main, further, .. } => Wanted { main, configured: None, further },
        other => return Err(format!("bodies of JSON have places, not {other:?}").into()),
    };
    let ns = time(SMALL, 1_000, &wanted)?;
    timing::report(format_args!("json_model, {} bytes: {ns:.0} ns", SMALL.len()))?;
    for (what, body) in
        [("one long text", text()), ("many short messages", messages()), ("numbers", numbers())]
    {
        let ns = time(&body, 4, &wanted)?;
        let rate = body.len() as f64 / ns * 1e3;
        let (kib, us) = (body.len() >> 10, ns / 1e3);
        timing::report(format_args!("json_model, {kib} KiB, {what}: {rate:.0} MB/s ({us:.1} µs)"))?;
    }
    Ok(())
}

fn time(body: &str, calls: usize, wanted: &Wanted<'static>) -> Result<f64, String> {
    timing::median_ns(calls, || {
        for _ in 0..calls {
            let found = scan(black_box(body.as_bytes()), wanted.clone());
            let named = found.as_ref().is_ok_and(|f| f.main.iter().any(|m| &**m == "gpt-4o-mini"));
            if !black_box(named) {
                return Err(format!("the model was not found: {found:?}"));
            }
        }
        Ok(())
    })
}

/// A document in one message, as prompts with a file in them are; a line break every 80 bytes.
fn text() -> String {
    let line = format!("{}\\n", "the quick brown fox jumps over the lazy dog ".repeat(2));
    let content = line.repeat(LARGE / line.len());
    format!(r#"{{"messages":[{{"role":"user","content":"{content}"}}],{MODEL}}}"#)
}

/// A long conversation.
fn messages() -> String {
    let one = r#"{"role":"user","content":"what is that?"},"#;
    let all = one.repeat(LARGE / one.len());
    format!(r#"{{"messages":[{}],{MODEL}}}"#, all.trim_end_matches(','))
}

/// Tokens by number, as embeddings take them.
fn numbers() -> String {
    let mut all = String::new();
    for number in 0..LARGE / 6 {
        // Writing to a String can't fail.
        let _ = write!(all, "{},", 10_000 + number);
    }
    format!(r#"{{"input":[{}],{MODEL}}}"#, all.trim_end_matches(','))
}
