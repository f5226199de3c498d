//! The token server of a private registry: gives the signed tokens that a real `docker-registry` accepts, as Docker's own does,
//! and does what a test needs of it (short lives, refusals), counting.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};

use crate::{process, secrets};

/// Whom the registry believes, and for whom a token is.
pub(crate) const NAME: &str = "testkit";
/// A registry goes on taking a token for so long after its end (`Leeway` of `docker-registry`, for clocks that differ).
const LEEWAY: u64 = 60;
/// Largest request read.
const MAX_REQUEST: u64 = 64 << 10;

/// How tokens are given.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What the answer says, `expires_in`.
    pub announced: Option<Duration>,
    /// For how long the registry takes a token.
    pub good_for: Duration,
    /// Give tokens with the right to pull to those who show nothing.
    pub anonymous: bool,
    /// Serve `OAuth2`'s POST; where it is off it answers 405.
    pub post: bool,
    /// Refuse everyone, whatever they show, when so many tokens have been given.
    pub most: Option<u64>,
}

impl Default for Rules {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { announced: Some(Duration::from_secs(300)), good_for: hour, anonymous: false, post: true, most: None }
    }
}

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// Tokens that POST got.
    pub by_post: u64,
    /// Tokens that GET got.
    pub by_get: u64,
    /// Requests without a token for an answer.
    pub refused: u64,
    /// The tokens themselves: what must never be shown.
    pub tokens: Vec<String>,
}

impl Issued {
    /// All tokens.
    pub fn count(&self) -> u64 {
        self.by_post + self.by_get
    }
}

/// A running token server; ends when dropped. It knows the user of [`crate::DistributionRegistry`] and one identity token.
#[derive(Debug)]
pub struct TokenServer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    port: u16,
    home: tempfile::TempDir,
    /// DER of the certificate, in base64, as the tokens carry it.
    certificate: String,
    rules: Rules,
    issued: Mutex<Issued>,
    over: AtomicBool,
}

/// What a request asks for and shows.
#[derive(Default)]
struct Asked {
    scopes: Vec<String>,
    user: Option<(String, String)>,
    refresh: Option<String>,
}

impl TokenServer {
    /// The user it knows.
    pub const USER: &str = "user";
    /// That user's password.
    pub const PASSWORD: &str = "secret:with-colon";
    /// The identity token it takes in place of both.
    pub const IDENTITY_TOKEN: &str = "identity/token+1";

