//! Signing keys change under load, by command and on schedule, in two processes over one store and
//! across their restart, and no token fails for it.
//!
//! A new key signs ten minutes after it was published. The tests do not wait: they move what the
//! store says of the time, which is the same to the gateways.

use crate::support::binary::{Binary, configure};
use crate::support::client::Request;
use crate::support::process::keygate_in;
use crate::support::upstream::Upstream;
use crate::support::{canary, within};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const MINUTE_MS: i64 = 60_000;
/// Longer than a key lasts, so that the next one is due.
const MONTH_MS: i64 = 31 * 86_400_000;
/// Requests of a phase, over all workers: it ends with its rotations, or here.
const MOST: usize = 6_000;

/// Two gateways over one store.
struct Pair {
    dir: Arc<TempDir>,
    server: String,
    gateways: Vec<Binary>,
    _upstream: Upstream,
}

impl Pair {
    async fn start() -> Self {
        let upstream = Upstream::start().await;
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        let server = configure(&dir, "one.yaml", &upstream, "client_tokens: { max_ttl: 24h }");
        // Each process has its control socket beside its store: the second sees it by another name.
        let two = dir.path().join("two");
        std::fs::create_dir(&two).expect("a directory");
        std::os::unix::fs::symlink("../keygate.db", two.join("keygate.db")).expect("a link");
        let one = std::fs::read_to_string(dir.path().join("one.yaml")).expect("just written");
        let text = one.replace("/keygate.db", "/two/keygate.db").replace("one.yaml.log", "two.log");
        std::fs::write(dir.path().join("two.yaml"), text).expect("a configuration");
        let mut pair = Self { dir, server, gateways: Vec::new(), _upstream: upstream };
        pair.open().await;
        pair
    }

    async fn open(&mut self) {
        for file in ["one.yaml", "two.yaml"] {
            self.gateways.push(Binary::start(&self.dir, file, &[]).await);
        }
    }

