//! Serves the requests that a Bester server writes to the standard input, and writes the answers to the standard output:
//! lines of JSON (docs/protocol.md, section 6.11). What goes to standard error is in the server's log.

#![allow(dead_code)] // few handlers need all that is here

use std::io::{self, BufRead, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Mutex;
use std::{str, thread};

use crate::json::{members, quote, string};

/// Who sent a message, as the server knows it.
pub struct Sender {
    pub user: Option<String>,
    pub server: Option<String>,
    pub verified: bool,
}

/// One message.
pub struct Request<'a> {
    /// The type.
    pub kind: String,
    /// The sender's own tag.
    pub id: String,
    /// JSON as it came, byte for byte.
    pub data: &'a str,
    pub from: Sender,
    /// `client`, `server` or `handler`.
    pub scope: String,
}

/// One thing that is to be done with the answer's data (section 3.3).
pub enum Command {
    Reply,
    /// To accounts of this server.
    SendClients(Vec<String>),
    SendServers(Vec<String>),
    /// To the handler of another type.
    SendHandler(String),
}

/// What is to be done with a message; without commands, nothing.
pub struct Answer {
    pub commands: Vec<Command>,
    /// What the commands carry; JSON without line ends, as all that comes from a server is.
    pub data: String,
}

/// Why a message was not taken, as its sender is told.
#[derive(Default)]
pub struct Refusal {
    /// For programs, as in `mytype.soldOut`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same message can succeed later.
    pub temporary: bool,
}

/// Answers each line of the input, to its end; so many threads do it at once.
pub fn serve<R, W, F>(input: R, output: W, threads: usize, answer: F) -> io::Result<()>
where
    R: BufRead + Send,
    W: Write + Send,
    F: Fn(&Request) -> Result<Answer, Refusal> + Sync,
{
    let (input, output) = (Mutex::new(input), Mutex::new(output));
    let work = || -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear(); // no line is longer than what the server accepted
            if input.lock().unwrap().read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if let Some(told) = str::from_utf8(&line)
                .ok()
                .and_then(|line| respond(line, &answer))
            {
                let mut output = output.lock().unwrap();
                output.write_all(told.as_bytes())?;
                output.flush()?;
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap())
    })
}

/// Returns the answer to a line, itself a line; nothing where the line is no request.
fn respond<F>(line: &str, answer: F) -> Option<String>
where
    F: Fn(&Request) -> Result<Answer, Refusal>,
{
    let message = members(line)?;
    let header = members(message.get("header")?)?;
    if string(header.get("messageType")?)? != "request" {
        return None;
    }
    let payload = members(message.get("payload")?)?;
    let from = header
        .get("from")
        .and_then(|from| members(from))
        .unwrap_or_default();
    let text = |value: Option<&&str>| value.and_then(|value| string(value));
    let request = Request {
        kind: text(payload.get("type"))?,
        id: text(payload.get("id")).unwrap_or_default(),
        data: payload.get("data").copied().unwrap_or("null"),
        from: Sender {
            user: text(from.get("user")),
            server: text(from.get("server")),
            verified: from.get("verified") == Some(&"true"),
        },
        scope: text(header.get("scope")).unwrap_or_default(),
    };
    let id = header.get("id")?;
    // A panic has told the log already.
    let answer = catch_unwind(AssertUnwindSafe(|| answer(&request)));
    Some(match answer.unwrap_or_else(|_| Err(Refusal::default())) {
        Ok(Answer { commands, data }) => {
            let commands: Vec<String> = commands.iter().map(Command::json).collect();
            let commands = commands.join(",");
            format!("{{\"header\":{{\"id\":{id},\"status\":\"0\",\"commands\":[{commands}]}},\"payload\":{{\"data\":{data}}}}}\n")
        }
        Err(refusal) => format!(
            "{{\"header\":{{\"id\":{id},\"status\":\"1\",\"error\":{}}}}}\n",
            refusal.json()
        ),
    })
}

impl Command {
    fn json(&self) -> String {
        let (kind, data) = match self {
            Command::Reply => return r#"{"type":"reply"}"#.to_string(),
            Command::SendClients(names) => ("sendClients", list(names)),
            Command::SendServers(names) => ("sendServers", list(names)),
            Command::SendHandler(kind) => ("sendHandler", quote(kind)),
        };
        format!(r#"{{"type":"{kind}","data":{data}}}"#)
    }
}

impl Refusal {
    fn json(&self) -> String {
        let mut told = vec![format!(r#""temporary":{}"#, self.temporary)];
        for (name, text) in [("code", &self.code), ("message", &self.message)] {
            if !text.is_empty() {
                told.push(format!(r#""{name}":{}"#, quote(text)));
            }
        }
        format!("{{{}}}", told.join(","))
    }
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    format!("[{}]", names.join(","))
}
