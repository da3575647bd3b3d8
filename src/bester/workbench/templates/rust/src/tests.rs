use std::sync::Barrier;

use crate::bester::{serve, Answer, Command, Refusal, Request};
use crate::handler::answer;
use crate::json::{members, quote, string};

/// Returns what is written for the input, its lines sorted: threads finish in any order.
fn served<F>(input: &str, answer: F) -> Vec<String>
where
    F: Fn(&Request) -> Result<Answer, Refusal> + Sync,
{
    let mut output = Vec::new();
    serve(input.as_bytes(), &mut output, 4, answer).unwrap();
    let mut lines: Vec<String> = String::from_utf8(output)
        .unwrap()
        .lines()
        .map(String::from)
        .collect();
    lines.sort();
    lines
}

fn request(id: &str, data: &str) -> String {
    format!(
        r#"{{"header":{{"messageType":"request","id":"{id}","scope":"client","from":{{"user":"t","server":null,"verified":true}}}},"payload":{{"type":"mytype","id":"a","data":{data}}}}}"#
    ) + "\n"
}

#[test]
fn it_answers_with_the_data() {
    assert_eq!(
        served(
            &(request("1", "[ 1.50 ]") + &request("2", r#"{"data":"\ud800"}"#)),
            answer
        ),
        [
            r#"{"header":{"id":"1","status":"0","commands":[{"type":"reply"}]},"payload":{"data":[ 1.50 ]}}"#,
            r#"{"header":{"id":"2","status":"0","commands":[{"type":"reply"}]},"payload":{"data":{"data":"\ud800"}}}"#,
        ]
    );
}

#[test]
fn what_is_no_request_is_passed_over() {
    let others = "\n{}\nnull\n{\"header\":\n{\"header\":{\"messageType\":\"statusReport\"},\"payload\":{}}\n";
    assert_eq!(served(others, answer).len(), 0);
    assert_eq!(
        served(&(others.to_string() + &request("1", "1")), answer).len(),
        1
    );
    assert_eq!(served("", answer).len(), 0);
}

#[test]
fn many_are_answered_at_once() {
    let all_here = Barrier::new(4);
    let lines: String = (0..4)
        .map(|number| request(&number.to_string(), "null"))
        .collect();
    let waiting = |request: &Request| {
        all_here.wait();
        answer(request)
    };
    assert_eq!(served(&lines, waiting).len(), 4);
}

#[test]
fn commands_say_where_the_data_goes() {
    let told = served(&request("1", "1"), |request| {
        let sender = request.from.user.clone().unwrap();
        assert!(
            request.from.verified && request.from.server.is_none() && request.scope == "client"
        );
        assert!(request.kind == "mytype" && request.id == "a");
        let commands = vec![
            Command::SendClients(vec![sender, "g\"".into()]),
            Command::SendHandler("other".into()),
        ];
        Ok(Answer {
            commands,
            data: "2".into(),
        })
    });
    let commands =
        r#"[{"type":"sendClients","data":["t","g\""]},{"type":"sendHandler","data":"other"}]"#;
    assert!(told[0].contains(commands), "{}", told[0]);
}

#[test]
fn a_refusal_says_why() {
    let refusing = |_: &Request| {
        Err(Refusal {
            code: "mytype.no".into(),
            ..Refusal::default()
        })
    };
    assert_eq!(
        served(&request("1", "1"), refusing),
        [r#"{"header":{"id":"1","status":"1","error":{"temporary":false,"code":"mytype.no"}}}"#]
    );
    let told = served(&(request("1", "1") + &request("2", "1")), |_| {
        panic!("as the test wants it")
    });
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|line| line.contains(r#""status":"1""#)));
}

#[test]
fn members_are_found_as_they_stand() {
    let found =
        members(r#" {"x": {"data": 1}, "d\u0061ta": [1, "}\"\\"] , "n":-0.10e+2, "a":1,"a": 2} "#)
            .unwrap();
    assert_eq!(
        (found["data"], found["n"], found["a"]),
        (r#"[1, "}\"\\"]"#, "-0.10e+2", "2")
    );
}

#[test]
fn only_strict_json_is_read() {
    for text in [
        "",
        "1",
        "{",
        "{}x",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":[1,]}"#,
        r#"{a:1}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":NaN}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12"}"#,
        "{\"a\":\"\n\"}",
        r#"{"a":tru}"#,
        r#"{"a":1 2}"#,
        "{\"a\":é}",
    ] {
        assert!(members(text).is_none(), "{text}");
    }
    let nested = |levels| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(members(&nested(136)).is_some());
    assert!(members(&nested(100_000)).is_none());
}

#[test]
fn strings_are_read_and_written() {
    assert_eq!(
        string(r#""m\u00f4\ud83d\ude00\n\/é😀""#).unwrap(),
        "mô😀\n/é😀"
    );
    assert_eq!(string(r#""\ud83d""#).unwrap(), "\u{fffd}");
    assert!(string("null").is_none());
    assert_eq!(string(&quote("a\"\\\u{1}é")).unwrap(), "a\"\\\u{1}é");
}
