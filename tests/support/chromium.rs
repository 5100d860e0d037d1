//! Chromium, spoken to in its DevTools protocol: one for all tests, started by the first.
//!
//! Messages go over a pipe, so that it ends with this process, however that ends. Every [`Page`]
//! has a context of its own: no cache, cookie or preflight of another test is in it. What pages
//! tell is handed to the canary.

use super::tls::Pair;
use super::{canary, source, within};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the start may take, on a machine that has never run it and does other things too.
const START: Duration = Duration::from_secs(60);

static PAIR: LazyLock<Pair> = LazyLock::new(|| Pair::until(2090));
static CHROMIUM: LazyLock<Chromium> = LazyLock::new(Chromium::start);

/// The certificate that Chromium takes, by whatever name it asked for it.
pub(crate) fn pair() -> &'static Pair {
    &PAIR
}

struct Chromium {
    to: Mutex<ChildStdin>,
    heard: Arc<Mutex<Heard>>,
}

/// What is waited for and what came without being asked for.
#[derive(Default)]
struct Heard {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    events: Vec<Value>,
}

impl Chromium {
    /// The one browser, ready.
    async fn running() -> &'static Self {
        let started = tokio::task::spawn_blocking(|| &*CHROMIUM);
        let chromium = started.await.expect("Chromium is there and can be started");
        let ready = chromium.send(None, "Browser.getVersion", json!({}));
        tokio::time::timeout(START, ready).await.expect("Chromium is ready within a minute");
        chromium
    }

    /// Installs it where it is missing, and starts it.
    fn start() -> Self {
        let directory = source::root().join("tests/browser");
        let installed = Command::new(directory.join("setup")).output();
        let installed = installed.expect("tests/browser/setup can be run");
        let problems = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "Chromium could not be installed: {problems}");

        let mut run = Command::new(directory.join("run"));
        run.arg(key_hash(pair())).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = run.spawn().expect("tests/browser/run can be started");
        let to = Mutex::new(child.stdin.take().expect("it is piped"));
        let from = child.stdout.take().expect("it is piped");
        let heard = Arc::default();
        let hearing = Arc::clone(&heard);
        std::thread::spawn(move || hear(child, from, &hearing));
        Self { to, heard }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("nobody panics with it")
    }

    /// Sends a message, and gives what answers it.
    fn post(&self, session: Option<&str>, method: &str, params: Value) -> oneshot::Receiver<Value> {
        let (answer, answered) = oneshot::channel();
        let mut heard = self.heard();
        heard.last += 1;
        let id = heard.last;
        heard.waiting.insert(id, answer);
        let mut message = json!({ "id": id, "method": method, "params": params });
        drop(heard);
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut to = self.to.lock().expect("nobody panics with it");
        // Where it is gone, the answer does not come either.
        let _ = to.write_all(format!("{message}\0").as_bytes()).and_then(|()| to.flush());
        answered
    }

    /// Sends a message and gives its result; panics when it has none.
    async fn send(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let answer = self.post(session, method, params).await;
        let mut answer = answer.unwrap_or_else(|_| panic!("Chromium has ended before {method}"));
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }
}

/// Takes what Chromium says until it ends.
fn hear(mut child: Child, from: ChildStdout, heard: &Mutex<Heard>) {
    for message in BufReader::new(from).split(0).map_while(Result::ok) {
        let message: Value = serde_json::from_slice(&message).expect("messages are JSON");
        let mut heard = heard.lock().expect("nobody panics with it");
        match message["id"].as_u64().and_then(|id| heard.waiting.remove(&id)) {
            // A test that gave up waiting does not want it any more.
            Some(waiting) => drop(waiting.send(message)),
            None => heard.events.push(message),
        }
    }
    let _ = child.wait();
    heard.lock().expect("nobody panics with it").waiting.clear();
}

/// The hash of a pair's public key (RFC 7469 section 2.4).
fn key_hash(pair: &Pair) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pair.cert.as_bytes()).expect("PEM");
    let cert = pem.parse_x509().expect("a certificate");
    STANDARD.encode(Sha256::digest(cert.public_key().raw))
}

/// A page that is open. Dropping it closes it.
pub(crate) struct Page {
    chromium: &'static Chromium,
    context: String,
    session: String,
}

impl Page {
    /// Opens a page and waits until it is loaded, its scripts included.
    pub(crate) async fn open(url: &str) -> Self {
        let chromium = Chromium::running().await;
        let ask = async |method, params| within(method, chromium.send(None, method, params)).await;
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        let context = ask("Target.createBrowserContext", json!({})).await;
        let context = text(&context["browserContextId"]);
        let blank = json!({ "url": "about:blank", "browserContextId": context });
        let target = ask("Target.createTarget", blank).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = text(&ask("Target.attachToTarget", attach).await["sessionId"]);
        let page = Self { chromium, context, session };
        page.send("Network.enable", json!({})).await;
        let went = page.send("Page.navigate", json!({ "url": url })).await;
        assert!(went["errorText"].is_null(), "{url}: {}", went["errorText"]);
        let loaded = "() => new Promise((done) => document.readyState === 'complete' \
            ? done() : addEventListener('load', () => done()))";
        page.call(loaded, json!([])).await.expect("a page loads");
        page
    }

    /// Calls a function of the page, and gives what it returns or, as an error, what it throws:
    /// name, message and the properties of its own.
    ///
    /// # Errors
    /// It threw.
    pub(crate) async fn call(&self, function: &str, arguments: Value) -> Result<Value, Value> {
        let expression = format!(
            "(async () => {{ try {{ return {{ ok: await ({function})(...{arguments}) ?? null }}; }} \
             catch (e) {{ return {{ error: {{ name: e.name, message: e.message, ...e }} }}; }} }})()"
        );
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut result = self.send("Runtime.evaluate", params).await;
        assert!(result["exceptionDetails"].is_null(), "{function}: {result}");
        let mut value = result["result"]["value"].take();
        canary::observe("browser", value.to_string().as_bytes());
        match value["error"].take() {
            Value::Null => Ok(value["ok"].take()),
            error => Err(error),
        }
    }

    /// The protocols that brought answers from this URL, the preflights' among them.
    pub(crate) fn protocols(&self, url: &str) -> Vec<String> {
        let heard = self.chromium.heard();
        let of_this = |event: &&Value| {
            event["sessionId"] == self.session.as_str()
                && event["method"] == "Network.responseReceived"
                && event["params"]["response"]["url"] == url
        };
        let protocol = |event: &Value| event["params"]["response"]["protocol"].to_string();
        heard.events.iter().filter(of_this).map(protocol).collect()
    }

    async fn send(&self, method: &str, params: Value) -> Value {
        within(method, self.chromium.send(Some(&self.session), method, params)).await
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let context = json!({ "browserContextId": self.context });
        drop(self.chromium.post(None, "Target.disposeBrowserContext", context));
    }
}
