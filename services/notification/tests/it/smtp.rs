//! A mail server that counts what it takes and misbehaves when told to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Takes,
    /// Refuses the recipient for good.
    Refuses,
    /// Refuses for now.
    IsBusy,
    /// Ends each connection without a word.
    IsAway,
    /// Accepts connections and says nothing.
    IsSilent,
    /// Wants credentials that we do not have.
    WantsCredentials,
    /// Reads the message and says nothing.
    Hangs,
    /// Takes the message and closes the connection before it says so.
    Cuts,
}

#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub message_id: String,
    pub text: String,
}

pub struct Smtp {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    taken: Vec<Mail>,
    /// Messages that were begun, whatever became of them.
    tried: usize,
}

impl Smtp {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Takes,
            taken: vec![],
            tried: 0,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away in the middle is no failure of the server's.
                tokio::spawn(talk(stream, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    pub fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    pub fn taken(&self) -> Vec<Mail> {
        self.state.lock().unwrap().taken.clone()
    }

    pub fn tried(&self) -> usize {
        self.state.lock().unwrap().tried
    }
}

async fn talk(stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut to = String::new();
    let mood = || state.lock().unwrap().mood;
    if mood() == Mood::IsAway {
        state.lock().unwrap().tried += 1;
        return Ok(());
    }
    if mood() == Mood::IsSilent {
        state.lock().unwrap().tried += 1;
        std::future::pending::<()>().await;
    }
    stream.write_all(b"220 test\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match line.split([' ', '\r', ':']).next().unwrap_or_default() {
            "RCPT" => {
                state.lock().unwrap().tried += 1;
                to = line.trim_end().rsplit(':').next().unwrap_or_default().to_owned();
                match mood() {
                    Mood::Refuses => "550 there is no <secret@example.com>",
                    Mood::IsBusy => "451 later",
                    Mood::WantsCredentials => "530 who are you",
                    _ => "250 ok",
                }
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut text).await? == 0 {
                        return Ok(());
                    }
                }
                if mood() == Mood::Hangs {
                    std::future::pending::<()>().await;
                }
                let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: "));
                let mail = Mail {
                    to: to.clone(),
                    message_id: id.unwrap_or_default().to_owned(),
                    text,
                };
                state.lock().unwrap().taken.push(mail);
                if mood() == Mood::Cuts {
                    return Ok(());
                }
                "250 taken"
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n").await,
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}
