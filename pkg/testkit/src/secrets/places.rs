//! The places where a test's secrets stand: whoever sets a stage, or sees what is sent, enters all that is there. So no test has to
//! think of it, and one whose secret is too short to be looked for ends at once.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::keep;

/// Keys of a form, of a token server's answer and of docker's files whose values are secrets. `auth` is both user and password.
const KEYS: [&str; 8] =
    ["password", "refresh_token", "access_token", "token", "identitytoken", "registrytoken", "auth", "Secret"];
/// Keys of a signed URL, likewise.
const SIGNATURES: [&str; 3] = ["sig", "Signature", "X-Amz-Signature"];

/// Enters what stands in a request or an answer, head and body: passwords, tokens, signatures, cookies.
pub fn keep_in_http(message: &str) {
    let (head, body) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    keep_signatures(target);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "authorization" | "proxy-authorization" => {
                let (scheme, shown) = value.split_once(' ').unwrap_or(("", value));
                if scheme == "Basic" { keep_basic(shown) } else { keep_some(shown) }
            }
            "cookie" | "set-cookie" => {
                let pairs = value.split("; ").filter_map(|pair| pair.split_once('='));
                pairs.take(1).for_each(|(_, cookie)| keep_some(cookie));
            }
            "location" => keep_signatures(value),
            _ => {}
        }
    }
    if let Ok(json) = serde_json::from_str(body) {
        keep_in_json(&json);
    } else {
        let form = body.split('&').filter_map(|pair| pair.split_once('='));
        form.filter(|(key, _)| KEYS.contains(key)).for_each(|(_, value)| keep_some(&unescape(value)));
    }
}

/// Enters what a command is given: by its arguments, its variables, the files they name, and the credential helpers on its PATH.
pub fn keep_in_command(command: &Command) {
    let arguments: Vec<String> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let next = arguments.iter().skip(1).map(String::as_str).chain([""]);
    for (argument, next) in arguments.iter().zip(next) {
        let (flag, value) = argument.split_once('=').unwrap_or((argument, next));
        match flag {
            "--user" | "-u" => keep_some(value.split_once(':').map_or("", |(_, password)| password)),
            "--refresh" => keep_some(value),
            _ => {}
        }
    }
    let variables: BTreeMap<&OsStr, &OsStr> = command.get_envs().filter_map(|(name, value)| Some((name, value?))).collect();
    let variable = |name: &str| variables.get(OsStr::new(name)).copied();
    let text = variable("DOCKER_AUTH_CONFIG").map(|text| text.to_string_lossy().into_owned());
    let folders = [("DOCKER_CONFIG", "config.json"), ("HOME", ".docker/config.json")];
    let files = folders.iter().filter_map(|(name, file)| Some(Path::new(variable(name)?).join(file)));
    let files = files.chain(variable("REGISTRY_AUTH_FILE").map(PathBuf::from));
    text.into_iter().chain(files.filter_map(|file| fs::read_to_string(file).ok())).for_each(|text| keep_in_logins(&text));
    for (_, url) in variables.iter().filter(|(name, _)| name.to_string_lossy().to_ascii_lowercase().ends_with("_proxy")) {
        keep_in_proxy(&url.to_string_lossy());
    }
    for directory in variable("PATH").into_iter().flat_map(std::env::split_paths) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("docker-credential-") {
                keep_in_script(&fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
}

/// Enters what a file of docker's or podman's holds.
pub fn keep_in_logins(text: &str) {
    if let Ok(json) = serde_json::from_str(text) {
        keep_in_json(&json);
    }
}

/// Enters the password of a proxy's URL.
pub fn keep_in_proxy(url: &str) {
    let login = url.split_once("://").map_or(url, |(_, rest)| rest).rsplit_once('@').map_or("", |(login, _)| login);
    keep_some(&unescape(login.split_once(':').map_or("", |(_, password)| password)).replace('+', " "));
}

/// `"Secret":"…"` in a script that prints it, with or without escapes.
fn keep_in_script(text: &str) {
    for rest in text.split("Secret").skip(1) {
        let value = rest.trim_start_matches(['\\', '"', ':', ' ']);
        let secret = value.split(['\\', '"', '$', '\'']).next().unwrap_or_default();
        // What stands in variables of the script is the script's own.
        if rest.trim_start_matches('\\').starts_with('"') {
            keep_some(secret);
        }
    }
}

fn keep_in_json(json: &Value) {
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "auth" => keep_basic(text),
                    Value::String(text) if KEYS.contains(&key.as_str()) => keep_some(text),
                    value => keep_in_json(value),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(keep_in_json),
        _ => {}
    }
}

fn keep_signatures(url: &str) {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| SIGNATURES.contains(key)).for_each(|(_, value)| keep_some(&unescape(value)));
}

