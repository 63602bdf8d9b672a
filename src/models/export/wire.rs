//! Protocol buffers, as far as ONNX needs them: a message is a row of fields, each a number of the field and a value.
//! <https://protobuf.dev/programming-guides/encoding/>

/// A message under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// How the bytes of a field end.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    /// Seven bits a byte, the lowest first; the eighth says that more come.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    /// With a whole number; a negative one takes ten bytes.
    pub fn int(mut self, field: u64, value: i64) -> Message {
        self.key(field, VARINT);
        self.varint(value as u64);
        self
    }

    /// With a number.
    pub fn float(mut self, field: u64, value: f32) -> Message {
        self.key(field, FIXED_32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// With bytes.
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Message {
        self.key(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// With a text.
    pub fn text(self, field: u64, value: &str) -> Message {
        self.bytes(field, value.as_bytes())
    }

    /// With a message inside.
    pub fn message(self, field: u64, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    /// The field once for each value.
    pub fn repeated<T>(self, field: u64, values: &[T], with: impl Fn(Message, u64, &T) -> Message) -> Message {
        values.iter().fold(self, |message, value| with(message, field, value))
    }

    /// As it lies in a file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    /// The examples of the encoding's description.
    #[test]
    fn the_bytes_of_the_description() {
        assert_eq!(Message::new().int(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().text(2, "testing").into_bytes(), b"\x12\x07testing");
        assert_eq!(Message::new().message(3, &Message::new().int(1, 150)).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(
            Message::new().int(1, -2).into_bytes(),
            [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
        );
        assert_eq!(Message::new().float(5, 1.0).into_bytes(), [0x2d, 0, 0, 0x80, 0x3f]);
    }
}
