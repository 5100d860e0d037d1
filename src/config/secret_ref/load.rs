//! Fetches the secret that a reference names. Messages say what to do and never repeat a secret,
//! nor a name that may be one.

use super::SecretRef;
use crate::values::secret::Secret;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// No key is longer; a reference to a device or a log must not fill the memory.
const MAX_FILE: u64 = 64 * 1024;

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Fetches a secret from the environment, a file or systemd's credentials.
///
/// # Errors
/// It is not there or can't be read. [`check`] judges what is in it.
pub fn load(reference: &SecretRef) -> Result<Secret, String> {
    load_from(reference, &|name| std::env::var_os(name))
}

fn load_from(reference: &SecretRef, environment: Environment<'_>) -> Result<Secret, String> {
    match reference {
        SecretRef::Env(name) => from_environment(name, environment),
        SecretRef::File(path) => from_file(path).map_err(|why| match path.is_absolute() {
            true => format!("can't read {}: {why}", path.display()),
            false => format!("can't read the file: {why}; write its whole path"),
        }),
        SecretRef::Credential(name) => from_credential(name, environment),
    }
}

/// Judges a secret that was found.
///
/// # Errors
/// It is empty, or could not be a header's value.
pub(crate) fn check(secret: &Secret) -> Result<(), String> {
    if secret.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    // Exposed to look at its characters; nothing of it goes into the message.
    if !secret.expose().bytes().all(|c| c.is_ascii_graphic()) {
        let why = "the secret has blanks, line breaks or characters beyond ASCII in it: it goes \
                   into a header and must be one word";
        return Err(why.to_owned());
    }
    Ok(())
}

fn from_environment(name: &str, environment: Environment<'_>) -> Result<Secret, String> {
    let value = environment(name).ok_or_else(|| {
        // Providers' keys have lower-case letters in them, variables' names seldom do.
        let is_name = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
        if name.bytes().all(is_name) {
            format!("the environment variable {name} is not set")
        } else {
            "the environment variable is not set; env takes its name".to_owned()
        }
    })?;
    match value.into_string() {
        Ok(text) => Ok(Secret::new(&**Zeroizing::new(text))),
        Err(_) => Err("the environment variable is no UTF-8 text".to_owned()),
    }
}

fn from_credential(name: &str, environment: Environment<'_>) -> Result<Secret, String> {
    if name.contains('/') || matches!(name, "." | "..") {
        return Err("a credential has a name, not a path; use file for a path".to_owned());
    }
    let directory = environment("CREDENTIALS_DIRECTORY").ok_or(
        "there are no credentials: run under systemd with LoadCredential=, or use env or file",
    )?;
    from_file(&Path::new(&directory).join(name)).map_err(|why| {
        format!("can't read the credential: {why}; name it in the unit's LoadCredential=")
    })
}

fn from_file(path: &Path) -> Result<Secret, String> {
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|why| why.to_string())?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|why| why.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err("it is too long for a secret".to_owned());
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(line.strip_suffix('\r').unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "OPENAI_API_KEY" => Some("sk-from-env".into()),
            "CREDENTIALS_DIRECTORY" => Some(std::env::temp_dir().into()),
            _ => None,
        }
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn each_kind_of_reference_finds_its_secret() {
        let file = file("sk-from-file\n");
        let credential = file.path().file_name().unwrap().to_str().unwrap();
        for (reference, value) in [
            (SecretRef::Env("OPENAI_API_KEY".into()), "sk-from-env"),
            (SecretRef::File(file.path().into()), "sk-from-file"),
            (SecretRef::Credential(credential.into()), "sk-from-file"),
        ] {
            let secret = load_from(&reference, &environment).unwrap();
            assert_eq!(secret.expose(), value, "{reference:?}");
        }
    }

    #[test]
    fn one_line_break_at_the_end_of_a_file_does_not_count() {
        for (content, value) in
            [("key", "key"), ("key\n", "key"), ("key\r\n", "key"), ("key\n\n", "key\n")]
        {
            let file = file(content);
            let secret = load_from(&SecretRef::File(file.path().into()), &environment).unwrap();
            assert_eq!(secret.expose(), value, "{content:?}");
        }
    }

    #[test]
    fn a_reference_that_leads_nowhere_says_so_without_repeating_what_may_be_a_key() {
        for reference in [
            SecretRef::Env("sk-proj-abcdef".into()),
            SecretRef::File("sk-proj-abcdef".into()),
            SecretRef::Credential("sk-proj-abcdef".into()),
            SecretRef::Credential("../sk-proj-abcdef".into()),
        ] {
            let why = load_from(&reference, &environment).unwrap_err();
            assert!(!why.contains("sk-proj"), "{reference:?} repeats the name: {why}");
            assert!(!format!("{reference:?}").contains("sk-proj"), "Debug repeats the name");
        }
        let why = load_from(&SecretRef::Env("GEMINI_API_KEY".into()), &environment).unwrap_err();
        assert_eq!(why, "the environment variable GEMINI_API_KEY is not set");
        let why = load_from(&SecretRef::Credential("key".into()), &|_| None).unwrap_err();
        assert!(why.contains("LoadCredential="), "outside systemd it says how: {why}");
    }

    #[test]
    fn what_could_not_be_a_headers_value_is_refused() {
        for value in ["", "two words", "line\n", "tab\t", "schlüssel", "\u{7f}", "nul\0"] {
            assert!(check(&Secret::new(value)).is_err(), "{value:?} must be refused");
        }
        assert_eq!(check(&Secret::new("sk-proj_A1.~+/=")), Ok(()));
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let reference = SecretRef::File("/dev/zero".into());
        assert!(load_from(&reference, &environment).is_err());
    }
}