/// base64 of `user:password`, in docker's files perhaps with white space in it; what is none is a secret as it is.
fn keep_basic(text: &str) {
    let compact: String = text.split_whitespace().collect();
    let decoded = BASE64_STANDARD.decode(&compact).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|decoded| decoded.split_once(':')) {
        Some((_, password)) => keep_some(password),
        None => keep_some(text.trim()),
    }
}

fn keep_some(secret: &str) {
    if !secret.is_empty() {
        keep(secret);
    }
}

/// `+` and `%XX`, as in a form.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{super::found_in, *};

    #[track_caller]
    fn assert_kept(secrets: &[&str]) {
        for secret in secrets {
            assert!(found_in(secret).is_some(), "{secret}");
        }
    }

    #[test]
    fn what_is_shown_to_a_server_and_what_it_gives_is_entered() {
        keep_in_http("GET /data?se=1&sig=signed%2Fplace-1 HTTP/1.1\r\nauthorization: Bearer bearer-place-2\r\n\r\n");
        // user:basic-place-3
        keep_in_http("GET / HTTP/1.1\r\nAuthorization: Basic dXNlcjpiYXNpYy1wbGFjZS0z\r\nCookie: id=cookie-place-4\r\n\r\n");
        keep_in_http("POST /token HTTP/1.1\r\n\r\nuser=u&password=form+place%2D5&grant_type=password");
        keep_in_http("HTTP/1.1 200 OK\r\nSet-Cookie: id=cookie-place-6; Path=/\r\n\r\n{\"token\":\"token-place-7\"}");
        keep_in_http("HTTP/1.1 307 x\r\nLocation: http://s.example/?X-Amz-Signature=amazon-place-8\r\n\r\n");
        assert_kept(&["signed/place-1", "bearer-place-2", "basic-place-3", "dXNlcjpiYXNpYy1wbGFjZS0z", "cookie-place-4"]);
        assert_kept(&["form place-5", "cookie-place-6", "token-place-7", "amazon-place-8"]);
    }

    #[test]
    fn what_a_command_is_given_is_entered() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("config.json", r#"{"auths":{"r.example":{"username":"u","password":"config-place-1"}}}"#);
        write(".docker/config.json", r#"{"auths":{"r.example":{"auth":"no base64 place-2!"}}}"#);
        write("auth.json", r#"{"auths":{"r.example/a":{"identitytoken":"identity-place-3"}}}"#);
        write("bin/docker-credential-x", "echo '{\"Username\":\"u\",\"Secret\":\"helper-place-4\"}'\n");
        let mut command = Command::new("rpull");
        command.args(["--user", "u:flag-place-5", "--refresh=flag-place-6", "r.example/a:1"]);
        command.env("DOCKER_CONFIG", home.path()).env("HOME", home.path());
        command.env("REGISTRY_AUTH_FILE", home.path().join("auth.json")).env("PATH", home.path().join("bin"));
        command.env("DOCKER_AUTH_CONFIG", r#"{"auths":{"r":{"registrytoken":"registry-place-7"}}}"#);
        command.env("https_proxy", "http://ann:proxy%20place-8@127.0.0.1:1");
        keep_in_command(&command);
        assert_kept(&["config-place-1", "no base64 place-2!", "identity-place-3", "helper-place-4", "flag-place-5"]);
        assert_kept(&["flag-place-6", "registry-place-7", "proxy place-8"]);
    }

    #[test]
    #[should_panic(expected = "cannot be told")]
    fn a_test_with_a_password_that_cannot_be_looked_for_ends_at_once() {
        keep_in_command(Command::new("rpull").args(["--user", "u:short"]));
    }
}
