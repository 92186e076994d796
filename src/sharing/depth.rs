//! How deeply the flow collections of a YAML document are nested, before a parser to which deep ones are dear sees it.
//!
//! Brackets within quoted and block scalars, plain words and comments are text and do not count: a script in a
//! ConfigMap has as many as it likes. What is misread here costs time, or a document that has to be written in
//! another way; it changes nothing of what is read.

/// More brackets than this are no manifest, and cost the parser the square of their number.
const DEEPEST: usize = 512;

/// The line of a document, from 0, on which its flow collections are nested too deeply.
pub(super) fn too_deep(document: &str) -> Option<usize> {
    let mut at = Scan::default();
    document.split('\n').position(|line| {
        at.line(line.trim_end_matches('\r').as_bytes());
        at.depth > DEEPEST
    })
}

/// Where a line begins.
#[derive(Default)]
struct Scan {
    /// Open brackets.
    depth: usize,
    /// The quote of a scalar that is open.
    quote: Option<u8>,
    /// A block scalar goes on on lines that are indented more than this.
    block: Option<usize>,
    /// A node may begin here: in between brackets it may on the next line, too.
    begins: bool,
    /// A quote was closed last: a colon needs no space behind it.
    closed: bool,
}

impl Scan {
    fn line(&mut self, line: &[u8]) {
        let indent = line.iter().take_while(|byte| **byte == b' ').count();
        let empty = indent == line.len();
        if self.block.is_some_and(|parent| empty || indent > parent) {
            return;
        }
        self.block = None;
        self.begins |= self.depth == 0;
        // The columns of what a block scalar belongs to, and of the node that may be its key.
        let (mut parent, mut node) = (indent, indent);
        let marker =
            line.strip_prefix(b"---").is_some_and(|rest| rest.first().is_none_or(|byte| b" \t".contains(byte)));
        let (mut spaced, mut skip) = (true, if marker { 3 } else { 0 });
        for (column, byte) in line.iter().copied().enumerate() {
            let next = line.get(column + 1).copied();
            let alone = next.is_none_or(|byte| byte == b' ' || byte == b'\t');
            if skip > 0 {
                skip -= 1;
            } else if let Some(quote) = self.quote {
                match byte {
                    b'\\' if quote == b'"' => skip = 1,
                    b'\'' if quote == byte && next == Some(byte) => skip = 1,
                    _ if byte == quote => (self.quote, self.closed, self.begins) = (None, true, false),
                    _ => {}
                }
            } else if byte == b' ' || byte == b'\t' {
                spaced = true;
            } else if byte == b'#' && spaced {
                return;
            } else {
                let (begins, flow) = (std::mem::take(&mut self.begins), self.depth > 0);
                let closed = std::mem::take(&mut self.closed);
                spaced = false;
                match byte {
                    b'[' | b'{' if begins || flow => {
                        self.depth += 1;
                        self.begins = true;
                    }
                    b']' | b'}' => {
                        self.depth = self.depth.saturating_sub(1);
                        self.closed = true;
                    }
                    b',' if flow => self.begins = true,
                    b':' if alone || (flow && closed) => {
                        self.begins = true;
                        parent = node;
                    }
                    b'-' | b'?' if begins && alone => {
                        self.begins = true;
                        parent = column;
                    }
                    b'"' | b'\'' if begins => {
                        self.quote = Some(byte);
                        node = column;
                    }
                    b'|' | b'>' if begins && !flow => {
                        self.block = Some(parent);
                        return;
                    }
                    // A tag or an anchor stands before its node.
                    b'!' | b'&' if begins => {
                        self.begins = true;
                        let rest = line.get(column + 1..).unwrap_or_default();
                        skip = rest.iter().take_while(|byte| !b" \t,[]{}".contains(*byte)).count();
                    }
                    _ if begins => node = column,
                    _ => {}
                }
            }
        }
    }
}
