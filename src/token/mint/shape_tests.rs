//! Every limit of the three shapes.

use super::*;
use crate::config;
use crate::values::grant::GrantText;

const NOW: u64 = 1_767_225_600_000;

fn defaults() -> ClientTokens {
    config::parse("listen: [{ address: 127.0.0.1:0 }]").unwrap().client_tokens
}

fn read(shape: Shape, body: &str) -> Result<Wish, Vec<String>> {
    shape.read(body.as_bytes(), &defaults(), NOW).map_err(|fields| {
        let place = |field: &Field| {
            let names: Vec<String> =
                field.loc.iter().map(|v| v.to_string().trim_matches('"').to_owned()).collect();
            names.join(".")
        };
        fields.iter().map(place).collect()
    })
}

fn text(wish: &Wish) -> GrantText {
    super::super::text(&wish.grant)
}

#[test]
fn nothing_null_and_an_empty_object_are_the_same() {
    for body in ["", " \n", "null", "{}"] {
        let wish = read(Shape::Client, body).unwrap();
        assert_eq!(wish.ends_at, NOW + 60_000, "{body:?}: the default");
        assert_eq!((wish.uses, text(&wish)), (None, GrantText::default()), "{body:?}");
        let secret = read(Shape::Secret, body).unwrap();
        assert_eq!(secret.ends_at, NOW + 600_000, "{body:?}");
        let gemini = read(Shape::Gemini, body).unwrap();
        assert_eq!(gemini.ends_at, NOW + 1_800_000, "{body:?}");
        assert_eq!((gemini.starts_until, gemini.uses), (NOW + 60_000, Some(1)), "{body:?}");
    }
}

