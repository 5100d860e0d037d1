//! Times SSE and WebSocket through several targets in turn, so that what else the machine does
//! hits all of them alike.

use crate::summary::Summary;
use crate::{sse, websocket};
use std::error::Error;
use std::net::SocketAddr;

/// Where to connect, and what to ask for.
pub struct Target {
    name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What stands before `/v1/…`; often nothing.
    pub prefix: String,
    /// Header lines that every request carries.
    pub headers: String,
}

struct Measured {
    name: String,
    sse_caller: sse::Caller,
    ws_caller: websocket::Caller,
    first_event: Summary,
    transit: Summary,
    echo: Summary,
}

/// Prints one JSON object: by target, `first_event`, `transit` and `echo`.
pub fn run(count: &str, targets: &[&str]) -> Result<(), Box<dyn Error>> {
    let count: usize = count.parse()?;
    let mut all = Vec::new();
    for text in targets {
        all.push(Measured::new(&Target::parse(text)?)?);
    }
    // The first tenth warms up and is not counted.
    for round in 0..count + count / 10 {
        let counted = round >= count / 10;
        for measured in &mut all {
            measured.measure(counted)?;
        }
        // Nobody always comes first.
        all.rotate_left(1);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<String> = all.iter().map(Measured::to_json).collect();
    println!("{{{}}}", rows.join(","));
    Ok(())
}

impl Target {
    /// `NAME=ADDRESS` or `NAME=ADDRESS/PREFIX`
    #[allow(clippy::disallowed_methods, reason = "the ban is keygate's; this token is made up")]
    fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let (name, place) = text.split_once('=').ok_or("a target is NAME=ADDRESS/PREFIX")?;
        let (address, prefix) = match place.split_once('/') {
            Some((address, prefix)) => (address, format!("/{prefix}")),
            None => (place, String::new()),
        };
        let token = std::env::var("BENCH_TOKEN").unwrap_or_default();
        let origin = std::env::var("BENCH_ORIGIN").unwrap_or_default();
        Ok(Self {
            name: name.to_owned(),
            address: address.parse()?,
            prefix,
            headers: format!(
                "Host: {address}\r\nAuthorization: Bearer {token}\r\nOrigin: {origin}\r\n"
            ),
        })
    }
}

impl Measured {
    fn new(target: &Target) -> Result<Self, Box<dyn Error>> {
        let named = |error| format!("{}: {error}", target.name);
        Ok(Self {
            name: target.name.clone(),
            sse_caller: sse::Caller::new(target).map_err(named)?,
            ws_caller: websocket::Caller::new(target).map_err(named)?,
            first_event: Summary::default(),
            transit: Summary::default(),
            echo: Summary::default(),
        })
    }

    fn measure(&mut self, counted: bool) -> Result<(), Box<dyn Error>> {
        let named = |error| format!("{}: {error}", self.name);
        let timing = self.sse_caller.ask().map_err(named)?;
        let echo = self.ws_caller.ask().map_err(named)?;
        if counted {
            self.first_event.add(timing.first_event);
            timing.transits.iter().for_each(|transit| self.transit.add(*transit));
            self.echo.add(echo);
        }
        Ok(())
    }

    fn to_json(&self) -> String {
        format!(
            r#""{}":{{"first_event":{},"transit":{},"echo":{}}}"#,
            self.name,
            self.first_event.to_json(),
            self.transit.to_json(),
            self.echo.to_json()
        )
    }
}