    /// Starts one on a free port of 127.0.0.1.
    pub fn start(rules: Rules) -> Self {
        secrets::keep(Self::PASSWORD);
        secrets::keep(Self::IDENTITY_TOKEN);
        let home = process::scratch();
        let (key, pem) = (home.path().join("key.pem"), home.path().join("cert.pem"));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=testkit", "-keyout"]);
        output(make.arg(&key).arg("-out").arg(&pem), b"");
        let der = output(Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(&pem), b"");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let certificate = BASE64_STANDARD.encode(der);
        let issued = Mutex::default();
        let inner = Arc::new(Inner { port, home, certificate, rules, issued, over: AtomicBool::new(false) });
        let serving = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.over.load(Ordering::Relaxed) {
                    break;
                }
                let inner = Arc::clone(&serving);
                // A client that goes away is its own affair.
                std::thread::spawn(move || inner.serve(stream));
            }
        });
        Self(inner)
    }

    /// `127.0.0.1:port`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.0.port)
    }

    /// The URL that challenges name.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.host())
    }

    /// What happened so far.
    pub fn issued(&self) -> Issued {
        self.0.issued().clone()
    }

    /// Closes its port.
    pub fn close(&self) {
        if !self.0.over.swap(true, Ordering::Relaxed) {
            // Wakes the accepting thread, which then ends.
            let _ = TcpStream::connect(("127.0.0.1", self.0.port));
        }
        while TcpStream::connect(("127.0.0.1", self.0.port)).is_ok() {
            std::thread::yield_now();
        }
    }

    /// A token for a registry of ours to be filled with; not counted.
    pub(crate) fn own_token(&self, scope: &str) -> String {
        self.0.token(&[scope.to_owned()], Duration::from_secs(3600))
    }

    /// What the registry has to believe in, PEM.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.home.path().join("cert.pem")
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request a connection.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?.take(MAX_REQUEST));
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let (mut length, mut authorization) = (0, None);
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut form = vec![0; length];
        reader.read_exact(&mut form).ok()?;
        let post = method == "POST";
        let text = if post { String::from_utf8(form).ok()? } else { target.split_once('?')?.1.to_owned() };
        let (status, body) = self.answer(post, &Asked::read(&text, authorization.as_deref()));
        let body = body.to_string();
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()
    }

    fn answer(&self, post: bool, asked: &Asked) -> (&'static str, Value) {
        let (rules, issued) = (&self.rules, self.issued().clone());
        let known = match (&asked.user, &asked.refresh) {
            (Some((user, password)), _) => {
                let by_name = (user.as_str(), password.as_str()) == (TokenServer::USER, TokenServer::PASSWORD);
                by_name || (user.is_empty() && password == TokenServer::IDENTITY_TOKEN)
            }
            (None, Some(token)) => token == TokenServer::IDENTITY_TOKEN,
            (None, None) => rules.anonymous,
        };
        let over = rules.most.is_some_and(|most| issued.count() >= most);
        if over || !known || (post && !rules.post) {
            self.issued().refused += 1;
            return if post && !rules.post {
                ("405 Method Not Allowed", json!({}))
            } else {
                ("401 Unauthorized", json!({ "details": "incorrect username or password" }))
            };
        }
        let token = secrets::keep(self.token(&asked.scopes, rules.good_for));
        let mut issued = self.issued();
        *(if post { &mut issued.by_post } else { &mut issued.by_get }) += 1;
        issued.tokens.push(token.clone());
        let name = if post { "access_token" } else { "token" };
        let mut body = json!({ name: token });
        if let Some(announced) = rules.announced {
            body["expires_in"] = announced.as_secs().into();
        }
        ("200 OK", body)
    }

    /// A JWT as the distribution project's `token.md` describes it.
    fn token(&self, scopes: &[String], good_for: Duration) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is right").as_secs();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [self.certificate] });
        let access = |scope: &String| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            Some(json!({ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }))
        };
        let claims = json!({
            "iss": NAME, "sub": "", "aud": NAME, "jti": format!("{:x}", fastrand::u64(..)),
            "iat": now - LEEWAY, "nbf": now - LEEWAY, "exp": now + good_for.as_secs() - LEEWAY,
            "access": scopes.iter().filter_map(access).collect::<Vec<_>>(),
        });
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = [encode(&header), encode(&claims)].join(".");
        let mut sign = Command::new("openssl");
        sign.args(["dgst", "-sha256", "-sign"]).arg(self.home.path().join("key.pem"));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(output(&mut sign, signed.as_bytes()));
        [signed, signature].join(".")
    }
}

impl Asked {
    /// From a query or a form, and the header.
    fn read(form: &str, authorization: Option<&str>) -> Self {
        let mut asked = Self::default();
        let (mut name, mut password) = (None, None);
        for (key, value) in form.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = secrets::unescape(value);
            match key {
                "scope" => asked.scopes.extend(value.split(' ').map(str::to_owned)),
                "username" => name = Some(value),
                "password" => password = Some(value),
                "refresh_token" => asked.refresh = Some(value),
                _ => {}
            }
        }
        let basic = || {
            let bytes = BASE64_STANDARD.decode(authorization?.strip_prefix("Basic ")?).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
        };
        asked.user = name.zip(password).or_else(basic);
        asked
    }
}

fn output(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("openssl is on PATH");
    child.stdin.take().expect("its input is piped").write_all(input).expect("openssl reads its input");
    let output = child.wait_with_output().expect("our child can be waited for");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
