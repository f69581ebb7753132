//! One conversation: strict about the order of commands, as servers are.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{Manner, PASSWORD, Received, State, Trouble, USER};

#[derive(Clone)]
pub struct Server {
    pub manner: Manner,
    pub tls: tokio_rustls::TlsAcceptor,
    pub state: Arc<Mutex<State>>,
    pub answers: Arc<Semaphore>,
}

/// Why a conversation goes no further on this stream.
enum Turn {
    Over,
    /// STARTTLS was said.
    Encrypt,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Server {
    pub async fn converse(self, stream: TcpStream) {
        {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.open += 1;
        }
        self.talk(stream).await;
        self.state.lock().unwrap().open -= 1;
    }

    async fn talk(&self, stream: TcpStream) {
        if self.manner == Manner::Implicit {
            if let Ok(encrypted) = self.tls.accept(stream).await {
                let _ = self.speak(&mut BufReader::new(encrypted), true, true).await;
            }
            return;
        }
        let mut clear = BufReader::new(stream);
        if let Ok(Turn::Encrypt) = self.speak(&mut clear, false, true).await
            && let Ok(encrypted) = self.tls.accept(clear.into_inner()).await
        {
            let _ = self.speak(&mut BufReader::new(encrypted), true, false).await;
        }
    }

    /// The next trouble, if it is one of this step.
    fn trouble(&self, is_of_step: impl Fn(&Trouble) -> bool) -> Option<Trouble> {
        let mut state = self.state.lock().unwrap();
        let is_next = state.troubles.front().is_some_and(is_of_step);
        is_next.then(|| state.troubles.pop_front()).flatten()
    }

    async fn speak<S: Stream>(
        &self,
        stream: &mut BufReader<S>,
        encrypted: bool,
        greets: bool,
    ) -> std::io::Result<Turn> {
        if greets {
            if let Some(Trouble::Greeting(words)) = self.trouble(|trouble| matches!(trouble, Trouble::Greeting(_))) {
                say(stream, words).await?;
                return Ok(Turn::Over);
            }
            say(stream, "220 localhost ESMTP sim").await?;
        }
        let (mut authenticated, mut from, mut to, mut owes_reset) = (false, None, None, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(Turn::Over);
            }
            let line = line.trim_end_matches(['\r', '\n']).to_owned();
            if !encrypted {
                self.state.lock().unwrap().said_in_clear.push(line.clone());
            }
            let verb = line.split([' ', ':']).next().unwrap().to_uppercase();
            if std::mem::take(&mut owes_reset) {
                say(stream, "250 Ok").await?;
            }
            let needs_login = self.manner != Manner::Plain && !authenticated;
            match verb.as_str() {
                "EHLO" => {
                    let offers_tls = !encrypted && matches!(self.manner, Manner::StartTls | Manner::OtherName);
                    let mut answer = "250-localhost".to_owned();
                    answer += if offers_tls { "\r\n250-STARTTLS" } else { "\r\n250-AUTH PLAIN LOGIN" };
                    say(stream, &(answer + "\r\n250 ENHANCEDSTATUSCODES")).await?;
                }
                "STARTTLS" if !encrypted => {
                    say(stream, "220 go ahead").await?;
                    return Ok(Turn::Encrypt);
                }
                "AUTH" => match self.login(&line) {
                    Ok(()) => {
                        authenticated = true;
                        say(stream, "235 Authentication successful.").await?;
                    }
                    Err(words) => say(stream, &words).await?,
                },
                "MAIL" if needs_login => say(stream, "530 Authentication required").await?,
                "MAIL" => match self.trouble(|trouble| matches!(trouble, Trouble::Sender(_))) {
                    Some(Trouble::Sender(words)) => say(stream, words).await?,
                    _ => {
                        from = Some(address(&line));
                        say(stream, "250 Ok").await?;
                    }
                },
                "RCPT" if from.is_none() => say(stream, "503 first the sender").await?,
                "RCPT" => {
                    let whom = address(&line);
                    match self.trouble(|trouble| match trouble {
                        Trouble::Recipient(begins, _) => whom.starts_with(begins),
                        other => *other == Trouble::Silence,
                    }) {
                        Some(Trouble::Recipient(_, words)) => say(stream, words).await?,
                        Some(_) => std::future::pending().await,
                        None => {
                            to = Some(whom);
                            say(stream, "250 Ok").await?;
                        }
                    }
                }
                "DATA" => {
                    let (Some(from), Some(to)) = (from.take(), to.take()) else {
                        say(stream, "503 first sender and recipient").await?;
                        continue;
                    };
                    if let Some(Trouble::Data(words)) = self.trouble(|trouble| matches!(trouble, Trouble::Data(_))) {
                        say(stream, words).await?;
                        continue;
                    }
                    say(stream, "354 go ahead").await?;
                    let data = read_letter(stream).await?;
                    let received = Received { from, to, data, encrypted, authenticated };
                    if !self.take(stream, received).await? {
                        return Ok(Turn::Over);
                    }
                }
                "RSET" => {
                    (from, to) = (None, None);
                    owes_reset = self.trouble(|trouble| *trouble == Trouble::LateReset).is_some();
                    if !owes_reset {
                        say(stream, "250 Ok").await?;
                    }
                }
                "QUIT" => {
                    say(stream, "221 Bye").await?;
                    return Ok(Turn::Over);
                }
                _ => say(stream, "500 what?").await?,
            }
        }
    }

    /// Keeps a letter, or does what goes wrong then. `false`: the connection is gone.
    async fn take<S: Stream>(&self, stream: &mut BufReader<S>, received: Received) -> std::io::Result<bool> {
        let of_step =
            |trouble: &Trouble| matches!(trouble, Trouble::Letter(_) | Trouble::DropAfterLetter | Trouble::HoldAnswer);
        let trouble = self.trouble(of_step);
        if let Some(Trouble::Letter(words)) = trouble {
            say(stream, words).await?;
            return Ok(true);
        }
        self.state.lock().unwrap().letters.push(received);
        match trouble {
            Some(Trouble::DropAfterLetter) => return Ok(false),
            Some(Trouble::HoldAnswer) => self.answers.acquire().await.unwrap().forget(),
            _ => {}
        }
        say(stream, "250 Ok 0100-sim").await?;
        Ok(true)
    }

    fn login(&self, line: &str) -> Result<(), String> {
        if let Some(Trouble::Login(words)) = self.trouble(|trouble| matches!(trouble, Trouble::Login(_))) {
            return Err(words.to_owned());
        }
        let said = line.strip_prefix("AUTH PLAIN ").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        match said == format!("\0{USER}\0{PASSWORD}").into_bytes() {
            true => Ok(()),
            false => Err("535 Authentication Credentials Invalid".to_owned()),
        }
    }
}

async fn say<S: Stream>(stream: &mut BufReader<S>, words: &str) -> std::io::Result<()> {
    stream.get_mut().write_all(format!("{words}\r\n").as_bytes()).await?;
    stream.get_mut().flush().await
}

fn address(line: &str) -> String {
    let (_, rest) = line.split_once('<').unwrap();
    rest.split('>').next().unwrap().to_owned()
}

/// Up to the line with one point; points at the beginning of lines are doubled on the way.
async fn read_letter<S: Stream>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(data);
        }
        data += line.strip_prefix('.').unwrap_or(&line);
    }
}
