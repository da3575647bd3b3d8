//! As much of JSON as a handler needs: strict, and each value stays as its text stands. To pass a text on is quicker than to
//! write the value anew, and loses nothing.

use std::collections::HashMap;
use std::fmt::Write;

const MAX_DEPTH: usize = 200; // levels of nesting; a server sends no more than 136

/// Returns the members of an object, each as its text stands there, and of a repeated key the last; nothing where the text is
/// not an object of strict JSON.
pub fn members(text: &str) -> Option<HashMap<String, &str>> {
    let mut found = HashMap::new();
    let mut reader = Reader { text, at: 0 };
    reader.object(1, &mut |key, value| {
        if let Some(key) = string(key) {
            found.insert(key, value);
        }
    })?;
    reader.space();
    (reader.at == text.len()).then_some(found)
}

/// Returns the value of a string; nothing where the text is another one. A lone surrogate becomes U+FFFD.
pub fn string(text: &str) -> Option<String> {
    if (Reader { text, at: 0 }).string()? != text {
        return None;
    }
    let mut units = Vec::new();
    let mut chars = text[1..text.len() - 1].chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match chars.next()? {
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'u' => {
                let (digits, rest) = chars.as_str().split_at(4);
                chars = rest.chars();
                u16::from_str_radix(digits, 16).ok()?
            }
            itself => itself as u16,
        });
    }
    Some(String::from_utf16_lossy(&units))
}

/// Returns a text as a string of JSON.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\0'..='\x1f' => write!(quoted, "\\u{:04x}", char as u32).unwrap(),
            _ => quoted.push(char),
        }
    }
    quoted + "\""
}

/// Passes over values, of which each is preceded by white space or none. Every method returns nothing where the text is not
/// what it reads.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes this byte, if it is the next one.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<&'a str> {
        self.space();
        let start = self.at;
        match self.peek()? {
            b'{' => self.object(depth + 1, &mut |_, _| ())?,
            b'[' => self.array(depth + 1)?,
            b'"' => self.string().map(drop)?,
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        }
        Some(&self.text[start..self.at])
    }

    /// Tells `each` the texts of each key and its value.
    fn object(&mut self, depth: usize, each: &mut dyn FnMut(&'a str, &'a str)) -> Option<()> {
        self.take(b'{')?;
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.take(b':')?;
            each(key, self.value(depth)?);
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[')?;
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(depth)?;
            if self.take(b',').is_none() {
                return self.take(b']');
            }
        }
    }

    /// Returns the string's text, its quotes included.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at - 1;
        loop {
            match self.next()? {
                b'"' => return Some(&self.text[start..self.at]),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.next().filter(u8::is_ascii_hexdigit)?;
                        }
                    }
                    _ => return None,
                },
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text[self.at..]
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Takes one digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().map_or(false, |byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}
