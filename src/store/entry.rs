//! From a durable record to what the index holds. Whatever can't be read allows nothing.

use crate::token::GrantSource;
use crate::token::index::Entry;
use crate::token::store::Record;
use crate::values::timestamp::Expiry;
use std::sync::Arc;

/// The entry for a record, and why its grant can't be read where that is so: the token is then
/// refused everywhere.
pub fn entry(record: &Record) -> (Entry, Option<String>) {
    let (grant, problem) = match grant(record) {
        Ok(grant) => (grant, None),
        Err(why) => (GrantSource::Unreadable, Some(why)),
    };
    let entry = Entry {
        id: record.id.as_str().into(),
        name: record.name.as_str().into(),
        digest: record.digest,
        expires_at: Expiry::read(record.expires_at.as_deref()),
        disabled: record.disabled,
        may_mint: record.may_mint,
        grant,
    };
    (entry, problem)
}

/// Where the record's grant comes from.
///
/// # Errors
/// Why it can't be read.
pub fn grant(record: &Record) -> Result<GrantSource, String> {
    match (&record.policy, &record.grant) {
        (None, None) => Ok(GrantSource::Default),
        (Some(policy), None) => Ok(GrantSource::Policy(policy.as_str().into())),
        // No store takes such a record; which of the two was meant is not ours to guess.
        (Some(_), Some(_)) => Err("it has a policy and a grant of its own".to_owned()),
        (None, Some(Err(_))) => Err("its grant is no JSON that this keygate knows".to_owned()),
        (None, Some(Ok(text))) => {
            text.read().map(|g| GrantSource::Inline(Arc::new(g))).map_err(|problems| {
                let all: Vec<_> =
                    problems.iter().map(|(place, why)| format!("{place}: {why}")).collect();
                format!("its grant is not valid: {}", all.join("; "))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::grant::GrantText;
    use crate::values::ids::TokenDigest;

    fn record() -> Record {
        Record {
            id: "tok_AAAAAAAAAAAAAAAA".into(),
            name: "ci".into(),
            digest: TokenDigest::of(b"x"),
            last4: "xxxx".into(),
            created_at: 1,
            expires_at: None,
            disabled: false,
            may_mint: false,
            policy: None,
            grant: None,
            last_used_at: None,
        }
    }

    fn models(list: &[&str]) -> GrantText {
        GrantText {
            models: Some(list.iter().map(|&m| m.to_owned()).collect()),
            ..GrantText::default()
        }
    }

    #[test]
    fn each_kind_of_grant_has_its_source() {
        assert_eq!(entry(&record()).0.grant, GrantSource::Default);
        let policy = Record { policy: Some("browser".into()), ..record() };
        assert_eq!(entry(&policy).0.grant, GrantSource::Policy("browser".into()));
        let inline = Record { grant: Some(Ok(models(&["gpt-4o*"]))), ..record() };
        let grant = models(&["gpt-4o*"]).read().unwrap();
        assert_eq!(entry(&inline).0.grant, GrantSource::Inline(Arc::new(grant)));
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        let broken = [
            Record { grant: Some(Err("{".into())), ..record() },
            Record { grant: Some(Ok(models(&[]))), ..record() },
            Record { grant: Some(Ok(models(&["g*t"]))), ..record() },
            Record { policy: Some("p".into()), grant: Some(Ok(models(&["a"]))), ..record() },
            Record { policy: Some("p".into()), grant: Some(Err("{".into())), ..record() },
        ];
        for record in broken {
            let (entry, problem) = entry(&record);
            assert_eq!(entry.grant, GrantSource::Unreadable, "{record:?}");
            assert!(problem.is_some(), "the log has to say why: {record:?}");
        }
        let expiry = Record { expires_at: Some("soon".into()), ..record() };
        assert!(entry(&expiry).0.expires_at.is_over(0), "an unreadable expiry counts as expired");
    }
}
