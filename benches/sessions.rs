//! What a hundred thousand open sessions cost the requests beside them: the registry alone, and a
//! whole gateway under load, whose thread's processor time is read with and without them.
//!
//! A machine has no descriptors for so many sockets. The sessions are entries in the gateway's own
//! registry, as real as any but for the socket; its sweep, which looks at each twice a second, runs.

#[path = "loopback/mod.rs"]
mod loopback;
#[path = "timing/mod.rs"]
mod timing;

use keygate::app::{self, Options, Running};
use keygate::config;
use keygate::policy::Class;
use keygate::policy::permit::Ends;
use keygate::session::handle::{Handle, Substream};
use keygate::session::registry::{Entry, Live, Look, Reach, Registry};
use keygate::token::{GrantSource, Token, opaque};
use keygate::values::clock::Clock;
use keygate::values::ids::TokenDigest;
use keygate::values::timestamp::Expiry;
use loopback::{Client, DEADLINE, Outcome, request, upstream};
use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SESSIONS: usize = 100_000;
/// Longer than any benchmark: nothing is swept away.
const FAR: Duration = Duration::from_secs(86_400);

fn main() -> Outcome<()> {
    let few = Arc::new(Registry::new());
    let many = Arc::new(Registry::new());
    let token = token("bench", b"ptk_of-the-benchmark");
    let _open: Vec<Entry> = (0..sessions()).map(|_| many.enter(live(&token, 0))).collect();
    let alone = enter_and_leave(&few, &token)?;
    let beside = enter_and_leave(&many, &token)?;
    let walk = |find: &dyn Fn(&Live) -> Look| {
        let start = Instant::now();
        many.sweep(1, find);
        start.elapsed().as_secs_f64() * 1e3
    };
    let (all, none) = (walk(&|_| Look::Later(2)), walk(&|_| Look::Later(2)));
    timing::report(format_args!(
        "registry: a request enters and leaves in {alone:.0} ns alone, {beside:.0} ns beside {}; \
         a sweep takes {all:.2} ms where something may be due for each, else {none:.2}",
        sessions()
    ))?;
    under_load()
}

/// `cargo bench` gives `--bench`; without it a few prove that all of this still works.
fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn sessions() -> usize {
    if measures() { SESSIONS } else { 100 }
}

fn enter_and_leave(registry: &Arc<Registry>, token: &Arc<Token>) -> Outcome<f64> {
    timing::median_ns(64, || {
        for _ in 0..64 {
            drop(std::hint::black_box(registry.enter(live(token, 0))));
        }
        Ok(())
    })
}

fn token(id: &str, plain: &[u8]) -> Arc<Token> {
    Arc::new(Token {
        id: id.into(),
        name: id.into(),
        digest: TokenDigest::of(plain),
        expires_at: Expiry::Never,
        disabled: false,
        may_mint: false,
        grant: GrantSource::Default,
        counters: Arc::default(),
        client: None,
    })
}

/// An idle realtime session.
fn live(token: &Arc<Token>, now_ms: u64) -> Live {
    Live {
        token: token.clone(),
        reach: Reach {
            provider: "openai".into(),
            path: "/v1/realtime".into(),
            class: Class::Inference,
            method: http::Method::GET,
            model: OnceLock::new(),
            scoped: false,
        },
        handle: Handle::Substream(Arc::new(Substream::default())),
        started_ms: now_ms,
        ends: Ends { after: Some(FAR), at_ms: None }.into(),
        moved_ms: AtomicU64::new(now_ms),
        first_byte_due_ms: AtomicU64::new(0),
        models: Default::default(),
        pace: keygate::session::pace::Pace::new(now_ms, false),
    }
}

/// Rounds with and without them take turns: what the machine does meanwhile hits both.
fn under_load() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let plain = opaque::draw()?;
    let running = gateway(&dir, &plain)?;
    let registry = running.gateway().registry.clone();
    let bench = token("bench", plain.as_bytes());
    let address = *running.addresses().first().ok_or("no listener")?;
    let mut client = Client::connect(address)?;
    let request = request(&plain, "https://app.example.com");
    let rounds = if measures() { 15 } else { 1 };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    round(&running, &mut client, &request)?;
    for _ in 0..rounds {
        alone.push(round(&running, &mut client, &request)?);
        let now_ms = running.gateway().clock.steady_ms();
        let open: Vec<Entry> =
            (0..sessions()).map(|_| registry.enter(live(&bench, now_ms))).collect();
        if registry.open() < sessions() {
            return Err("the sessions are not registered".into());
        }
        beside.push(round(&running, &mut client, &request)?);
        drop(open);
    }
    let metrics = running.gateway().metrics.render();
    if metrics.lines().any(|line| line.starts_with("keygate_sessions_cut_total{")) {
        return Err("sessions were cut: they were not there all the time".into());
    }
    running.stop();
    let (alone, beside) = (median(alone), median(beside));
    timing::report(format_args!(
        "gateway: {alone:.1} us of processor time per request alone, {beside:.1} beside {} sessions: \
         {:+.1} % (wanted: within 3 %)",
        sessions(),
        (beside / alone - 1.0) * 100.0
    ))?;
    Ok(())
}

fn gateway(dir: &tempfile::TempDir, plain: &str) -> Outcome<Running> {
    let (place, upstream) = (dir.path().display(), upstream()?);
    std::fs::write(dir.path().join("key"), "sk-not-a-real-key-0123456789")?;
    let digest = TokenDigest::of(plain.as_bytes()).to_hex();
    let text = format!(
        "
listen: [{{ address: 127.0.0.1:0 }}]
access_log: {{ file: {place}/access.log }}
limits: {{ stream_idle_timeout: 24h }}
providers:
  openai: {{ kind: openai, url: 'http://{upstream}', keys: [{{ file: {place}/key }}] }}
policies:
  bench: {{ models: [gpt-4o-mini], origins: ['https://app.example.com'] }}
tokens: [{{ name: bench, sha256: '{digest}', policy: bench }}]
"
    );
    let options = Options { file: None, threads: Some(1), clock: Clock::system(), control: false };
    Ok(app::start(config::parse(&text)?, options)?)
}

/// Microseconds of the gateway's thread per request, over a second or more: two sweeps.
fn round(running: &Running, client: &mut Client, request: &str) -> Outcome<f64> {
    let least = Duration::from_millis(if measures() { 1_000 } else { 1 });
    let (start, before) = (Instant::now(), spent(running)?);
    let mut count: u32 = 0;
    while start.elapsed() < least {
        client.send(request, 200)?;
        count += 1;
    }
    let spent = spent(running)?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(count))
}

/// Processor time of the gateway's only thread.
fn spent(running: &Running) -> Outcome<Duration> {
    let (tell, told) = std::sync::mpsc::channel();
    running.runtime().ok_or("no runtime")?.spawn(async move {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
        let _ = tell.send(time);
    });
    Ok(told.recv_timeout(DEADLINE)??)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
