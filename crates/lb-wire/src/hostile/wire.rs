//! HTTP/2 by hand (RFC 9113), as far as attackers need it.

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a client says first, with empty SETTINGS.
pub(super) fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The headers of a gRPC call (RFC 7541: names from the static table, values as they are).
pub(super) fn headers(path: &str) -> Vec<u8> {
    // POST and http are whole entries of the table.
    let mut block = vec![0x83, 0x86];
    literal(&mut block, &[0x04], path);
    literal(&mut block, &[0x01], "hostile");
    literal(&mut block, &[0x0f, 0x10], "application/grpc");
    block.extend_from_slice(b"\x00\x02te\x08trailers");
    block
}

fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    // Shorter than 127, so that it is one byte.
    block.push(u8::try_from(value.len()).unwrap_or(0));
    block.extend_from_slice(value.as_bytes());
}

/// Begins a call.
pub(super) fn call(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &headers(path))
}

/// A message of a call, in the frame of gRPC.
pub(super) fn message(stream: u32, flags: u8, encoded: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, &prefixed(encoded.len(), encoded))
}

/// The beginning of a message that says it has `length` bytes.
pub(super) fn prefixed(length: usize, bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(bytes);
    framed
}

/// What has to be answered to the whole frames in `heard`, which are taken out.
pub(super) fn answers(heard: &mut Vec<u8>) -> Vec<u8> {
    let (mut said, mut at) = (Vec::new(), 0);
    while let Some([high, middle, low, kind, flags, ..]) = heard.get(at..at + HEADER) {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some(payload) = heard.get(at + HEADER..at + HEADER + length) else { break };
        match *kind {
            SETTINGS if flags & ACK == 0 => said.extend(frame(SETTINGS, ACK, 0, &[])),
            PING if flags & ACK == 0 => said.extend(frame(PING, ACK, 0, payload)),
            _ => {}
        }
        at += HEADER + length;
    }
    heard.drain(..at);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_pings_are_answered_however_they_come() {
        let frames =
            [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[7; 8]), frame(PING, ACK, 0, &[8; 8])];
        let stream = frames.concat();
        let expected = [frame(SETTINGS, ACK, 0, &[]), frame(PING, ACK, 0, &[7; 8])].concat();
        for size in [1, 9, 10, 100] {
            let (mut heard, mut said) = (Vec::new(), Vec::new());
            for part in stream.chunks(size) {
                heard.extend_from_slice(part);
                said.extend(answers(&mut heard));
            }
            assert_eq!(said, expected);
            assert!(heard.is_empty());
        }
    }
}