    async fn restart(&mut self) {
        for gateway in self.gateways.drain(..) {
            gateway.stop().await;
        }
        self.open().await;
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.gateways[0].addr, self.gateways[1].addr]
    }

    /// The names of the published keys, once both publish this many.
    async fn published(&self, count: usize) {
        for addr in self.addresses() {
            within("the new key to be published", async {
                while kids(addr).await.len() < count {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
    }

    /// So much time has passed for the keys.
    fn pass(&self, ms: i64) {
        let store = rusqlite::Connection::open(self.dir.path().join("keygate.db")).expect("opens");
        store.busy_timeout(Duration::from_secs(10)).expect("set");
        let keys = "UPDATE signing_keys SET created_at = created_at - ?1,
            signs_from = signs_from - ?1";
        assert!(store.execute(keys, [ms]).expect("written") > 0, "there are keys");
        let tell = "UPDATE counter SET value = value + 1 WHERE name = 'version'";
        assert_eq!(store.execute(tell, []).expect("written"), 1);
    }

    async fn rotate(&self) {
        let rotate = keygate_in(&self.dir, ["keys", "rotate", "-c", "one.yaml", "--json"]);
        let made: Value = serde_json::from_str(rotate.run().await.success()).expect("JSON");
        assert!(made["kid"].is_string(), "{made}");
    }
}

async fn kids(addr: SocketAddr) -> BTreeSet<String> {
    let set = Request::get(addr, "/.well-known/jwks.json").send().await.json();
    let keys = set["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().map(|key| key["kid"].as_str().expect("a name").to_owned()).collect()
}

fn kid(token: &str) -> String {
    let header = token.split('.').next().expect("a header");
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a name").to_owned()
}

/// What the workers of a phase did, and whether they are to stop.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    asked: AtomicUsize,
    /// One token by each key, for later.
    kept: Mutex<Vec<(String, String)>>,
}

impl Tally {
    fn keep(&self, kid: String, token: String) {
        let mut kept = self.kept.lock().expect("nobody panics with it");
        if !kept.iter().any(|known| known.0 == kid) {
            canary::adopt_token(&token);
            kept.push((kid, token));
        }
    }

    /// Waits until tokens by this many keys have been verified.
    async fn until(&self, keys: usize) {
        within("the new key to sign", async {
            while self.kept.lock().expect("nobody panics with it").len() < keys {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

/// Mints at one gateway and shows what it got to the other one at once, over and over.
async fn work(tally: Arc<Tally>, server: String, mint_at: SocketAddr, show_at: SocketAddr) {
    while !tally.stop.load(Relaxed) && tally.asked.fetch_add(2, Relaxed) < MOST {
        let mint = Request::post(mint_at, "/v1/client/tokens").bearer(&server);
        let answer = mint.json(r#"{"expiresIn":3600}"#).send().await;
        if answer.denial() == Some("store_unavailable") {
            // Two gateways write to one file, and wait for each other only briefly.
            tokio::time::sleep(Duration::from_millis(40)).await;
            continue;
        }
        assert_eq!(answer.status, 200, "it mints: {}", answer.text());
        let minted: Value = answer.json();
        let token = minted["token"].as_str().expect("it is signed").to_owned();
        let kid = kid(&token);
        let shown = Request::get(show_at, "/v1/models").bearer(&token).send().await;
        assert_eq!(shown.status, 200, "a token by {kid}: {}", shown.text());
        tally.keep(kid, token);
        // The command line and the other workers want the store too.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// Four workers, until `meanwhile` is over.
async fn under_load(pair: &Pair, tally: &Arc<Tally>, meanwhile: impl Future<Output = ()>) {
    let [one, two] = pair.addresses();
    let worker = |(a, b)| tokio::spawn(work(tally.clone(), pair.server.clone(), a, b));
    let workers: Vec<_> = [(one, two), (two, one), (one, two), (one, one)].map(worker).into();
    meanwhile.await;
    assert!(tally.asked.load(Relaxed) < MOST, "the load lasted to the end");
    tally.stop.store(true, Relaxed);
    for worker in workers {
        within("a worker", worker).await.expect("not one verification failed");
    }
    tally.stop.store(false, Relaxed);
    tally.asked.store(0, Relaxed);
}

/// What was signed by whichever key is good at either gateway.
async fn all_are_good(pair: &Pair, tally: &Tally) {
    let kept = tally.kept.lock().expect("nobody panics with it").clone();
    for (kid, token) in kept {
        for addr in pair.addresses() {
            let shown = Request::get(addr, "/v1/models").bearer(&token).send().await;
            assert_eq!(shown.status, 200, "a token by {kid} at {addr}: {}", shown.text());
        }
    }
}

#[tokio::test]
async fn five_rotations_under_load_and_a_restart_fail_no_token_at_either_gateway() {
    let mut pair = Pair::start().await;
    let tally = Arc::new(Tally::default());
    under_load(&pair, &tally, async {
        tally.until(1).await;
        for keys in 2..=4 {
            pair.rotate().await;
            pair.published(keys).await;
            assert_eq!(tally.kept.lock().expect("unpoisoned").len(), keys - 1, "not signing yet");
            pair.pass(10 * MINUTE_MS);
            tally.until(keys).await;
        }
    })
    .await;
    all_are_good(&pair, &tally).await;
    pair.restart().await;
    all_are_good(&pair, &tally).await;
    under_load(&pair, &tally, async {
        pair.rotate().await;
        pair.published(5).await;
        pair.pass(10 * MINUTE_MS);
        tally.until(5).await;
    })
    .await;
    pair.restart().await;
    all_are_good(&pair, &tally).await;
    let published = kids(pair.addresses()[0]).await;
    let kept = tally.kept.lock().expect("nobody panics with it").clone();
    assert!(kept.iter().all(|(kid, _)| published.contains(kid)), "{published:?}");
    // On schedule: nobody asks for it.
    pair.pass(MONTH_MS);
    under_load(&pair, &tally, async {
        within("the scheduled key", async {
            while kids(pair.addresses()[1]).await.is_subset(&published) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        pair.pass(10 * MINUTE_MS);
        tally.until(6).await;
    })
    .await;
}

#[tokio::test]
async fn a_use_is_taken_once_over_both_gateways_by_whichever_form() {
    let pair = Pair::start().await;
    for uses in [1, 3] {
        let (path, body) = match uses {
            1 => ("/v1/client/tokens", r#"{"singleUse":true}"#.to_owned()),
            _ => ("/v1alpha/auth_tokens", format!(r#"{{"uses":{uses}}}"#)),
        };
        let [one, two] = pair.addresses();
        let mint = Request::post(one, path).bearer(&pair.server).json(body);
        let minted: Value = mint.send().await.json();
        let forms: Vec<String> = ["apiKey", "token", "name"]
            .into_iter()
            .filter_map(|form| minted[form].as_str().map(str::to_owned))
            .collect();
        assert!(!forms.is_empty(), "{minted}");
        forms.iter().for_each(|form| canary::adopt_token(form));
        // Known there, it is refused for the path, which takes no use.
        for form in &forms {
            within("the second gateway to know it", async {
                while Request::get(two, "/v1/files").bearer(form).send().await.status != 403 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        let asks = (0..24).map(|n| {
            let addr = if n % 2 == 0 { one } else { two };
            Request::get(addr, "/v1/models").bearer(&forms[n % forms.len()]).send()
        });
        let answers = futures_util::future::join_all(asks).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let passed = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(passed, uses, "exactly so many: {statuses:?}");
    }
}
