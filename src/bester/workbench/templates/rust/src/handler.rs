use crate::bester::{Answer, Command, Refusal, Request};

/// Returns what is to be done with one message; many threads call it at once.
///
/// `request.data` is JSON as it came, which `json::members` looks into, and `request.from` is who sent it. The sender is
/// told what a `Refusal` says: `Err(Refusal { code: "mytype.soldOut".into(), ..Refusal::default() })`. After a panic it is
/// told that there was an error.
pub fn answer(request: &Request) -> Result<Answer, Refusal> {
    Ok(Answer {
        commands: vec![Command::Reply],
        data: request.data.to_string(),
    })
}
