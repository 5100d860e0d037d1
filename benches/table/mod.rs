//! Where OpenAI's requests name models: what the gateway looks for, not a copy of it.

use http::Method;
use keygate::config::{self, Kind};
use keygate::provider::path::Path;
use keygate::provider::{BodyPlaces, api};
use keygate::values::secret::Secret;
use std::error::Error;

/// The places in the body, or the messages, of a request.
///
/// # Errors
/// The configuration can't be read.
pub(crate) fn openai(method: &Method, path: &str) -> Result<BodyPlaces<'static>, Box<dyn Error>> {
    let yaml = "
listen: [{ address: 127.0.0.1:0 }]
providers: { openai: { kind: openai, keys: [{ env: KEY }] } }
";
    let config = config::parse_with(yaml, &|_| Ok(Secret::new("sk-not-a-real-key")))?;
    let provider = config.providers.first().ok_or("a provider")?;
    let path = Path::new(path);
    match (api(Kind::OpenAi).models)(provider, method, &path).body {
        BodyPlaces::Json { main, further, .. } => {
            Ok(BodyPlaces::Json { main, configured: None, further })
        }
        BodyPlaces::Frames(messages) => Ok(BodyPlaces::Frames(messages)),
        BodyPlaces::None => Ok(BodyPlaces::None),
    }
}
