//! A queue of bytes of fixed size: serial input and output.

/// First in, first out, `N` bytes.
#[derive(Clone, Debug)]
pub struct ByteRing<const N: usize> {
    bytes: [u8; N],
    first: usize,
    len: usize,
}

impl<const N: usize> Default for ByteRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> ByteRing<N> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            first: 0,
            len: 0,
        }
    }

    /// Adds a byte; `false` if the queue is full.
    #[must_use]
    pub fn push(&mut self, byte: u8) -> bool {
        if self.len >= N {
            return false;
        }
        if let Some(place) = self.bytes.get_mut((self.first + self.len) % N) {
            *place = byte;
            self.len += 1;
        }
        true
    }

    /// Takes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        if self.len == 0 {
            return None;
        }
        let byte = self.bytes.get(self.first).copied();
        self.first = (self.first + 1) % N;
        self.len -= 1;
        byte
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_out_in_order_and_none_are_lost_silently(steps in proptest::collection::vec(any::<Option<u8>>(), 0..100)) {
            let (mut ring, mut model) = (ByteRing::<7>::new(), std::collections::VecDeque::new());
            for step in steps {
                match step {
                    Some(byte) => {
                        prop_assert_eq!(ring.push(byte), model.len() < 7);
                        if model.len() < 7 {
                            model.push_back(byte);
                        }
                    }
                    None => prop_assert_eq!(ring.pop(), model.pop_front()),
                }
                prop_assert_eq!(ring.len(), model.len());
            }
        }
    }
}