#[test]
fn each_field_of_a_client_token_has_its_limits() {
    let many = format!(r#"["{}"]"#, vec!["m"; 21].join(r#"",""#));
    let long = "x".repeat(1_020);
    for (body, place) in [
        (r#"{"expiresIn":0}"#.to_owned(), "body.expiresIn"),
        (r#"{"expiresIn":3601}"#.to_owned(), "body.expiresIn"),
        (r#"{"expiresIn":-1}"#.to_owned(), "body.expiresIn"),
        (r#"{"expiresIn":1.5}"#.to_owned(), "body.expiresIn"),
        (r#"{"expiresIn":"60"}"#.to_owned(), "body.expiresIn"),
        (r#"{"allowedModels":[]}"#.to_owned(), "body.allowedModels"),
        (r#"{"allowedModels":null}"#.to_owned(), "body.allowedModels"),
        (r#"{"allowedModels":"m"}"#.to_owned(), "body.allowedModels"),
        (r#"{"allowedModels":["a",1]}"#.to_owned(), "body.allowedModels"),
        (r#"{"allowedModels":["a","*b"]}"#.to_owned(), "body.allowedModels.1"),
        (format!(r#"{{"allowedModels":{many}}}"#), "body.allowedModels"),
        (format!(r#"{{"allowedOrigins":{many}}}"#), "body.allowedOrigins"),
        (r#"{"allowedOrigins":["https://a.example/path"]}"#.to_owned(), "body.allowedOrigins.0"),
        (r#"{"allowedOrigins":["null"]}"#.to_owned(), "body.allowedOrigins.0"),
        (r#"{"allowedOrigins":[]}"#.to_owned(), "body.allowedOrigins"),
        (r#"{"paths":["v1"]}"#.to_owned(), "body.paths.0"),
        (r#"{"methods":["get"]}"#.to_owned(), "body.methods.0"),
        (r#"{"providers":[""]}"#.to_owned(), "body.providers.0"),
        (r#"{"singleUse":1}"#.to_owned(), "body.singleUse"),
        (r#"{"metadata":"x"}"#.to_owned(), "body.metadata"),
        (format!(r#"{{"metadata":{{"x":"{long}"}}}}"#), "body.metadata"),
        (r#"{"constraints":[]}"#.to_owned(), "body.constraints"),
        (
            r#"{"constraints":{"realtime":{"maxSessionDuration":9}}}"#.to_owned(),
            "body.constraints.realtime.maxSessionDuration",
        ),
        (r#"{"constraints":{"realtime":{"x":1}}}"#.to_owned(), "body.constraints.realtime.x"),
        (r#"{"constraints":{"x":1}}"#.to_owned(), "body.constraints.x"),
        (r#"{"allowedModel":["m"]}"#.to_owned(), "body.allowedModel"),
        ("[]".to_owned(), "body"),
        ("{".to_owned(), "body"),
    ] {
        assert_eq!(read(Shape::Client, &body).unwrap_err(), [place], "{body}");
    }
    let wish = read(
        Shape::Client,
        r#"{"expiresIn":3600,"allowedModels":["a*"],"allowedOrigins":["HTTPS://A.example:443"],
            "constraints":{"realtime":{"maxSessionDuration":10}},"metadata":{"u":1},
            "providers":["p"],"paths":["/v1/x"],"methods":["GET"],"singleUse":true}"#,
    )
    .unwrap();
    assert_eq!((wish.ends_at, wish.uses), (NOW + 3_600_000, Some(1)));
    let text = text(&wish);
    assert_eq!(text.origins.unwrap(), ["https://a.example"], "normalised");
    assert_eq!(text.max_session.unwrap(), "10000ms");
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let wrong = read(Shape::Client, r#"{"expiresIn":0,"allowedModels":[],"metadata":1}"#);
    assert_eq!(wrong.unwrap_err().len(), 3);
}

#[test]
fn a_secrets_session_is_kept_and_its_model_is_its_scope() {
    let body = r#"{"expires_after":{"anchor":"created_at","seconds":10},
        "session":{"type":"realtime","model":"gpt-realtime","instructions":"x"}}"#;
    let wish = read(Shape::Secret, body).unwrap();
    assert_eq!(wish.ends_at, NOW + 10_000);
    assert_eq!(text(&wish).models.unwrap(), ["gpt-realtime"]);
    assert_eq!(wish.session.unwrap().len(), 3, "it goes back as it came");
    let legacy = read(Shape::Session, r#"{"model":"gpt-realtime","voice":"x"}"#).unwrap();
    assert_eq!(text(&legacy).models.unwrap(), ["gpt-realtime"]);
    for (shape, body, models) in [
        (
            Shape::Secret,
            r#"{"session":{"type":"transcription",
                "audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#,
            &["gpt-4o-transcribe"][..],
        ),
        (
            Shape::Session,
            r#"{"input_audio_transcription":{"model":"gpt-4o-transcribe"}}"#,
            &["gpt-4o-transcribe"],
        ),
        (
            Shape::Session,
            r#"{"model":"gpt-realtime","input_audio_transcription":{"model":"whisper-1"}}"#,
            &["gpt-realtime", "whisper-1"],
        ),
    ] {
        let wish = read(shape, body).unwrap();
        assert_eq!(text(&wish).models.unwrap(), models, "what transcribes is bound too: {body}");
    }
    for (body, place) in [
        (r#"{"expires_after":{"seconds":9}}"#, "body.expires_after.seconds"),
        (r#"{"expires_after":{"seconds":7201}}"#, "body.expires_after.seconds"),
        (r#"{"expires_after":{}}"#, "body.expires_after.seconds"),
        (r#"{"expires_after":{"anchor":"now","seconds":60}}"#, "body.expires_after.anchor"),
        (r#"{"session":1}"#, "body.session"),
        (r#"{"session":{"model":1}}"#, "body.session.model"),
        (r#"{"session":{"model":"*"}}"#, "body.session.model"),
        (
            r#"{"session":{"audio":{"input":{"transcription":{"model":7}}}}}"#,
            "body.session.audio.input.transcription.model",
        ),
        (r#"{"sesion":{}}"#, "body.sesion"),
    ] {
        assert_eq!(read(Shape::Secret, body).unwrap_err(), [place], "{body}");
    }
}

#[test]
fn an_auth_token_has_two_ends_and_a_number_of_uses() {
    let body = r#"{"uses":3,"expireTime":"2026-01-01T01:00:00Z",
        "newSessionExpireTime":"2026-01-01T00:10:00Z",
        "bidiGenerateContentSetup":{"model":"models/gemini-live"},"fieldMask":"x"}"#;
    let wish = read(Shape::Gemini, body).unwrap();
    assert_eq!((wish.uses, wish.ends_at), (Some(3), NOW + 3_600_000));
    assert_eq!(wish.starts_until, NOW + 600_000);
    assert_eq!(text(&wish).models.unwrap(), ["gemini-live"], "`models/` is no part of the name");
    for (body, place) in [
        (r#"{"uses":0}"#, "body.uses"),
        (r#"{"uses":"1"}"#, "body.uses"),
        (r#"{"expireTime":"2025-12-31T23:59:59Z"}"#, "body.expireTime"),
        (r#"{"expireTime":"2026-01-01T02:00:01Z"}"#, "body.expireTime"),
        (r#"{"newSessionExpireTime":"soon"}"#, "body.newSessionExpireTime"),
        (r#"{"bidiGenerateContentSetup":{"model":7}}"#, "body.bidiGenerateContentSetup.model"),
        (r#"{"bidiGenerateContentSetup":7}"#, "body.bidiGenerateContentSetup"),
    ] {
        assert_eq!(read(Shape::Gemini, body).unwrap_err(), [place], "{body}");
    }
}

#[test]
fn an_auth_token_is_asked_for_in_either_spelling_and_never_in_both() {
    let wish = read(
        Shape::Gemini,
        r#"{"expire_time":"2026-01-01T00:05:00Z",
            "bidi_generate_content_setup":{"setup":{"model":"models/inner"},"model":"outer"}}"#,
    )
    .unwrap();
    assert_eq!(wish.ends_at, NOW + 300_000);
    assert_eq!(text(&wish).models.unwrap(), ["outer", "inner"], "wherever a model stands");
    for (body, place) in [
        (r#"{"expireTime":null,"expire_time":"2026-01-01T00:05:00Z"}"#, "body.expire_time"),
        (r#"{"usse":1}"#, "body.usse"),
        (r#"{"uses":1,"uses":2}"#, "body"),
    ] {
        assert_eq!(read(Shape::Gemini, body).unwrap_err(), [place], "{body}");
    }
}

#[test]
fn what_is_asked_for_is_bounded_as_a_whole() {
    let long = "m".repeat(5_000);
    let body = format!(r#"{{"session":{{"model":"{long}"}}}}"#);
    assert_eq!(read(Shape::Secret, &body).unwrap_err(), ["body"]);
}
