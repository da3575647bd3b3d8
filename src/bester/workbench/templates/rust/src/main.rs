//! A handler of the type mytype: it answers every message with the message's own data.

mod bester;
mod handler;
mod json;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader};

/// As many messages are under way at once; the `concurrency` in server.conf should be the same.
const THREADS: usize = 16;

fn main() -> io::Result<()> {
    bester::serve(
        BufReader::new(io::stdin()),
        io::stdout(),
        THREADS,
        handler::answer,
    )
}
